#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/fail.h"

enum { DEADLINE_MS = 20 * 60 * 1000, MERCY_MS = 10 * 1000 };

struct bootstrap {
    cellar_progress_fn *progress;
    void *user;
    struct cellar_timer *timer;
    pid_t pid;
    int err_fd;
    bool late;  /* the deadline has passed, SIGTERM is sent */
    bool ended; /* its stderr is closed, or it was killed */
    char line[256];
    size_t len;
    char words[256]; /* its first words of failure, else its last words */
};

/* Manuals and translations stay out: nobody reads them in a session. */
static const char *const argv_mmdebstrap[] = {
    "mmdebstrap",
    "--variant=minbase",
    "--format=tar",
    "--aptopt=Acquire::Retries \"3\"",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "bookworm",
    "-",
    NULL};

enum cellar_code cellar_image_temp(int *fd, struct cellar_error *err)
{
    const char *dir = getenv("TMPDIR");
    if (dir == NULL || dir[0] == '\0')
        dir = "/tmp";
    char path[4096];
    int len = snprintf(path, sizeof(path), "%s/cellar-XXXXXX", dir);
    if (len < 0 || (size_t)len >= sizeof(path))
        return cellar_fail(err, CELLAR_E_LIMIT, "TMPDIR is too long");
    int file = mkostemp(path, O_CLOEXEC);
    if (file < 0)
        return cellar_fail_errno(err, errno, "a temporary file in %s", dir);
    unlink(path);
    *fd = file;
    return CELLAR_OK;
}

/* Failures begin with "E: "; the first tells the reason, the next ones only
 * what followed from it. */
static void take_line(struct bootstrap *b)
{
    b->line[b->len] = '\0';
    b->len = 0;
    if (b->line[0] == '\0')
        return;
    if (strncmp(b->words, "E: ", 3) != 0)
        memcpy(b->words, b->line, sizeof(b->words));
    if (b->progress != NULL)
        b->progress(b->user, b->line, -1.0);
}

static void take_bytes(struct bootstrap *b, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] == '\n' || data[i] == '\r' || b->len == sizeof(b->line) - 1)
            take_line(b);
        if (data[i] != '\n' && data[i] != '\r')
            b->line[b->len++] = data[i];
    }
}

static void on_readable(void *user, int events)
{
    struct bootstrap *b = user;
    (void)events;
    char data[4096];
    ssize_t n = read(b->err_fd, data, sizeof(data));
    if (n > 0) {
        take_bytes(b, data, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        take_line(b);
        b->ended = true;
    }
}

/* Asked to end first: mmdebstrap then removes what it made. */
static void on_deadline(void *user)
{
    struct bootstrap *b = user;
    b->ended = b->late;
    kill(b->pid, b->late ? SIGKILL : SIGTERM);
    b->late = true;
    cellar_timer_set(b->timer, MERCY_MS);
}

static enum cellar_code spawn(int out_fd, int err_fd, pid_t *pid,
                              struct cellar_error *err)
{
    posix_spawn_file_actions_t actions;
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed != 0)
        return cellar_fail_errno(err, failed, "starting mmdebstrap");
    failed = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO,
                                              "/dev/null", O_RDONLY, 0);
    if (failed == 0)
        failed =
            posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    if (failed == 0)
        failed =
            posix_spawn_file_actions_adddup2(&actions, err_fd, STDERR_FILENO);
    if (failed == 0)
        failed = posix_spawnp(pid, argv_mmdebstrap[0], &actions, NULL,
                              (char *const *)argv_mmdebstrap, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed == ENOENT)
        return cellar_fail(err, CELLAR_E_IMAGE,
                           "mmdebstrap is not installed, which makes a base "
                           "from Debian's packages: apt-get install "
                           "mmdebstrap");
    if (failed != 0)
        return cellar_fail_errno(err, failed, "starting mmdebstrap");
    return CELLAR_OK;
}

static enum cellar_code verdict(const struct bootstrap *b, int status,
                                struct cellar_error *err)
{
    if (b->late)
        return cellar_fail(err, CELLAR_E_TIMEOUT,
                           "mmdebstrap did not end within %d minutes (%s)",
                           DEADLINE_MS / 60000, b->words);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return cellar_fail(err, CELLAR_E_IMAGE, "mmdebstrap failed: %s",
                           b->words);
    return CELLAR_OK;
}

/* Reads what mmdebstrap says until it has nothing more to say. */
static enum cellar_code follow(struct bootstrap *b, struct cellar_loop *loop,
                               struct cellar_error *err)
{
    struct cellar_watch *watch = NULL;
    enum cellar_code code =
        cellar_timer_new(loop, on_deadline, b, &b->timer, err);
    if (code == CELLAR_OK)
        code = cellar_watch_new(loop, b->err_fd, on_readable, b, &watch, err);
    if (code == CELLAR_OK) {
        cellar_timer_set(b->timer, DEADLINE_MS);
        code = cellar_watch_set(watch, CELLAR_READABLE);
    }
    while (code == CELLAR_OK && !b->ended)
        cellar_loop_run(loop, -1);
    if (code != CELLAR_OK)
        kill(b->pid, SIGTERM);
    cellar_watch_close(watch);
    cellar_timer_close(b->timer);
    return code;
}

static enum cellar_code run(struct bootstrap *b, struct cellar_loop *loop,
                            int out_fd, struct cellar_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return cellar_fail_errno(err, errno, "a pipe for mmdebstrap");
    CELLAR_AUTO_CLOSE int read_end = ends[0];
    enum cellar_code code = spawn(out_fd, ends[1], &b->pid, err);
    close(ends[1]);
    if (code != CELLAR_OK)
        return code;
    b->err_fd = read_end;
    code = follow(b, loop, err);
    int status = 0;
    while (waitpid(b->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return code != CELLAR_OK ? code : verdict(b, status, err);
}

enum cellar_code cellar_image_base_make(struct cellar_loop *loop,
                                        cellar_progress_fn *progress,
                                        void *user, int *fd,
                                        struct cellar_error *err)
{
    CELLAR_AUTO_CLOSE int file = -1;
    enum cellar_code code = cellar_image_temp(&file, err);
    if (code != CELLAR_OK)
        return code;
    struct bootstrap b = {.progress = progress, .user = user, .err_fd = -1};
    code = run(&b, loop, file, err);
    if (code != CELLAR_OK)
        return code;
    if (lseek(file, 0, SEEK_SET) != 0)
        return cellar_fail_errno(err, errno, "the base's tar");
    *fd = file;
    file = -1;
    return CELLAR_OK;
}
