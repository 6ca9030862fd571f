#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launcher.h"

/* Landlock as the kernel defines it (linux/landlock.h), by our own names: the
 * headers of the oldest system this is built on stop at ABI 1. */
#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH      1

#define FS_WRITE_FILE  (1ull << 1)
#define FS_REMOVE_DIR  (1ull << 4)
#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_CHAR   (1ull << 6)
#define FS_MAKE_DIR    (1ull << 7)
#define FS_MAKE_REG    (1ull << 8)
#define FS_MAKE_SOCK   (1ull << 9)
#define FS_MAKE_FIFO   (1ull << 10)
#define FS_MAKE_BLOCK  (1ull << 11)
#define FS_MAKE_SYM    (1ull << 12)
#define FS_REFER       (1ull << 13)
#define FS_TRUNCATE    (1ull << 14)
#define FS_IOCTL_DEV   (1ull << 15)

#define SCOPE_ABSTRACT_UNIX_SOCKET (1ull << 0)
#define SCOPE_SIGNAL               (1ull << 1)

struct ruleset {
    uint64_t fs;
    uint64_t net;
    uint64_t scopes;
};

struct path_beneath {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

/* What each ABI brought; the size says how much of the struct it knows. Reading
 * and executing are not handled, so they stay as the file's modes say. */
static const struct {
    int abi;
    size_t size;
    uint64_t fs;
    uint64_t scopes;
} features[] = {
    {1, offsetof(struct ruleset, net),
     FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_CHAR |
         FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | FS_MAKE_FIFO |
         FS_MAKE_BLOCK | FS_MAKE_SYM,
     0},
    {2, offsetof(struct ruleset, net), FS_REFER, 0},
    {3, offsetof(struct ruleset, net), FS_TRUNCATE, 0},
    {4, offsetof(struct ruleset, scopes), 0, 0},
    {5, offsetof(struct ruleset, scopes), FS_IOCTL_DEV, 0},
    {6, sizeof(struct ruleset), 0, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL},
};

/* Directories below which everything may be made and changed, but devices. */
static const char *const trees[] = {"/tmp", "/dev/shm"};

/* Devices that keep nothing. /dev/pts and its ptmx are for programs that give
 * a child a terminal of its own. */
static const char *const devices[] = {
    "/dev/null",    "/dev/zero", "/dev/full", "/dev/random",
    "/dev/urandom", "/dev/tty",  "/dev/ptmx", "/dev/pts",
};

#define FS_DEVICE (FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

/* A path that isn't there needs no rule. A rule on a file takes only rights
 * that a file can have. */
static void allow(int ruleset, const char *path, uint64_t rights)
{
    struct path_beneath rule = {.allowed = rights};
    struct stat st;
    rule.parent = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent < 0 && (errno == ENOENT || errno == ENOTDIR))
        return;
    if (rule.parent < 0 || fstat(rule.parent, &st) != 0)
        cellar_launcher_die(CELLAR_BOOT_SANDBOX, "Landlock: opening %s: %m",
                            path);
    if (!S_ISDIR(st.st_mode))
        rule.allowed &= FS_DEVICE;
    if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0))
        cellar_launcher_die(CELLAR_BOOT_SANDBOX, "Landlock: a rule for %s: %m",
                            path);
    close(rule.parent);
}

static int make_ruleset(int abi, uint64_t *fs)
{
    struct ruleset ruleset = {0};
    size_t size = 0;
    for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
        if (features[i].abi > abi)
            break;
        ruleset.fs |= features[i].fs;
        ruleset.scopes |= features[i].scopes;
        size = features[i].size;
    }
    int fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
    if (fd < 0)
        cellar_launcher_die(CELLAR_BOOT_SANDBOX, "Landlock: a ruleset: %m");
    *fs = ruleset.fs;
    return fd;
}

/* What a mount is allowed to get. */
struct grant {
    int ruleset;
    uint64_t rights;
};

static void allow_mount(void *user, const char *place)
{
    const struct grant *grant = user;
    allow(grant->ruleset, place, grant->rights);
}

int cellar_landlock_apply(void)
{
    uint64_t fs = 0;
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
                           CREATE_RULESET_VERSION);
    if (abi <= 0)
        return 0;
    int ruleset = make_ruleset(abi, &fs);
    struct grant tree = {ruleset,
                         fs & ~(FS_MAKE_CHAR | FS_MAKE_BLOCK | FS_IOCTL_DEV)};
    for (size_t i = 0; i < sizeof(trees) / sizeof(trees[0]); i++)
        allow(ruleset, trees[i], tree.rights);
    cellar_mounts_each(allow_mount, &tree);
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
        allow(ruleset, devices[i], fs & FS_DEVICE);
    if (syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        cellar_launcher_die(CELLAR_BOOT_SANDBOX, "Landlock: %m");
    close(ruleset);
    return abi;
}
