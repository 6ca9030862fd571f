#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher.h"
#include "program.h"

#define BOOTSTRAP "/cellar/worker/boot.py"

#define PATH_BYTES 4096

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           access(path, X_OK) == 0;
}

static void refuse_musl(const char *python)
{
    int fd = open(python, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (cellar_program_needs_musl(fd))
        cellar_launcher_die(CELLAR_BOOT_MUSL,
                            "%s is built on musl; Cellar needs a Python on "
                            "glibc, such as Debian's",
                            python);
    close(fd);
}

/* Relative entries of PATH would be looked up below the worker's own /tmp. */
const char *cellar_python_find(const char *path)
{
    static char found[PATH_BYTES];
    for (const char *at = path; *at;) {
        size_t len = strcspn(at, ":");
        int n = snprintf(found, sizeof(found), "%.*s/python3", (int)len, at);
        if (*at == '/' && n > 0 && (size_t)n < sizeof(found) &&
            is_program(found)) {
            refuse_musl(found);
            return found;
        }
        at += len + (at[len] == ':');
    }
    cellar_launcher_die(CELLAR_BOOT_NO_PYTHON,
                        "there is no python3 in the image's PATH (%s)", path);
}

/* Large blocks of glibc's malloc are asked for in huge pages: a fork copies 512
 * times fewer entries of the page table, and so does the end of a process free
 * them. glibc.malloc.hugetlb (glibc manual, "Memory Allocation Tunables"; older
 * ones, and other C libraries, don't mind it). */
#define HUGE_PAGES "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"

/* -I: neither the environment, nor the user's site-packages, nor a file that a
 * cell left in the working directory has a say in how Python starts. */
noreturn void cellar_python_exec(const char *python, const char *path,
                                 const char *modules)
{
    static char path_entry[PATH_BYTES + 8];
    static char zone_entry[128];
    const char *zone = getenv("TZ");
    snprintf(path_entry, sizeof(path_entry), "PATH=%s", path);
    snprintf(zone_entry, sizeof(zone_entry), "TZ=%s", zone ? zone : "");
    const char *const argv[] = {"python3", "-I",      "-X",
                                "utf8",    BOOTSTRAP, *modules ? modules : NULL,
                                NULL};
    const char *const env[] = {path_entry,
                               "HOME=/tmp",
                               "USER=cellar",
                               "LOGNAME=cellar",
                               "LANG=C.UTF-8",
                               HUGE_PAGES,
                               "TERM=dumb",
                               "MPLBACKEND=Agg",
                               "MPLCONFIGDIR=/tmp/.matplotlib",
                               zone ? zone_entry : NULL,
                               NULL};
    if (chdir("/tmp") != 0)
        cellar_launcher_die(CELLAR_BOOT_SANDBOX, "/tmp: %m");
    execve(python, (char *const *)argv, (char *const *)env);
    cellar_launcher_die(CELLAR_BOOT_NO_PYTHON, "%s does not start: %m", python);
}
