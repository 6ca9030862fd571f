#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "launcher.h"
#include "policy.h"

struct rule {
    const char *name;
    int syscall;
    int error;
    unsigned count; /* of conditions; 0: always */
    struct scmp_arg_cmp conditions[2];
};

/* The conditions of policy.h. An int argument is the low half of a register,
 * and the kernel ignores the other: so does the comparison, or 1 could be
 * written as 0x100000001 and pass. Where a comparison takes in the whole
 * register (OVER, NOT) such a number is refused. */
#define LOW    0xffffffffull
#define ALWAYS .count = 0
#define IS(arg, n)                                                             \
    .count = 1,                                                                \
    .conditions = {SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, LOW, (uint32_t)(n))}
#define HAS(arg, bit)                                                          \
    .count = 1, .conditions = {SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, bit, bit)}
#define LACKS(arg, bit)                                                        \
    .count = 1, .conditions = {SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, bit, 0)}
#define MASKED(arg, mask, n)                                                   \
    .count = 1, .conditions = {SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, mask, n)}
#define NOT(arg, n)                                                            \
    .count = 1, .conditions = {SCMP_CMP64(arg, SCMP_CMP_NE, n, 0)}
#define OVER(arg, n)                                                           \
    .count = 1, .conditions = {SCMP_CMP64(arg, SCMP_CMP_GT, n, 0)}
#define IS_NOT(arg, n, other, m)                                               \
    .count = 2, .conditions = {SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, LOW, n),    \
                               SCMP_CMP64(other, SCMP_CMP_NE, m, 0)}

static const struct rule rules[] = {
#define CELLAR_POLICY_RULE(name, condition, error, why)                        \
    {#name, SCMP_SYS(name), error, condition},
    CELLAR_POLICY_MAP(CELLAR_POLICY_RULE)
#undef CELLAR_POLICY_RULE
};

static noreturn void die(const char *what, int rc)
{
    cellar_launcher_die(CELLAR_BOOT_SANDBOX, "seccomp: %s: %s", what,
                        strerror(-rc));
}

static void add(scmp_filter_ctx filter, const struct rule *rule, bool asks)
{
    uint32_t action =
        rule->error == ASK ? SCMP_ACT_NOTIFY : SCMP_ACT_ERRNO(rule->error);
    if (rule->error == ASK && !asks)
        return;
    int rc = seccomp_rule_add_array(filter, action, rule->syscall, rule->count,
                                    rule->conditions);
    if (rc != 0)
        die(rule->name, rc);
}

/* From 5.5 on whoever is asked may answer "go on" (seccomp(2)). Before, nothing
 * tells whether that is known. */
static bool knows_go_on(void)
{
    struct utsname kernel;
    if (uname(&kernel) != 0)
        return false;
    char *end = NULL;
    long major = strtol(kernel.release, &end, 10);
    long minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    return major > 5 || (major == 5 && minor >= 5);
}

/* A sandbox in user space may know filters, but no one to ask. */
static bool can_ask(void)
{
    uint32_t action = SECCOMP_RET_USER_NOTIF;
    return knows_go_on() &&
           syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

/* Another architecture's numbers mean other calls. A kernel in user space that
 * is not known to end processes ends the thread that made one. */
static int refuse_other_machines(scmp_filter_ctx filter)
{
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH,
                              SCMP_ACT_KILL_PROCESS);
    return rc == -EINVAL ? seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH,
                                            SCMP_ACT_KILL_THREAD)
                         : rc;
}

int cellar_filter_apply(int *listener)
{
    bool asks = can_ask();
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter)
        die("a filter", -ENOMEM);
    int rc = refuse_other_machines(filter);
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc != 0)
        die("its attributes", rc);
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        add(filter, &rules[i], asks);
    rc = seccomp_load(filter);
    if (rc != 0)
        die("loading it", rc);
    *listener = asks ? seccomp_notify_fd(filter) : -1;
    seccomp_release(filter);
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
}
