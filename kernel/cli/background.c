#include "background.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/fail.h"

/* For its turn, and for a start in it. */
#define SECONDS_MAX 240

/* The words of the command: with room for every option that was written. */
struct words {
    char **list;
    size_t count;
    bool failed;
};

static void add_word(struct words *words, char *word)
{
    if (word)
        words->list[words->count++] = word;
    else
        words->failed = true;
}

static char *option_word(const char *name, const char *value)
{
    char *word = NULL;
    return asprintf(&word, "--%s=%s", name, value) < 0 ? NULL : word;
}

static void done_words(struct words *words)
{
    for (size_t i = 0; i < words->count; i++)
        free(words->list[i]);
    free(words->list);
}

/* What makes a session, and where; as it was written, for the same reader. */
static bool make_words(const struct cellar_options *options,
                       struct words *words)
{
    char size[24];
    words->list = calloc(options->written_count + 8, sizeof *words->list);
    if (!words->list)
        return false;
    (void)snprintf(size, sizeof size, "%" PRIu64, options->pool);
    add_word(words, strdup("cellar"));
    add_word(words, strdup("pool"));
    add_word(words, strdup(size));
    /* The user may have asked for more, by a command of his own. */
    add_word(words, strdup("--at-least"));
    for (size_t i = 0; i < options->written_count; i++) {
        const struct cellar_given *given = &options->written[i];
        struct cellar_option option = cellar_option_at(given->option);
        if (given->value && (option.commands & CELLAR_ON_POOL))
            add_word(words, option_word(option.name, given->value));
    }
    return !words->failed;
}

/* Nothing of its parent's: no lock, no pipe that somebody waits for the end
 * of, no signal that is held back. */
static void become(char **argv)
{
    sigset_t none;
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        (void)dup2(null, fd);
    (void)close_range(3, ~0U, 0);
    for (int sig = 1; sig < NSIG; sig++)
        (void)signal(sig, SIG_DFL);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)alarm(SECONDS_MAX);
    execv("/proc/self/exe", argv);
    _exit(EXIT_FAILURE);
}

/* The one in between ends at once: nobody has to wait for the other. */
void cellar_background_refill(struct cellar_front *front)
{
    struct words words = {0};
    pid_t between = -1;
    if (front->options.pool == 0)
        return;
    if (make_words(&front->options, &words))
        between = fork();
    if (between == 0) {
        (void)setsid();
        if (fork() == 0)
            become(words.list);
        _exit(EXIT_SUCCESS);
    }
    if (between < 0)
        cellar_front_log(front, "the pool can't be filled: %s",
                         strerror(errno));
    while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
        continue;
    done_words(&words);
}
