/*
 * The worker's system calls: what is refused, when, with which errno, and why.
 * Everything else is allowed: Python and what people import ask for nearly all
 * of the rest, and the container's own profile stands around this one. A
 * worker can add filters of its own, and take none away.
 *
 *     ALWAYS               whatever its arguments
 *     IS(arg, n)           when that argument is n
 *     HAS(arg, bit)        when it has the bit; LACKS: when it hasn't
 *     MASKED(arg, m, n)    when argument & m is n
 *     NOT(arg, n)          when it is not n;  OVER: when it is above n
 *     IS_NOT(a, n, b, m)   when argument a is n and b is not m
 *
 * ASK in the place of an errno: the agent is asked, where the kernel can; where
 * it can't, the call is allowed.
 *
 * Calls of another architecture than the machine's kill the process.
 */
#ifndef CELLAR_LAUNCHER_POLICY_H
#define CELLAR_LAUNCHER_POLICY_H

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define AGENT    1  /* its pid */
#define EVERYONE -1 /* all processes of the user */
#define ASK      0  /* no errno */

#define SET_OWNER 15 /* F_SETOWN_EX */

#define WHO_PROCESS_PRIORITY 0 /* PRIO_PROCESS */
#define WHO_GROUP_PRIORITY   1 /* PRIO_PGRP */
#define WHO_USER_PRIORITY    2 /* PRIO_USER */
#define WHO_PROCESS_IO       1 /* IOPRIO_WHO_PROCESS */
#define WHO_GROUP_IO         2 /* IOPRIO_WHO_PGRP */
#define WHO_USER_IO          3 /* IOPRIO_WHO_USER */
#define NETLINK              16
#define NETLINK_ROUTES       0
#define MEMFD_NOEXEC_SEAL    8u
#define NEW_TIME             0x80u /* CLONE_NEWTIME */

/* Newer than the library that knows calls by name; the number is the same on
 * all architectures from 424 on. */
#define __SNR_open_tree_attr 467

#define CELLAR_POLICY_MAP(X)                                                   \
    CELLAR_POLICY_AGENT(X)                                                     \
    CELLAR_POLICY_COPIES(X)                                                    \
    CELLAR_POLICY_PROCESSES(X)                                                 \
    CELLAR_POLICY_NAMESPACES(X)                                                \
    CELLAR_POLICY_FILES(X)                                                     \
    CELLAR_POLICY_SOCKETS(X)                                                   \
    CELLAR_POLICY_KERNEL(X)

/* clang-format off */

/* The agent is of the worker's user: what that user may do to it, but reading
 * its memory, is refused here. */
#define CELLAR_POLICY_AGENT(X)                                                 \
    X(kill,              IS(0, AGENT), EPERM, "signals for the agent")         \
    X(tkill,             IS(0, AGENT), EPERM, "the same")                      \
    X(tgkill,            IS(0, AGENT), EPERM, "the same")                      \
    X(tgkill,            IS(1, AGENT), EPERM, "the same, by its thread")       \
    X(rt_sigqueueinfo,   IS(0, AGENT), EPERM, "the same")                      \
    X(rt_tgsigqueueinfo, IS(0, AGENT), EPERM, "the same")                      \
    X(rt_tgsigqueueinfo, IS(1, AGENT), EPERM, "the same, by its thread")       \
    X(pidfd_send_signal, ALWAYS, EPERM, "takes /proc/1 for a pid")             \
    X(pidfd_open,        IS(0, AGENT), EPERM, "a handle on the agent")         \
    X(prlimit64,         NOT(0, 0), EPERM, "RLIMIT_CPU 0 kills the agent")     \
    X(sched_setaffinity, IS(0, AGENT), EPERM, "starves the agent")             \
    X(sched_setscheduler, IS(0, AGENT), EPERM, "the same")                     \
    X(sched_setparam,    IS(0, AGENT), EPERM, "the same")                      \
    X(sched_setattr,     IS(0, AGENT), EPERM, "the same")                      \
    X(setpriority,       IS(1, AGENT), EPERM, "the same, also as its group")   \
    X(setpriority,       IS(0, WHO_USER_PRIORITY), EPERM,                      \
      "the same, with all of the user's processes")                            \
    X(ioprio_set,        IS(1, AGENT), EPERM, "starves the agent's reads")     \
    X(ioprio_set,        IS(0, WHO_USER_IO), EPERM, "the same")                \
    X(fcntl,             IS(1, F_SETPIPE_SZ), EPERM,                           \
      "pipes hoard memory that no process is charged for")

/* Frozen copies are of the worker's user, too. Which processes they are only the
 * agent knows. */
#define CELLAR_POLICY_COPIES(X)                                                \
    X(kill,              IS(0, EVERYONE), EPERM, "signals for the copies")     \
    X(kill,              NOT(0, AGENT), ASK, "the same, one by one")           \
    X(tkill,             NOT(0, AGENT), ASK, "the same")                       \
    X(tgkill,            NOT(0, AGENT), ASK, "the same")                       \
    X(rt_sigqueueinfo,   NOT(0, AGENT), ASK, "the same")                       \
    X(rt_tgsigqueueinfo, NOT(0, AGENT), ASK, "the same")                       \
    X(sched_setaffinity, NOT(0, AGENT), ASK, "starves them when they wake")    \
    X(sched_setscheduler, NOT(0, AGENT), ASK, "the same")                      \
    X(sched_setparam,    NOT(0, AGENT), ASK, "the same")                       \
    X(sched_setattr,     NOT(0, AGENT), ASK, "the same")                       \
    X(setpriority,       IS_NOT(0, WHO_PROCESS_PRIORITY, 1, AGENT), ASK,       \
      "the same")                                                              \
    X(setpriority,       IS_NOT(0, WHO_GROUP_PRIORITY, 1, AGENT), ASK,         \
      "the same, as their groups")                                             \
    X(ioprio_set,        IS_NOT(0, WHO_PROCESS_IO, 1, AGENT), ASK,             \
      "starves their reads")                                                   \
    X(ioprio_set,        IS_NOT(0, WHO_GROUP_IO, 1, AGENT), ASK, "the same")   \
    X(fcntl,             IS(1, F_SETOWN), EPERM,                               \
      "has the kernel send them, any signal, when a file becomes ready")       \
    X(fcntl,             IS(1, SET_OWNER), EPERM, "the same")                  \
    X(ioctl,             IS(1, FIOSETOWN), EPERM, "the same, of sockets")      \
    X(ioctl,             IS(1, SIOCSPGRP), EPERM, "the same")

/* Other processes' insides. The agent's are closed to all of them; this is the
 * second lock, and closes the kernel's code behind it too. */
#define CELLAR_POLICY_PROCESSES(X)                                             \
    X(ptrace,             ALWAYS, EPERM, "reads and drives processes")         \
    X(process_vm_readv,   ALWAYS, EPERM, "reads their memory")                 \
    X(process_vm_writev,  ALWAYS, EPERM, "writes it")                          \
    X(process_madvise,    ALWAYS, EPERM, "pages it out")                       \
    X(pidfd_getfd,        ALWAYS, EPERM, "takes their descriptors")            \
    X(kcmp,               ALWAYS, EPERM, "tells what they share")              \
    X(perf_event_open,    ALWAYS, EPERM, "measures them; a large attack surface") \
    X(personality,        ALWAYS, EPERM, "switches address randomisation off") \
    X(memfd_create,       LACKS(1, MEMFD_NOEXEC_SEAL), EACCES,                 \
      "a file to exec where /tmp is noexec")                                   \
    X(memfd_secret,       ALWAYS, EPERM, "memory nobody can look into")        \
    X(userfaultfd,        ALWAYS, EPERM, "stops the kernel in mid-copy")       \
    X(modify_ldt,         ALWAYS, EPERM, "segments of old programs")           \
    X(iopl,               ALWAYS, EPERM, "hardware")                           \
    X(ioperm,             ALWAYS, EPERM, "hardware")

/* Namespaces give a process capabilities inside of them. clone3 hides its
 * flags behind a pointer; the C library falls back to clone. */
#define CELLAR_POLICY_NAMESPACES(X)                                            \
    X(unshare,     ALWAYS, EPERM, "new namespaces")                            \
    X(setns,       ALWAYS, EPERM, "others' namespaces")                        \
    X(clone3,      ALWAYS, ENOSYS, "flags that can't be seen")                 \
    X(clone,       HAS(0, CLONE_NEWNS), EPERM, "a new namespace")              \
    X(clone,       HAS(0, CLONE_NEWCGROUP), EPERM, "the same")                 \
    X(clone,       HAS(0, CLONE_NEWUTS), EPERM, "the same")                    \
    X(clone,       HAS(0, CLONE_NEWIPC), EPERM, "the same")                    \
    X(clone,       HAS(0, CLONE_NEWUSER), EPERM, "the same")                   \
    X(clone,       HAS(0, CLONE_NEWPID), EPERM, "the same")                    \
    X(clone,       HAS(0, CLONE_NEWNET), EPERM, "the same")                    \
    X(mount,       ALWAYS, EPERM, "mounts")                                    \
    X(umount2,     ALWAYS, EPERM, "mounts")                                    \
    X(pivot_root,  ALWAYS, EPERM, "another root")                              \
    X(chroot,      ALWAYS, EPERM, "another root")                              \
    X(fsopen,      ALWAYS, EPERM, "mounts, the newer calls")                   \
    X(fsconfig,    ALWAYS, EPERM, "the same")                                  \
    X(fsmount,     ALWAYS, EPERM, "the same")                                  \
    X(fspick,      ALWAYS, EPERM, "the same")                                  \
    X(move_mount,  ALWAYS, EPERM, "the same")                                  \
    X(open_tree,   ALWAYS, EPERM, "the same")                                  \
    X(open_tree_attr, ALWAYS, EPERM, "the same")                               \
    X(mount_setattr, ALWAYS, EPERM, "the same")

#define CELLAR_POLICY_FILES(X)                                                 \
    X(mknod,       MASKED(1, S_IFMT, S_IFCHR), EPERM, "devices")               \
    X(mknod,       MASKED(1, S_IFMT, S_IFBLK), EPERM, "devices")               \
    X(mknodat,     MASKED(2, S_IFMT, S_IFCHR), EPERM, "devices")               \
    X(mknodat,     MASKED(2, S_IFMT, S_IFBLK), EPERM, "devices")               \
    X(open_by_handle_at, ALWAYS, EPERM, "files outside of the root")           \
    X(name_to_handle_at, ALWAYS, EPERM, "handles for it")                      \
    X(fanotify_init, ALWAYS, EPERM, "watches others' files")                   \
    X(fanotify_mark, ALWAYS, EPERM, "the same")                                \
    X(fcntl,       IS(1, F_NOTIFY), EPERM, "the same, by folders")             \
    X(quotactl,    ALWAYS, EPERM, "quotas")                                    \
    X(quotactl_fd, ALWAYS, EPERM, "quotas")                                    \
    X(swapon,      ALWAYS, EPERM, "swap")                                      \
    X(swapoff,     ALWAYS, EPERM, "swap")                                      \
    X(ioctl,       IS(1, TIOCSTI), EPERM, "types into a terminal")             \
    X(ioctl,       IS(1, TIOCLINUX), EPERM, "the same, on a console")          \
    X(ioctl,       IS(1, TIOCSETD), EPERM, "loads line disciplines")

/* Local and internet sockets, and the netlink that lists interfaces; every
 * other family is kernel code that no cell needs. */
#define CELLAR_POLICY_SOCKETS(X)                                               \
    X(socket, IS(0, 0), EAFNOSUPPORT, "no family")                             \
    X(socket, IS(0, 3), EAFNOSUPPORT, "AX.25")                                 \
    X(socket, IS(0, 4), EAFNOSUPPORT, "IPX")                                   \
    X(socket, IS(0, 5), EAFNOSUPPORT, "AppleTalk")                             \
    X(socket, IS(0, 6), EAFNOSUPPORT, "NET/ROM")                               \
    X(socket, IS(0, 7), EAFNOSUPPORT, "bridges")                               \
    X(socket, IS(0, 8), EAFNOSUPPORT, "ATM")                                   \
    X(socket, IS(0, 9), EAFNOSUPPORT, "X.25")                                  \
    X(socket, IS(0, 11), EAFNOSUPPORT, "ROSE")                                 \
    X(socket, IS(0, 12), EAFNOSUPPORT, "DECnet")                               \
    X(socket, IS(0, 13), EAFNOSUPPORT, "NETBEUI")                              \
    X(socket, IS(0, 14), EAFNOSUPPORT, "security")                             \
    X(socket, IS(0, 15), EAFNOSUPPORT, "keys")                                 \
    X(socket, OVER(0, NETLINK), EAFNOSUPPORT,                                  \
      "packets, vsock, kernel crypto and all that came later")                 \
    X(socket, IS_NOT(0, NETLINK, 2, NETLINK_ROUTES), EAFNOSUPPORT,             \
      "netlink, but for the list of interfaces")

/* The machine itself. Without capabilities most of it is refused anyhow. */
#define CELLAR_POLICY_KERNEL(X)                                                \
    X(bpf,               ALWAYS, EPERM, "programs in the kernel")              \
    X(io_uring_setup,    ALWAYS, ENOSYS, "does what a filter can't see")       \
    X(io_uring_enter,    ALWAYS, ENOSYS, "the same")                           \
    X(io_uring_register, ALWAYS, ENOSYS, "the same")                           \
    X(add_key,           ALWAYS, EPERM, "keys outlive sessions")               \
    X(request_key,       ALWAYS, EPERM, "the same")                            \
    X(keyctl,            ALWAYS, EPERM, "the same")                            \
    X(init_module,       ALWAYS, EPERM, "kernel modules")                      \
    X(finit_module,      ALWAYS, EPERM, "the same")                            \
    X(delete_module,     ALWAYS, EPERM, "the same")                            \
    X(kexec_load,        ALWAYS, EPERM, "another kernel")                      \
    X(kexec_file_load,   ALWAYS, EPERM, "the same")                            \
    X(reboot,            ALWAYS, EPERM, "ends PID namespaces too")             \
    X(acct,              ALWAYS, EPERM, "accounting")                          \
    X(syslog,            ALWAYS, EPERM, "the kernel's log")                    \
    X(lookup_dcookie,    ALWAYS, EPERM, "profiles others' files")              \
    X(nfsservctl,        ALWAYS, ENOSYS, "obsolete")                           \
    X(uselib,            ALWAYS, ENOSYS, "obsolete")                           \
    X(vhangup,           ALWAYS, EPERM, "terminals")                           \
    X(settimeofday,      ALWAYS, EPERM, "the clock")                           \
    X(clock_settime,     ALWAYS, EPERM, "the clock")                           \
    X(sethostname,       ALWAYS, EPERM, "the host's name")                     \
    X(setdomainname,     ALWAYS, EPERM, "the same")

/* clang-format on */

#endif
