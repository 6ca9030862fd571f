#include "edit.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <wchar.h>

#include "kernel/fail.h"

#define HISTORY_MAX 1000

struct cellar_edit {
    EditLine *el;
    History *history;
    char *path;
    const char *prompt;
    cellar_edit_wait_fn *wait;
    void *user;
    bool loaded;    /* the history may be written: what it held is known */
    bool signalled; /* the read ended for a signal, not at the end of input */
};

static char *show_prompt(EditLine *el)
{
    struct cellar_edit *edit = NULL;
    el_get(el, EL_CLIENTDATA, &edit);
    return (char *)edit->prompt;
}

/* One byte of a character. -1: a signal; 0: the end. */
static int read_byte(struct cellar_edit *edit, char *byte)
{
    for (;;) {
        if (!edit->wait(edit->user, STDIN_FILENO)) {
            edit->signalled = true;
            return -1;
        }
        ssize_t n = read(STDIN_FILENO, byte, 1);
        if (n >= 0)
            return (int)n;
        if (errno != EINTR && errno != EAGAIN)
            return 0;
    }
}

/* libedit's own reader would sleep in read(): the session's signs of life
 * would stop, and Ctrl-C be noticed only with the next key. */
static int read_character(EditLine *el, wchar_t *character)
{
    struct cellar_edit *edit = NULL;
    mbstate_t state = {0};
    el_get(el, EL_CLIENTDATA, &edit);
    for (;;) {
        char byte = '\0';
        int n = read_byte(edit, &byte);
        if (n <= 0)
            return n;
        size_t length = mbrtowc(character, &byte, 1, &state);
        if (length == (size_t)-2)
            continue;
        if (length != (size_t)-1)
            return 1;
        /* No character of this locale: drop it, as a stray key. */
        state = (mbstate_t){0};
    }
}

/* UTF-8 whatever the environment says: Python's source is. */
static void use_utf8(void)
{
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

/* No links: the file is in a directory of ours, and so is what it names. */
static FILE *open_history(const char *path, int flags, const char *mode)
{
    int fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return NULL;
    FILE *file = fdopen(fd, mode);
    if (!file)
        close(fd);
    return file;
}

static void load_history(struct cellar_edit *edit)
{
    HistEvent event;
    history(edit->history, &event, H_SETSIZE, HISTORY_MAX);
    history(edit->history, &event, H_SETUNIQUE, 1);
    history(edit->history, &event, H_LOAD, edit->path);
}

static void save_history(const struct cellar_edit *edit)
{
    HistEvent event;
    FILE *file = open_history(edit->path, O_WRONLY | O_CREAT | O_TRUNC, "w");
    if (!file)
        return;
    if (fchmod(fileno(file), 0600) == 0)
        history(edit->history, &event, H_SAVE_FP, file);
    fclose(file);
}

static bool set_up(struct cellar_edit *edit)
{
    edit->history = history_init();
    edit->el = el_init("cellar", stdin, stdout, stderr);
    if (!edit->history || !edit->el)
        return false;
    el_set(edit->el, EL_CLIENTDATA, edit);
    el_set(edit->el, EL_PROMPT, show_prompt);
    el_set(edit->el, EL_EDITOR, "emacs");
    el_set(edit->el, EL_SIGNAL, 0);
    el_set(edit->el, EL_HIST, history, edit->history);
    el_set(edit->el, EL_GETCFN, read_character);
    el_set(edit->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(edit->el, EL_BIND, "\t", "ed-insert", NULL);
    /* ~/.editrc, for those who have one. */
    el_source(edit->el, NULL);
    load_history(edit);
    edit->loaded = true;
    return true;
}

enum cellar_code cellar_edit_new(const char *history, cellar_edit_wait_fn *wait,
                                 void *user, struct cellar_edit **out,
                                 struct cellar_error *err)
{
    struct cellar_edit *edit = calloc(1, sizeof *edit);
    if (!edit)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    *edit = (struct cellar_edit){
        .path = strdup(history), .prompt = "", .wait = wait, .user = user};
    use_utf8();
    if (!edit->path || !set_up(edit)) {
        cellar_edit_free(edit);
        return cellar_fail(err, CELLAR_E_NOMEM,
                           "the line editor could not be set up");
    }
    *out = edit;
    return CELLAR_OK;
}

void cellar_edit_free(struct cellar_edit *edit)
{
    if (!edit)
        return;
    if (edit->loaded)
        save_history(edit);
    if (edit->history)
        history_end(edit->history);
    if (edit->el)
        el_end(edit->el);
    free(edit->path);
    free(edit);
}

enum cellar_edit_end cellar_edit_read(struct cellar_edit *edit,
                                      const char *prompt, const char **line)
{
    int count = 0;
    edit->prompt = prompt;
    edit->signalled = false;
    /* libedit prints the prompt and only then leaves the terminal's line mode,
     * which makes nothing of a Ctrl-D typed in between. */
    el_set(edit->el, EL_PREP_TERM, 1);
    const char *text = el_gets(edit->el, &count);
    if (edit->signalled)
        return CELLAR_EDIT_SIGNAL;
    if (!text || count <= 0)
        return CELLAR_EDIT_EOF;
    *line = text;
    return CELLAR_EDIT_LINE;
}

void cellar_edit_redraw(struct cellar_edit *edit)
{
    el_set(edit->el, EL_REFRESH);
}

void cellar_edit_remember(struct cellar_edit *edit, const char *text)
{
    HistEvent event;
    history(edit->history, &event, H_ENTER, text);
}
