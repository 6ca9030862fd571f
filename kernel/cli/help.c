#include "help.h"

#include <stdio.h>
#include <string.h>

#include "units.h"

#define WIDTH  79
#define INDENT 26

/* Prints `text` in lines of WIDTH, each after the first indented. */
static void print_wrapped(struct cellar_output *out, const char *text)
{
    size_t column = INDENT;
    while (*text) {
        size_t len = strcspn(text, " ");
        if (column > INDENT && column + 1 + len > WIDTH) {
            cellar_output_printf(out, "\n%*s", INDENT, "");
            column = INDENT;
        } else if (column > INDENT) {
            cellar_output_text(out, " ");
            column++;
        }
        cellar_output_write(out, text, len);
        column += len;
        text += len;
        text += strspn(text, " ");
    }
    cellar_output_text(out, "\n");
}

static void print_entry(struct cellar_output *out, const char *head,
                        const char *text)
{
    int len = (int)strlen(head);
    cellar_output_text(out, head);
    if (len + 2 > INDENT)
        cellar_output_printf(out, "\n%*s", INDENT, "");
    else
        cellar_output_printf(out, "%*s", INDENT - len, "");
    print_wrapped(out, text);
}

/* "(32m to 1024g; default 512m)". */
static void describe_bounds(const struct cellar_option *option,
                            const char *preset, char *text, size_t size)
{
    char min[CELLAR_UNIT_TEXT_MAX] = "";
    char max[CELLAR_UNIT_TEXT_MAX] = "";
    const char *words = cellar_unit_words(option->unit);
    if (words) {
        snprintf(text, size, " (%s; default %s)", words, preset);
        return;
    }
    cellar_unit_write(option->unit, option->min, min);
    cellar_unit_write(option->unit, option->max, max);
    snprintf(text, size, " (%s to %s%s%s%s)", min, max,
             option->none ? ", 0 for none" : "", preset[0] ? "; default " : "",
             preset);
}

static void print_option(struct cellar_output *out,
                         const struct cellar_option *option)
{
    char preset[CELLAR_OPTION_PRESET_MAX] = "";
    char note[CELLAR_OPTION_PRESET_MAX + 128] = "";
    char head[96] = "";
    char text[1024] = "";
    cellar_option_preset(option, preset);
    if (option->type == CELLAR_OPTION_NUMBER)
        describe_bounds(option, preset, note, sizeof note);
    else if (preset[0])
        snprintf(note, sizeof note, " (default %s)", preset);
    char letter[8] = "    ";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    snprintf(head, sizeof head, "  %s--%s%s%s", letter, option->name,
             option->value ? " " : "", option->value ? option->value : "");
    snprintf(text, sizeof text, "%s%s", option->text, note);
    print_entry(out, head, text);
}

static void print_options(struct cellar_output *out, unsigned commands,
                          bool everywhere)
{
    for (size_t i = 0; i < cellar_option_count(); i++) {
        struct cellar_option option = cellar_option_at(i);
        bool of_all = option.commands == CELLAR_ON_ALL;
        if ((option.commands & commands) && of_all == everywhere)
            print_option(out, &option);
    }
}

static bool has_own_options(unsigned commands)
{
    for (size_t i = 0; i < cellar_option_count(); i++) {
        struct cellar_option option = cellar_option_at(i);
        if ((option.commands & commands) && option.commands != CELLAR_ON_ALL)
            return true;
    }
    return false;
}

static void print_command(struct cellar_output *out,
                          const struct cellar_command *command)
{
    cellar_output_printf(out, "usage: cellar %s%s%s [OPTIONS]\n\n%s.\n",
                         command->name, command->operands[0] ? " " : "",
                         command->operands, command->text);
    if (command->details[0])
        cellar_output_printf(out, "\n%s", command->details);
    if (has_own_options(command->bit)) {
        cellar_output_printf(out, "\noptions of cellar %s:\n", command->name);
        print_options(out, command->bit, false);
    }
    cellar_output_text(out, "\noptions of every command:\n");
    print_options(out, command->bit, true);
}

static void print_overview(struct cellar_output *out)
{
    cellar_output_text(
        out,
        "usage: cellar COMMAND [OPTIONS] [OPERANDS]\n\n"
        "Runs Python that nobody should trust: one hardened container per\n"
        "session, the interpreter alive between cells.\n\ncommands:\n");
    for (size_t i = 0; cellar_commands[i]; i++) {
        char head[96] = "";
        const struct cellar_command *command = cellar_commands[i];
        snprintf(head, sizeof head, "  %s%s%s", command->name,
                 command->operands[0] ? " " : "", command->operands);
        print_entry(out, head, command->text);
    }
    cellar_output_text(out, "\noptions of every command:\n");
    print_options(out, CELLAR_ON_ALL, true);
    cellar_output_text(
        out, "\nexit status: 0 all cells ended ok, 1 a cell did not, 2 usage,\n"
             "3 Cellar or the engine failed; a signal that ended the command, "
             "as Ctrl-C,\n128 and its number. An error is a line on stderr, "
             "also with --json\n");
}

void cellar_help_print(struct cellar_output *out,
                       const struct cellar_command *command)
{
    if (command)
        print_command(out, command);
    else
        print_overview(out);
}
