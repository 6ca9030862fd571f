/* The config file: defaults by option name, and clear words for bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/cli/config.h"

static char directory[] = "/tmp/cellar-test-config-XXXXXX";
static char path[128];

static void write_config(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) < 0, 0);
    assert_int_equal(fclose(file), 0);
}

static enum cellar_code read_config(const char *text,
                                    struct cellar_options *options,
                                    struct cellar_error *err)
{
    cellar_options_init(options);
    return cellar_config_read("dir/c.json", text, strlen(text), options, err);
}

static void values_are_set(void **state)
{
    struct cellar_error err = {0};
    struct cellar_options options;
    (void)state;
    assert_int_equal(
        read_config("{\"memory\": \"1g\", \"pids\": 99, \"cpus\": 0.5, "
                    "\"timeout\": 7, \"image\": \"slim\", \"json\": true, "
                    "\"verbose\": false, \"mount\": [\"/a:/b\", \"/c:/d\"]}",
                    &options, &err),
        CELLAR_OK);
    assert_int_equal(options.spec.memory_bytes, 1 << 30);
    assert_int_equal(options.spec.pids, 99);
    assert_int_equal(options.spec.cpu_millis, 500);
    assert_int_equal(options.spec.timeout_ms, 7000);
    assert_string_equal(options.spec.image, "cellar-runtime:slim");
    assert_true(options.json);
    assert_false(options.verbose);
    assert_string_equal(options.spec.mounts[1], "/c:/d");
    /* A config file gives defaults: nothing was asked for. */
    assert_true(options.given == 0);
    cellar_options_done(&options);
}

static void bad_files_are_refused_by_name(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"", "line 1"},
        {"{\n\"memory\" 1}", "line 2, column 10"},
        {"[]", "object"},
        {"{\"memroy\": \"1g\"}",
         "unknown key 'memroy'; did you mean 'memory'?"},
        {"{\"entirely-unknown\": 1}", "unknown key 'entirely-unknown'"},
        {"{\"help\": true}", "unknown key 'help'"},
        {"{\"config\": \"x\"}", "unknown key 'config'"},
        {"{\"output\": \"x\"}", "unknown key 'output'"},
        {"{\"memory\": \"12gg\"}", "memory: '12gg' is not a size"},
        {"{\"memory\": 1}", "memory: 1 is out of bounds"},
        {"{\"memory\": -1}", "memory: '-1'"},
        {"{\"timeout\": 1e308}", "timeout: '1e+308'"},
        {"{\"timeout\": \"nan\"}", "timeout: 'nan'"},
        {"{\"memory\": null}", "memory: must be a text or a number"},
        {"{\"memory\": [1]}", "memory: must be a text or a number"},
        {"{\"engine\": 7}", "engine: must be a text"},
        {"{\"engine\": \"\"}", "engine: its value is empty"},
        {"{\"json\": \"yes\"}", "json: must be true or false"},
        {"{\"mount\": \"/a:/b\"}", "mount: must be a list"},
        {"{\"mount\": [7]}", "mount: must be a list"},
        {"{\"pids\": 64, \"pids\": 65}", "duplicate"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cellar_error err = {0};
        struct cellar_options options;
        print_message("%s\n", cases[i].text);
        assert_int_equal(read_config(cases[i].text, &options, &err),
                         CELLAR_E_USAGE);
        assert_non_null(strstr(err.msg, "dir/c.json: "));
        if (!strstr(err.msg, cases[i].message))
            fail_msg("'%s' is not in '%s'", cases[i].message, err.msg);
        cellar_options_done(&options);
    }
}

static void parse(struct cellar_options *options, char **argv)
{
    struct cellar_error err = {0};
    int argc = 0;
    while (argv[argc])
        argc++;
    cellar_options_init(options);
    if (cellar_options_parse(options, argc, argv, &err) != CELLAR_OK)
        fail_msg("%s", err.msg);
}

#define ARGV(...)  ((char *[]){(char[]){"cellar"}, __VA_ARGS__, NULL})
#define WORD(text) ((char[]){text})

static void the_command_line_beats_the_file(void **state)
{
    struct cellar_options options;
    (void)state;
    write_config("{\"memory\": \"1g\", \"pids\": 99, \"mount\": [\"/a:/b\", "
                 "\"/c:/d\"]}");
    parse(&options,
          ARGV(WORD("start"), WORD("--memory"), WORD("64m"), WORD("--mount"),
               WORD("/x:/y"), WORD("--config"), path));
    assert_int_equal(options.spec.memory_bytes, 64 << 20);
    assert_int_equal(options.spec.pids, 99);
    assert_string_equal(options.spec.mounts[0], "/x:/y");
    assert_null(options.spec.mounts[1]);
    cellar_options_done(&options);
}

static void the_file_is_found(void **state)
{
    struct cellar_options options;
    char folder[128] = "";
    (void)state;
    write_config("{\"pids\": 98}");
    setenv("CELLAR_CONFIG", path, 1);
    parse(&options, ARGV(WORD("ps")));
    assert_int_equal(options.spec.pids, 98);
    cellar_options_done(&options);
    unsetenv("CELLAR_CONFIG");

    parse(&options, ARGV(WORD("ps")));
    assert_int_equal(options.spec.pids, 128);
    cellar_options_done(&options);

    snprintf(folder, sizeof folder, "%s/cellar", directory);
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(folder, sizeof folder, "%s/cellar/config.json", directory);
    assert_int_equal(rename(path, folder), 0);
    setenv("XDG_CONFIG_HOME", directory, 1);
    parse(&options, ARGV(WORD("ps")));
    assert_int_equal(options.spec.pids, 98);
    cellar_options_done(&options);
    unsetenv("XDG_CONFIG_HOME");
    assert_int_equal(unlink(folder), 0);
    snprintf(folder, sizeof folder, "%s/cellar", directory);
    assert_int_equal(rmdir(folder), 0);
}

static void a_file_that_was_named_must_be_there(void **state)
{
    struct cellar_error err = {0};
    struct cellar_options options;
    char **argv = ARGV(WORD("ps"), WORD("--config"), WORD("/nowhere/c.json"));
    (void)state;
    cellar_options_init(&options);
    assert_int_equal(cellar_options_parse(&options, 4, argv, &err),
                     CELLAR_E_USAGE);
    assert_non_null(strstr(err.msg, "/nowhere/c.json"));
    cellar_options_done(&options);
    cellar_options_init(&options);
    argv[2] = WORD("--help");
    assert_int_equal(cellar_options_parse(&options, 3, argv, &err), CELLAR_OK);
    cellar_options_done(&options);
}

static void a_file_without_end_is_refused(void **state)
{
    struct cellar_error err = {0};
    struct cellar_options options;
    (void)state;
    cellar_options_init(&options);
    assert_int_equal(cellar_config_load("/dev/zero", &options, &err),
                     CELLAR_E_USAGE);
    assert_non_null(strstr(err.msg, "/dev/zero: longer than 1 MB"));
    assert_int_equal(cellar_config_load("/tmp", &options, &err),
                     CELLAR_E_USAGE);
    assert_non_null(strstr(err.msg, "/tmp: "));
}

static int make_directory(void **state)
{
    (void)state;
    unsetenv("CELLAR_CONFIG");
    unsetenv("HOME");
    unsetenv("XDG_CONFIG_HOME");
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof path, "%s/c.json", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_set),
        cmocka_unit_test(bad_files_are_refused_by_name),
        cmocka_unit_test(the_command_line_beats_the_file),
        cmocka_unit_test(the_file_is_found),
        cmocka_unit_test(a_file_that_was_named_must_be_there),
        cmocka_unit_test(a_file_without_end_is_refused),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
