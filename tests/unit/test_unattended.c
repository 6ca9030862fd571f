/* What is told of a cell that ended while nobody was attached. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "kernel/cli/unattended.h"

/* A text that may be written, as a result's own are; lives with the test. */
#define TEXT(text) (((char[]){text}))

static struct cellar_result ok_result(void)
{
    static char empty[] = "";
    return (struct cellar_result){
        .cell = 7, .stdout_text = empty, .stderr_text = empty};
}

static struct cellar_result error_result(char *name, char *message)
{
    struct cellar_result result = ok_result();
    result.status = CELLAR_STATUS_ERROR;
    result.error_name = name;
    result.error_message = message;
    return result;
}

static void expect_ending(const struct cellar_result *result, const char *want)
{
    char line[CELLAR_UNATTENDED_MAX] = "";
    cellar_unattended_ending(result, line);
    assert_string_equal(line, want);
}

/* What is printed, in a buffer that the next call overwrites. */
static const char *told(const struct cellar_result *result, bool json)
{
    static char text[4096];
    struct cellar_output out;
    FILE *file = tmpfile();
    assert_non_null(file);
    cellar_output_init(&out, fileno(file));
    cellar_unattended_tell(&out, "lab", result, json);
    assert_true(cellar_output_ok(&out));
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    (void)fclose(file);
    return text;
}

static void an_ending_is_one_line(void **state)
{
    struct cellar_result result = ok_result();
    (void)state;
    expect_ending(&result, "ok");
    result.status = CELLAR_STATUS_TIMEOUT;
    result.limit = CELLAR_LIMIT_TIMEOUT;
    result.limit_value = 2000;
    expect_ending(&result, "timeout after 2 s; state kept");
    result = error_result(TEXT("ValueError"), TEXT("no"));
    expect_ending(&result, "ValueError: no");
    result = error_result(TEXT("ValueError"), TEXT("no\nand no"));
    expect_ending(&result, "ValueError: no ...");
    result = error_result(TEXT("KeyError"), NULL);
    expect_ending(&result, "KeyError");
    result = error_result(TEXT("KeyError"), TEXT(""));
    expect_ending(&result, "KeyError");
    result = ok_result();
    result.status = CELLAR_STATUS_LOST;
    result.reason = TEXT("it was removed\nby somebody");
    expect_ending(&result, "lost: it was removed");
}

/* No character is cut in two. */
static void a_long_message_is_cut(void **state)
{
    char message[1001] = "";
    char line[CELLAR_UNATTENDED_MAX] = "";
    (void)state;
    for (size_t i = 0; i + 2 < sizeof message; i += 2)
        memcpy(message + i + (i == 0), "\xc3\xa9", 2);
    message[0] = 'x';
    struct cellar_result result = error_result(TEXT("E"), message);
    cellar_unattended_ending(&result, line);
    assert_string_equal(line + strlen(line) - 6, "\xc3\xa9 ...");
}

static void it_says_where_to_see_more(void **state)
{
    struct cellar_result result = ok_result();
    (void)state;
    assert_string_equal(
        told(&result, false),
        "cellar: cell 7 ended while nobody was attached: ok; 'cellar history "
        "lab --cell 7' shows it\n");
}

static void json_has_the_result_object(void **state)
{
    struct cellar_result result = error_result(TEXT("E"), TEXT("a\nb"));
    (void)state;
    const char *text = told(&result, true);
    const char *head = "{\"unattended\":{\"cell\":7,\"status\":\"error\",";
    assert_int_equal(strncmp(text, head, strlen(head)), 0);
    assert_non_null(strstr(text, "\"message\":\"a\\nb\""));
    assert_string_equal(strchr(text, '\n'), "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_ending_is_one_line),
        cmocka_unit_test(a_long_message_is_cut),
        cmocka_unit_test(it_says_where_to_see_more),
        cmocka_unit_test(json_has_the_result_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
