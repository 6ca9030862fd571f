#include "child.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Its output goes to `out`. -1: it could not be run. */
static pid_t spawn(const char *const argv[], int out)
{
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv,
                     environ))
        pid = -1;
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

int child_lines(const char *const argv[],
                void (*line)(void *user, const char *text), void *user)
{
    char text[256];
    int ends[2];
    int status = 0;
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    pid_t pid = spawn(argv, ends[1]);
    close(ends[1]);
    FILE *out = fdopen(ends[0], "r");
    while (out && fgets(text, sizeof text, out))
        if (line)
            line(user, text);
    if (out)
        fclose(out);
    else
        close(ends[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}

/* In Docker's words, and in those of an OCI runtime. */
static const struct {
    const char *docker[2];
    const char *oci[2];
} words[] = {{{"pause", NULL}, {"pause", NULL}},
             {{"unpause", NULL}, {"resume", NULL}},
             {{"rm", "-f"}, {"delete", "--force"}}};

int child_from_outside(const char *word, const char *container)
{
    char root[512];
    const char *argv[8] = {"docker"};
    const char *engine = getenv("CELLAR_ENGINE");
    bool oci = engine && strcmp(engine, "oci") == 0;
    size_t n = 1;
    size_t at = 0;
    while (strcmp(words[at].docker[0], word) != 0)
        at++;
    snprintf(root, sizeof root, "%s/oci/.run", getenv("CELLAR_STATE_DIR"));
    if (oci) {
        argv[0] = "runc";
        argv[n++] = "--root";
        argv[n++] = root;
    }
    const char *const *own = oci ? words[at].oci : words[at].docker;
    for (size_t i = 0; i < 2 && own[i]; i++)
        argv[n++] = own[i];
    argv[n] = container;
    return child_lines(argv, NULL, NULL);
}
