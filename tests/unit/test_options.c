/* The option table and the command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/cli/command.h"
#include "kernel/cli/help.h"
#include "kernel/cli/options.h"
#include "kernel/cli/units.h"

#define WORDS_MAX 24

/* A command line from words parted by spaces ('~' stands for an empty one). */
static enum cellar_code parse(struct cellar_options *options, const char *line,
                              struct cellar_error *err)
{
    static char copy[512];
    static char empty[] = "";
    char *argv[WORDS_MAX] = {empty};
    int argc = 1;
    char *rest = copy;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strsep(&rest, " "); word; word = strsep(&rest, " "))
        if (word[0])
            argv[argc++] = strcmp(word, "~") == 0 ? empty : word;
    assert_true(argc < WORDS_MAX);
    cellar_options_init(options);
    return cellar_options_parse(options, argc, argv, err);
}

static struct cellar_options parsed(const char *line)
{
    struct cellar_error err = {0};
    struct cellar_options options;
    if (parse(&options, line, &err) != CELLAR_OK)
        fail_msg("%s: %s", line, err.msg);
    return options;
}

/* Each of `words`, parted by '|', stands in the message. */
static void expect_refused(const char *line, const char *words)
{
    struct cellar_error err = {0};
    struct cellar_options options;
    char copy[256] = "";
    char *rest = copy;
    print_message("%s\n", line);
    assert_int_equal(parse(&options, line, &err), CELLAR_E_USAGE);
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strsep(&rest, "|"); word; word = strsep(&rest, "|"))
        if (!strstr(err.msg, word))
            fail_msg("'%s' is not in '%s'", word, err.msg);
    cellar_options_done(&options);
}

/* --------------------------------------------------------------- table -- */

static void the_table_is_sound(void **state)
{
    bool letters[128] = {false};
    size_t count = cellar_option_count();
    (void)state;
    assert_in_range(count, 1, 64);
    for (size_t i = 0; i < count; i++) {
        struct cellar_option option = cellar_option_at(i);
        assert_int_equal(cellar_option_find(option.name), i);
        assert_true(option.commands != 0);
        assert_int_equal(option.commands & ~(unsigned)CELLAR_ON_ALL, 0);
        assert_true(option.text && option.text[0]);
        assert_int_equal(option.value == NULL,
                         option.type == CELLAR_OPTION_FLAG);
        assert_int_equal(option.slots > 0, option.type == CELLAR_OPTION_LIST);
        assert_true(option.offset < sizeof(struct cellar_options));
        if (option.type == CELLAR_OPTION_NUMBER)
            assert_true(option.min <= option.max);
        if (option.letter) {
            assert_false(letters[(int)option.letter]);
            letters[(int)option.letter] = true;
        }
    }
}

/* What a number's bounds and default say is what the parser takes. */
static void presets_and_bounds_can_be_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < cellar_option_count(); i++) {
        struct cellar_option option = cellar_option_at(i);
        char preset[CELLAR_OPTION_PRESET_MAX] = "";
        char bounds[2][CELLAR_UNIT_TEXT_MAX] = {"", ""};
        struct cellar_options options;
        struct cellar_error err = {0};
        if (option.type != CELLAR_OPTION_NUMBER)
            continue;
        cellar_options_init(&options);
        cellar_option_preset(&option, preset);
        cellar_unit_write(option.unit, option.min, bounds[0]);
        cellar_unit_write(option.unit, option.max, bounds[1]);
        const char *texts[] = {bounds[0], bounds[1],
                               preset[0] ? preset : bounds[0]};
        for (size_t t = 0; t < 3; t++)
            if (cellar_options_set(&options, i, option.name, texts[t], &err) !=
                CELLAR_OK)
                fail_msg("%s", err.msg);
    }
}

static void the_library_accepts_the_presets(void **state)
{
    struct cellar_error err = {0};
    struct cellar_options options = parsed("start x");
    (void)state;
    assert_int_equal(cellar_spec_check(&options.spec, &err), CELLAR_OK);
    cellar_options_done(&options);
}

static void commands_are_sound(void **state)
{
    unsigned seen = 0;
    (void)state;
    for (size_t i = 0; cellar_commands[i]; i++) {
        const struct cellar_command *command = cellar_commands[i];
        assert_ptr_equal(cellar_command_find(command->name), command);
        assert_int_equal(seen & command->bit, 0);
        assert_true(command->run && command->text[0]);
        assert_true(command->operands_min <= command->operands_max);
        seen |= command->bit;
        for (const char *at = command->details; *at;) {
            size_t len = strcspn(at, "\n");
            assert_in_range(len, 0, 79);
            assert_int_equal(at[len], '\n');
            at += len + 1;
        }
    }
    assert_null(cellar_command_find("nothing"));
}

/* The help of `command`, in a buffer that the next call overwrites. */
static const char *help_of(const struct cellar_command *command)
{
    static char text[16384];
    FILE *file = tmpfile();
    struct cellar_output out;
    assert_non_null(file);
    cellar_output_init(&out, fileno(file));
    cellar_help_print(&out, command);
    assert_true(cellar_output_ok(&out));
    rewind(file);
    size_t len = fread(text, 1, sizeof text - 1, file);
    assert_in_range(len, 1, sizeof text - 2);
    text[len] = '\0';
    (void)fclose(file);
    return text;
}

static bool shows_option(const char *help, const char *name)
{
    char text[64] = "";
    snprintf(text, sizeof text, " --%s ", name);
    const char *at = strstr(help, text);
    snprintf(text, sizeof text, " --%s\n", name);
    return at || strstr(help, text);
}

static void help_shows_what_the_tables_say(void **state)
{
    (void)state;
    for (size_t c = 0; cellar_commands[c]; c++) {
        const struct cellar_command *command = cellar_commands[c];
        const char *help = help_of(command);
        assert_non_null(strstr(help, command->text));
        assert_non_null(strstr(help, command->details));
        for (size_t i = 0; i < cellar_option_count(); i++) {
            struct cellar_option option = cellar_option_at(i);
            bool wanted = option.commands & command->bit;
            if (shows_option(help, option.name) != wanted)
                fail_msg("--%s in the help of %s", option.name, command->name);
        }
        assert_non_null(strstr(help_of(NULL), command->text));
    }
}

/* -------------------------------------------------------- command line -- */

static void options_stand_anywhere(void **state)
{
    (void)state;
    struct cellar_options options = parsed(
        "--json start --memory 1g name --cpus=1.5 -v --timeout 0 --mount /a:/b "
        "--mount=/c:/d:rw --image data --pids 99");
    assert_int_equal(options.operand_count, 2);
    assert_string_equal(options.operands[0], "start");
    assert_string_equal(options.operands[1], "name");
    assert_true(options.json && options.verbose);
    assert_false(options.help || options.version || options.all);
    assert_int_equal(options.spec.memory_bytes, 1 << 30);
    assert_int_equal(options.spec.cpu_millis, 1500);
    assert_int_equal(options.spec.timeout_ms, 0);
    assert_int_equal(options.spec.pids, 99);
    assert_string_equal(options.spec.mounts[0], "/a:/b");
    assert_string_equal(options.spec.mounts[1], "/c:/d:rw");
    assert_null(options.spec.mounts[2]);
    assert_string_equal(options.spec.image, "cellar-runtime:data");
    assert_true(cellar_options_given(&options, "memory"));
    assert_false(cellar_options_given(&options, "files"));
    cellar_options_done(&options);
}

static void letters_and_operands(void **state)
{
    (void)state;
    struct cellar_options options = parsed("run -kjo out.ipynb -");
    assert_true(options.keep_going && options.json);
    assert_string_equal(options.output, "out.ipynb");
    assert_string_equal(options.operands[1], "-");
    cellar_options_done(&options);
    options = parsed("run -oout.ipynb a.py");
    assert_string_equal(options.output, "out.ipynb");
    cellar_options_done(&options);
    options = parsed("exec name --json -- -1+2");
    assert_true(options.json);
    assert_string_equal(options.operands[2], "-1+2");
    cellar_options_done(&options);
    options = parsed("exec -- name --json");
    assert_false(options.json);
    assert_string_equal(options.operands[2], "--json");
    cellar_options_done(&options);
}

static void the_last_of_two_values_counts(void **state)
{
    (void)state;
    struct cellar_options options = parsed("ps --engine a --engine b");
    assert_string_equal(options.engine, "b");
    cellar_options_done(&options);
}

static void bad_command_lines_are_refused(void **state)
{
    (void)state;
    expect_refused("exec x --memroy 1g", "--memroy|--memory?");
    expect_refused("exec x --jsno", "--jsno|--json?");
    expect_refused("exec x --entirelyunknown", "--entirelyunknown");
    expect_refused("exec x -Z", "-Z|--");
    expect_refused("start x --memory", "--memory|SIZE|missing");
    expect_refused("start x -o", "--output|missing");
    expect_refused("start x --json=yes", "--json|no value");
    expect_refused("start x --engine ~", "--engine|empty");
}

static void bad_numbers_are_refused_by_name(void **state)
{
    (void)state;
    expect_refused("start x --timeout -1", "--timeout|'-1'|duration|30s");
    expect_refused("start x --timeout 1e308", "--timeout|1e308|30s");
    expect_refused("start x --timeout nan", "--timeout|nan|30s");
    expect_refused("start x --timeout abc", "--timeout|abc|30s");
    expect_refused("start x --timeout 31d", "--timeout|31d|1ms to 30d|0");
    expect_refused("start x --memory 1", "--memory|1 is|32m to 1t|512m");
    expect_refused("start x --memory 0", "--memory|0 is|32m to 1t|512m");
    expect_refused("start x --memory 9223372036854775808",
                   "--memory|9223372036854775808|32m to 1t");
    expect_refused("start x --memory 99999999999999999999",
                   "--memory|99999999999999999999|32m to 1t");
    expect_refused("start x --memory 12gg", "--memory|'12gg'|size|512m");
    expect_refused("start x --cpus 0", "--cpus|0.01 to 1024|1.5");
    expect_refused("start x --cpus inf", "--cpus|'inf'|cores|1.5");
    expect_refused("start x --pids 1.5", "--pids|'1.5'|whole number|128");
}

static void a_list_has_an_end(void **state)
{
    struct cellar_error err = {0};
    struct cellar_options options;
    size_t mount = cellar_option_find("mount");
    (void)state;
    cellar_options_init(&options);
    for (size_t i = 0; i < CELLAR_MOUNTS_MAX; i++)
        assert_int_equal(
            cellar_options_set(&options, mount, "--mount", "/a:/b", &err),
            CELLAR_OK);
    assert_int_equal(
        cellar_options_set(&options, mount, "--mount", "/a:/b", &err),
        CELLAR_E_USAGE);
    assert_non_null(strstr(err.msg, "--mount: at most 16"));
}

static void options_of_other_commands_are_refused(void **state)
{
    struct cellar_error err = {0};
    (void)state;
    struct cellar_options options = parsed("ps --memory 1g");
    assert_int_equal(cellar_options_allowed(&options, CELLAR_ON_PS, "ps", &err),
                     CELLAR_E_USAGE);
    assert_non_null(strstr(err.msg, "--memory"));
    assert_non_null(strstr(err.msg, "cellar ps"));
    assert_int_equal(
        cellar_options_allowed(&options, CELLAR_ON_START, "start", &err),
        CELLAR_OK);
    cellar_options_done(&options);
}

static void a_cells_timeout(void **state)
{
    (void)state;
    struct cellar_options options = parsed("exec x");
    assert_int_equal(cellar_options_cell_timeout(&options), 0);
    cellar_options_done(&options);
    options = parsed("exec x --timeout 2s");
    assert_int_equal(cellar_options_cell_timeout(&options), 2000);
    cellar_options_done(&options);
    options = parsed("exec x -t 0");
    assert_true(cellar_options_cell_timeout(&options) == UINT64_MAX);
    cellar_options_done(&options);
}

/* No config file but the tests' own. */
static int without_config(void **state)
{
    (void)state;
    unsetenv("CELLAR_CONFIG");
    unsetenv("HOME");
    return unsetenv("XDG_CONFIG_HOME");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(presets_and_bounds_can_be_written),
        cmocka_unit_test(the_library_accepts_the_presets),
        cmocka_unit_test(commands_are_sound),
        cmocka_unit_test(help_shows_what_the_tables_say),
        cmocka_unit_test(options_stand_anywhere),
        cmocka_unit_test(letters_and_operands),
        cmocka_unit_test(the_last_of_two_values_counts),
        cmocka_unit_test(bad_command_lines_are_refused),
        cmocka_unit_test(bad_numbers_are_refused_by_name),
        cmocka_unit_test(a_list_has_an_end),
        cmocka_unit_test(options_of_other_commands_are_refused),
        cmocka_unit_test(a_cells_timeout),
    };
    return cmocka_run_group_tests(tests, without_config, NULL);
}
