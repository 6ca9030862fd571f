#include "runtime-image/worker/apart.h"

#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Landlock as the kernel defines it (linux/landlock.h), by our own names; see
 * runtime-image/launcher/landlock.c. */
#define FS_MAKE_BLOCK              (1ull << 11)
#define SCOPE_ABSTRACT_UNIX_SOCKET (1ull << 0)
#define SCOPE_SIGNAL               (1ull << 1)

struct ruleset {
    uint64_t fs;
    uint64_t net;
    uint64_t scopes;
};

static bool is_branch;

/* Newer kernels know more of the struct. */
static int make_ruleset(void)
{
    struct ruleset ruleset = {.fs = FS_MAKE_BLOCK,
                              .scopes =
                                  SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL};
    int fd =
        (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof(ruleset), 0);
    if (fd < 0)
        fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset,
                          sizeof(ruleset.fs), 0);
    return fd;
}

/* A layer of its own is all it takes: what it forbids, the launcher's forbids
 * already. The kernel stops at 16 of them: then _close() is what there is. */
void cellar_apart_begin(void)
{
    int ruleset = make_ruleset();
    is_branch = true;
    if (ruleset < 0)
        return;
    (void)syscall(SYS_landlock_restrict_self, ruleset, 0);
    close(ruleset);
}

void cellar_apart_close(void)
{
    if (is_branch)
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
