/*
 * What stands of a named session in the state directory, so that any later
 * process of the same user can adopt it:
 *
 *     owner                     who this directory is, 16 hex digits
 *     supervisors/ID            a process that lives: reaper.h
 *     journal.db                what all sessions did: journal.h
 *     sessions/NAME/lock        held while a process has the session
 *     sessions/NAME/record.json the record, 0600: it holds the key
 *     sessions/NAME/record.new  the one before, or what is being written
 *     sessions/NAME/control     socket of the process that has it
 *     pools/KEY                 who fills a pool: refill.h
 *
 * All directories are 0700. A record is written whole or not at all. A session
 * is whose directory it stands in: one that is taken from a pool changes its
 * name by the renaming of that (cellar_record_move), and by nothing else.
 */
#ifndef CELLAR_KERNEL_RECORD_H
#define CELLAR_KERNEL_RECORD_H

#include <stdint.h>
#include <sys/types.h>

#include "cellar/cellar.h"
#include "engine/engine.h"
#include "proto/limits.h"

#define CELLAR_OWNER_BYTES 17 /* 16 hex digits and the NUL */

struct cellar_record {
    char name[CELLAR_NAME_BYTES_MAX + 1];
    char engine[16];
    char container[CELLAR_CONTAINER_ID_MAX + 1];
    char image[256];
    char python[32];
    char lost[256]; /* why its container is gone; "" while it lives */
    char preload[CELLAR_PRELOAD_MAX + 1];
    uint8_t key[CELLAR_KEY_BYTES];
    uint64_t uid;
    uint64_t created;   /* seconds since 1970 */
    uint64_t cells;     /* the last cell's number */
    uint64_t delivered; /* the last delivery taken */
    uint64_t memory_bytes, files, file_bytes, pids;
    uint64_t output_bytes, queue_cells, timeout_ms, grace_ms, lease_ms;
    uint64_t lifetime_ms;
    uint64_t checkpoint; /* enum cellar_checkpoint_policy */
    uint64_t lane;       /* of the agent's: 0, or a branch beside others in its
                            container */
    uint64_t forked;     /* 1: branches were made of it */
};

/* What the journal knows a session by: its container's id, and the lane of a
 * branch. */
#define CELLAR_PLACE_MAX (CELLAR_CONTAINER_ID_MAX + 24)
void cellar_record_place(const struct cellar_record *record,
                         char place[CELLAR_PLACE_MAX]);

/* Whether another session than `name` is recorded in `container`: a branch, or
 * what it was forked from. It is said to be where the records can't be read. */
bool cellar_record_shares(const char *state_dir, const char *name,
                          const char *container);

/* Whether there can be one: it costs a look at every record to know. */
bool cellar_record_may_share(const struct cellar_record *record);

/* A session's directory, open and locked. */
struct cellar_hold {
    int dir_fd;
    int lock_fd;
};

/* Makes the directory and its owner id where missing. E_SYS, E_DENIED. */
enum cellar_code cellar_state_open(const char *path,
                                   char owner[CELLAR_OWNER_BYTES],
                                   struct cellar_error *err);

/* Opens the directory of `name`; -1 and errno where there is none. */
int cellar_record_dir(const char *state_dir, const char *name);

/* Takes the lock of `name`, making its directory. E_BUSY says which process
 * has it and since when. Released by cellar_hold_done(), or by death. */
enum cellar_code cellar_hold_take(const char *state_dir, const char *name,
                                  struct cellar_hold *hold,
                                  struct cellar_error *err);
/* Also for a hold that was never taken ({-1, -1}). */
void cellar_hold_done(struct cellar_hold *hold);
#define CELLAR_HOLD_NONE ((struct cellar_hold){-1, -1})

/* As _done, and leaves no directory behind where no record was written. */
void cellar_hold_tidy(const char *state_dir, const char *name,
                      struct cellar_hold *hold);

/* The pid of the process that has `name`, or 0. */
pid_t cellar_hold_who(const char *state_dir, const char *name);

/* Gives the session of `hold`, which is called `from`, the name `to`: at once,
 * or not at all. The hold goes on. E_EXISTS: there is such a session; E_BUSY:
 * somebody is making one. */
enum cellar_code cellar_record_move(const char *state_dir, const char *from,
                                    const char *to, struct cellar_error *err);

/* The same in one step, where nothing at all has that name; false: nothing was
 * done. */
bool cellar_record_move_free(const char *state_dir, const char *from,
                             const char *to);

/* E_NOT_FOUND where there is none; E_SYS where it can't be read or is damaged
 * (the file is left as it is). */
enum cellar_code cellar_record_load(const char *state_dir, const char *name,
                                    struct cellar_record *record,
                                    struct cellar_error *err);
enum cellar_code cellar_record_save(const struct cellar_hold *hold,
                                    const struct cellar_record *record,
                                    struct cellar_error *err);

/* As _save, but waits for no disk where two were saved before: a process that
 * dies leaves the new one, a power cut the new or an old one. */
enum cellar_code cellar_record_amend(const struct cellar_hold *hold,
                                     const struct cellar_record *record,
                                     struct cellar_error *err);

/* Removes record, socket, lock and directory of a session held. */
void cellar_record_remove(const char *state_dir, const char *name,
                          const struct cellar_hold *hold);

/* Calls `each` for every session that has a directory, by name; reserved names
 * (spec.h) come first. A record that is damaged comes with its name and an
 * empty container. A session that is being moved meanwhile may be missed. */
enum cellar_code cellar_record_each(const char *state_dir,
                                    void (*each)(void *user,
                                                 const struct cellar_record *),
                                    void *user, struct cellar_error *err);

#endif
