#include "repl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edit.h"
#include "kernel/fail.h"
#include "kernel/supervisor.h"
#include "lines.h"
#include "print.h"
#include "proto/limits.h"
#include "signals.h"

#define PROMPT_MAX 40

/* An input under way: what was typed since the prompt. */
struct input {
    char *text;
    size_t len;
};

enum verdict { RUN, NOTHING, LEAVE };

static bool append(struct input *input, const char *line)
{
    size_t len = strlen(line);
    char *more = realloc(input->text, input->len + len + 1);
    if (!more)
        return false;
    memcpy(more + input->len, line, len + 1);
    input->text = more;
    input->len += len;
    return true;
}

static void make_prompt(const struct cellar_front *front, bool first,
                        char prompt[PROMPT_MAX])
{
    int width = snprintf(prompt, PROMPT_MAX, "In [%" PRIu64 "]: ",
                         cellar_session_cells(front->session) + 1);
    if (!first)
        snprintf(prompt, PROMPT_MAX, "%*s", width, "...: ");
}

/* The editor and what it waits with: each needs the other. */
struct typing {
    struct cellar_front *front;
    struct cellar_edit *edit;
};

static void redraw(void *user)
{
    cellar_edit_redraw(user);
}

static bool wait_for_key(void *user, int fd)
{
    struct typing *typing = user;
    struct cellar_front *front = typing->front;
    front->redraw = redraw;
    front->redraw_user = typing->edit;
    bool key = cellar_front_idle(front, fd);
    front->redraw = NULL;
    return key;
}

/* Reads one input, of as many lines as it takes. */
static enum verdict read_input(struct cellar_front *front,
                               struct cellar_edit *edit, struct input *input)
{
    char prompt[PROMPT_MAX] = "";
    const char *line = NULL;
    for (;;) {
        make_prompt(front, input->len == 0, prompt);
        enum cellar_edit_end end = cellar_edit_read(edit, prompt, &line);
        if (end == CELLAR_EDIT_SIGNAL) {
            cellar_output_text(&front->out, "^C\n");
            return cellar_front_quit(front) ? LEAVE : NOTHING;
        }
        if (end != CELLAR_EDIT_LINE || !append(input, line)) {
            cellar_output_text(&front->out, "\n");
            return LEAVE;
        }
        enum cellar_lines state = cellar_lines_state(input->text, input->len);
        if (state == CELLAR_LINES_EMPTY)
            return NOTHING;
        if (state == CELLAR_LINES_COMPLETE)
            return RUN;
    }
}

/* Whether the input is a word by which people leave a REPL. */
static bool leaves(const struct input *input)
{
    static const char *const words[] = {"exit", "quit", "exit()", "quit()"};
    const char *text = input->text + strspn(input->text, " \t");
    size_t len = strcspn(text, " \t\r\n");
    if (text[len + strspn(text + len, " \t\r\n")])
        return false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0)
            return true;
    return false;
}

static void hint_on_leaving(struct cellar_front *front)
{
    if (front->ends)
        cellar_output_text(&front->out, "(Ctrl-D does that too)\n");
    else
        cellar_output_printf(&front->out,
                             "(Ctrl-D does that too; the session lives on, "
                             "'cellar stop %s' ends it)\n",
                             cellar_session_name(front->session));
}

/* An input that Cellar refuses, too long for instance, leaves the session as
 * it was; anything else that fails ends the REPL. */
static bool run_input(struct cellar_front *front, const struct input *input,
                      int *status)
{
    struct cellar_result *result = NULL;
    enum cellar_code code =
        cellar_front_run(front, input->text, input->len, 0, &result);
    if (code != CELLAR_OK) {
        int failed = cellar_front_fail(front);
        if (failed == CELLAR_EXIT_USAGE)
            return true;
        *status = failed;
        return false;
    }
    cellar_print_ending(&front->out, result);
    bool lost = result->status == CELLAR_STATUS_LOST;
    if (lost)
        *status = CELLAR_EXIT_FAILED;
    cellar_result_free(result);
    return !lost;
}

/* One turn; false ends the REPL. */
static bool turn(struct cellar_front *front, struct cellar_edit *edit,
                 int *status)
{
    struct input input = {0};
    bool more = true;
    cellar_front_flush(front);
    cellar_signals_forget();
    enum verdict verdict = read_input(front, edit, &input);
    if (input.len > 0 && verdict != NOTHING)
        cellar_edit_remember(edit, input.text);
    if (verdict == LEAVE) {
        *status = cellar_front_quit(front);
        more = false;
    } else if (verdict == RUN && leaves(&input)) {
        hint_on_leaving(front);
        more = false;
    } else if (verdict == RUN) {
        more = run_input(front, &input, status);
    }
    free(input.text);
    return more;
}

int cellar_repl_run(struct cellar_front *front)
{
    char history[4096] = "";
    struct typing typing = {.front = front};
    int status = CELLAR_EXIT_OK;
    snprintf(history, sizeof history, "%s/history",
             cellar_supervisor_state_dir(front->c));
    if (cellar_edit_new(history, wait_for_key, &typing, &typing.edit,
                        &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    front->patient = true;
    front->show = CELLAR_SHOW_ON_OUT;
    while (turn(front, typing.edit, &status))
        continue;
    cellar_edit_free(typing.edit);
    return status;
}
