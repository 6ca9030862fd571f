/* The public calls of cellar/history.h: the journal, read for embedders. */
#include "cellar/history.h"

#include "fail.h"
#include "journal.h"
#include "supervisor.h"

enum cellar_code cellar_history_sessions(struct cellar *c, cellar_past_fn *each,
                                         void *user, struct cellar_error *err)
{
    struct cellar_journal *journal = cellar_supervisor_journal(c, err);
    return journal ? cellar_journal_sessions(journal, each, user, err)
                   : CELLAR_E_SYS;
}

enum cellar_code cellar_history_id(struct cellar *c, uint64_t id,
                                   uint64_t first, cellar_entry_fn *each,
                                   void *user, struct cellar_error *err)
{
    struct cellar_journal *journal = cellar_supervisor_journal(c, err);
    return journal ? cellar_journal_cells(journal, id, first, each, user, err)
                   : CELLAR_E_SYS;
}

enum cellar_code cellar_history(struct cellar *c, const char *name,
                                uint64_t first, cellar_entry_fn *each,
                                void *user, struct cellar_error *err)
{
    uint64_t id = 0;
    struct cellar_journal *journal = cellar_supervisor_journal(c, err);
    if (!journal)
        return CELLAR_E_SYS;
    enum cellar_code code = cellar_journal_find(journal, name, &id, err);
    return code == CELLAR_OK
               ? cellar_journal_cells(journal, id, first, each, user, err)
               : code;
}

enum cellar_code cellar_history_prune(struct cellar *c, uint64_t max_age_ms,
                                      uint64_t max_bytes,
                                      struct cellar_pruned *pruned,
                                      struct cellar_error *err)
{
    struct cellar_journal *journal = cellar_supervisor_journal(c, err);
    return journal ? cellar_journal_prune(journal, max_age_ms, max_bytes,
                                          pruned, err)
                   : CELLAR_E_SYS;
}
