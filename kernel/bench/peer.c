#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/json.h"
#include "kernel/loop.h"

/* 50 MB of lines take it half a second, 2,000 cells six. */
#define DEADLINE_US UINT64_C(180000000)

/* What the script says is one object of a few figures. */
#define ANSWER_MAX 4096

static const char *python_of(const struct cellar_peer *peer)
{
    const char *named = getenv(CELLAR_PEER_PYTHON_ENV);
    if (peer->python)
        return peer->python;
    return named && named[0] ? named : "python3";
}

/* In a process group of its own, so that nothing of it stays behind. What it
 * says on stderr is of libraries that we don't know. */
static int spawn(pid_t *pid, char *const *argv, int out)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int rc = posix_spawn_file_actions_init(&files);
    if (rc != 0)
        return rc;
    rc = posix_spawnattr_init(&attr);
    if (rc == 0) {
        (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
        rc = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY,
                                              0);
        if (rc == 0)
            rc = posix_spawn_file_actions_adddup2(&files, out, 1);
        if (rc == 0)
            rc = posix_spawn_file_actions_addopen(&files, 2, "/dev/null",
                                                  O_WRONLY, 0);
        if (rc == 0)
            rc = posix_spawnp(pid, argv[0], &files, &attr, argv, environ);
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return rc;
}

/* All that comes until the end of file or the deadline, cut to the room. */
static size_t read_all(int fd, char *room, size_t size)
{
    uint64_t end = cellar_loop_now_us() + DEADLINE_US;
    size_t len = 0;
    while (len < size) {
        uint64_t now = cellar_loop_now_us();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (now >= end || poll(&ready, 1, (int)((end - now) / 1000 + 1)) == 0)
            break;
        ssize_t n = read(fd, room + len, size - len);
        if (n == 0 || (n < 0 && errno != EINTR))
            break;
        len += n > 0 ? (size_t)n : 0;
    }
    return len;
}

/* The script's answer, "" when it has none, or why it could not be asked. */
static int ask(char *const *argv, char *answer, size_t size)
{
    int ends[2];
    pid_t pid = 0;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return errno;
    int rc = spawn(&pid, argv, ends[1]);
    (void)close(ends[1]);
    size_t len = rc == 0 ? read_all(ends[0], answer, size - 1) : 0;
    answer[len] = '\0';
    (void)close(ends[0]);
    if (rc != 0)
        return rc;
    (void)kill(-pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return 0;
}

static void add(const json_t *answer, const struct cellar_peer_figure *figure,
                const char *why, struct cellar_report *report)
{
    char key[CELLAR_REPORT_KEY_MAX];
    char text[CELLAR_REPORT_TEXT_MAX];
    const json_t *value = json_object_get(answer, figure->key);
    (void)snprintf(key, sizeof key, "ipykernel_%s", figure->key);
    (void)snprintf(text, sizeof text, "ipykernel: %s", figure->text);
    if (json_is_number(value))
        cellar_report_add(report, key, text, json_number_value(value));
    else
        cellar_report_miss(report, key, text, why);
}

static void take(const char *answer, const char *why,
                 const struct cellar_peer_figure *figures, size_t count,
                 struct cellar_report *report)
{
    json_t *root = cellar_json_parse(answer, strlen(answer), 0, NULL);
    const char *said = json_string_value(json_object_get(root, "why"));
    for (size_t i = 0; i < count; i++)
        add(root, &figures[i], said ? said : why, report);
    json_decref(root);
}

void cellar_peer_measure(const struct cellar_peer *peer, const char *what,
                         uint64_t count,
                         const struct cellar_peer_figure *figures,
                         size_t figure_count, struct cellar_report *report)
{
    char script[4096], python[4096], number[32], word[16], answer[ANSWER_MAX];
    char why[CELLAR_REPORT_WHY_MAX];
    char *argv[] = {python, script, word, number, NULL};
    (void)snprintf(script, sizeof script, "%s/ipykernel_bench.py",
                   peer->data_dir);
    (void)snprintf(python, sizeof python, "%s", python_of(peer));
    (void)snprintf(word, sizeof word, "%s", what);
    (void)snprintf(number, sizeof number, "%" PRIu64, count);
    int rc = ask(argv, answer, sizeof answer);
    if (rc != 0)
        (void)snprintf(why, sizeof why, "%.128s can't be run: %s", python,
                       strerror(rc));
    else
        (void)snprintf(why, sizeof why,
                       "%.128s gave no figures within %u s: name one that has "
                       "ipykernel and jupyter_client with --python",
                       python, (unsigned)(DEADLINE_US / 1000000));
    take(rc == 0 ? answer : "", why, figures, figure_count, report);
}
