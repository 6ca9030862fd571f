/* Files read and written with no memory: notebooks, scripts, the config file,
 * the record of a session. */
#include "oom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/cli/config.h"
#include "kernel/cli/entry.h"
#include "kernel/cli/notebook.h"
#include "kernel/cli/script.h"
#include "kernel/json.h"
#include "kernel/record.h"

static const char notebook_text[] =
    "{\"cells\": [{\"cell_type\": \"markdown\", \"metadata\": {}, \"source\": "
    "[\"# A tour\"]}, {\"cell_type\": \"code\", \"execution_count\": 1, "
    "\"metadata\": {}, \"outputs\": [], \"source\": [\"x = 1\\n\", \"x\"]}, "
    "{\"cell_type\": \"code\", \"source\": \"print(x)\"}], \"metadata\": "
    "{\"language_info\": {\"name\": \"python\"}}, \"nbformat\": 4, "
    "\"nbformat_minor\": 5}";
static const char script_text[] = "import math\n# %% one\nmath.pi\n# %%\nx\n";
static const char config_text[] =
    "{\"memory\": \"1g\", \"cpus\": 2, \"mount\": [\"/srv:/srv\"]}";

/* ----------------------------------------------------------- notebooks -- */

static enum cellar_code record_all(struct cellar_notebook *notebook,
                                   struct cellar_error *err)
{
    char out[] = "printed\n";
    struct cellar_part part = {"text/plain", "1", 1};
    struct cellar_result results[] = {{.cell = 1,
                                       .stdout_text = out,
                                       .stdout_len = 8,
                                       .result = &part,
                                       .result_count = 1},
                                      {.cell = 2,
                                       .status = CELLAR_STATUS_ERROR,
                                       .error_name = out,
                                       .error_message = out,
                                       .traceback = out}};
    enum cellar_code code = cellar_notebook_clear(notebook, err);
    for (size_t i = 0; code == CELLAR_OK && i < 2; i++)
        code = cellar_notebook_record(notebook, i, &results[i], err);
    return code;
}

/* `user`: where the first whole text is kept; later ones must be the same. */
static enum cellar_code write_out(const struct cellar_notebook *notebook,
                                  char **whole, struct cellar_error *err)
{
    char *text = NULL;
    size_t len = 77;
    enum cellar_code code = cellar_notebook_write(notebook, &text, &len, err);
    assert_true((code == CELLAR_OK) == (text != NULL));
    assert_true(code == CELLAR_OK || len == 77);
    oom_pause(true);
    if (text && !*whole)
        *whole = strdup(text);
    if (text)
        assert_string_equal(text, *whole);
    oom_pause(false);
    free(text);
    return code;
}

static enum cellar_code run_notebook(void *user)
{
    struct cellar_notebook *notebook = NULL;
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code code = cellar_notebook_read(
        "a.ipynb", notebook_text, strlen(notebook_text), &notebook, &err);
    assert_true((code == CELLAR_OK) == (notebook != NULL));
    if (code == CELLAR_OK) {
        assert_int_equal(cellar_notebook_count(notebook), 2);
        code = record_all(notebook, &err);
    }
    if (code == CELLAR_OK)
        code = write_out(notebook, user, &err);
    assert_int_equal(err.code, code);
    cellar_notebook_free(notebook);
    return code;
}

/* The text is of a run before any failure: made here, once. */
static void a_notebook_is_read_run_and_written_or_says_no_memory(void **state)
{
    char *whole = NULL;
    (void)state;
    assert_int_equal(run_notebook(&whole), CELLAR_OK);
    oom_sweep(run_notebook, &whole);
    free(whole);
}

static enum cellar_code read_script(void *user)
{
    struct cellar_notebook *notebook = NULL;
    struct cellar_error err = {.code = CELLAR_OK};
    (void)user;
    enum cellar_code code = cellar_script_read(
        "a.py", script_text, strlen(script_text), &notebook, &err);
    assert_true((code == CELLAR_OK) == (notebook != NULL));
    assert_int_equal(err.code, code);
    if (notebook)
        assert_int_equal(cellar_notebook_count(notebook), 3);
    cellar_notebook_free(notebook);
    return code;
}

static void a_script_is_read_or_says_no_memory(void **state)
{
    (void)state;
    oom_sweep(read_script, NULL);
}

static enum cellar_code write_script(void *user)
{
    size_t parted = 77;
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code code = cellar_script_put(
        user, "one", script_text, strlen(script_text), &parted, &err);
    assert_int_equal(err.code, code);
    assert_int_equal(parted, 0);
    return code;
}

static void a_script_is_written_or_says_no_memory(void **state)
{
    FILE *nowhere = fopen("/dev/null", "w");
    (void)state;
    assert_non_null(nowhere);
    oom_sweep(write_script, nowhere);
    (void)fclose(nowhere);
}

/* ------------------------------------------------------------- history -- */

static enum cellar_code show_entry(void *user)
{
    char out[] = "printed\n";
    struct cellar_part part = {"text/plain", "1", 1};
    struct cellar_result result = {.cell = 1,
                                   .stdout_text = out,
                                   .stdout_len = 8,
                                   .result = &part,
                                   .result_count = 1};
    struct cellar_entry entry = {
        .cell = 1, .code = "x", .code_len = 1, .result = &result};
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code code = cellar_entry_json(user, &entry, &err);
    assert_int_equal(err.code, code);
    return code;
}

static void an_entry_is_shown_or_says_no_memory(void **state)
{
    struct cellar_output out;
    FILE *nowhere = fopen("/dev/null", "w");
    (void)state;
    assert_non_null(nowhere);
    cellar_output_init(&out, fileno(nowhere));
    oom_sweep(show_entry, &out);
    assert_true(cellar_output_ok(&out));
    (void)fclose(nowhere);
}

static enum cellar_code export_notebook(void *user)
{
    struct cellar_notebook *notebook = NULL;
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code code = cellar_notebook_new(&notebook, &err);
    if (code == CELLAR_OK)
        code = cellar_notebook_add(notebook, "x", 1, &err);
    if (code == CELLAR_OK)
        code = cellar_notebook_remark(notebook, "a word", &err);
    if (code == CELLAR_OK)
        code = write_out(notebook, user, &err);
    assert_int_equal(err.code, code);
    cellar_notebook_free(notebook);
    return code;
}

static void a_notebook_is_made_or_says_no_memory(void **state)
{
    char *whole = NULL;
    (void)state;
    assert_int_equal(export_notebook(&whole), CELLAR_OK);
    assert_non_null(strstr(whole, "\"markdown\""));
    oom_sweep(export_notebook, &whole);
    free(whole);
}

/* -------------------------------------------------------------- config -- */

static enum cellar_code read_config(void *user)
{
    struct cellar_options options;
    struct cellar_error err = {.code = CELLAR_OK};
    (void)user;
    cellar_options_init(&options);
    enum cellar_code code = cellar_config_read(
        "config.json", config_text, strlen(config_text), &options, &err);
    assert_int_equal(err.code, code);
    if (code == CELLAR_OK) {
        assert_int_equal(options.spec.memory_bytes, 1 << 30);
        assert_int_equal(options.spec.cpu_millis, 2000);
        assert_string_equal(options.spec.mounts[0], "/srv:/srv");
    }
    cellar_options_done(&options);
    return code;
}

static void a_config_is_read_or_says_no_memory(void **state)
{
    (void)state;
    oom_sweep(read_config, NULL);
}

/* ------------------------------------------------------------- records -- */
/* Of every length: with some of them the byte that found no room is the quote
 * that closes the text. */
static enum cellar_code parse(void *user)
{
    json_error_t where = {.text = "?"};
    const char *text = user;
    json_t *read = cellar_json_parse(text, strlen(text), 0, &where);
    bool whole = read && json_string_length(json_array_get(read, 0)) > 0;
    json_decref(read);
    assert_true(whole == (read != NULL));
    assert_true(read || cellar_json_starved(&where));
    return read ? CELLAR_OK : CELLAR_E_NOMEM;
}

static void json_of_any_length_is_read_or_says_no_memory(void **state)
{
    static const size_t lengths[] = {13, 14, 15, 29, 30, 31, 61, 62, 63};
    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        char text[80] = "[\"";
        memset(text + 2, 'x', lengths[i]);
        memcpy(text + 2 + lengths[i], "\"]", 3);
        oom_sweep(parse, text);
    }
}

struct saved {
    char state_dir[64];
    struct cellar_hold hold;
    struct cellar_record record;
};

static int open_state(void **state)
{
    static struct saved s;
    (void)snprintf(s.state_dir, sizeof(s.state_dir), "/tmp/cellar-oom-XXXXXX");
    char owner[CELLAR_OWNER_BYTES];
    assert_non_null(mkdtemp(s.state_dir));
    assert_int_equal(cellar_state_open(s.state_dir, owner, NULL), CELLAR_OK);
    assert_int_equal(cellar_hold_take(s.state_dir, "tour", &s.hold, NULL),
                     CELLAR_OK);
    s.record = (struct cellar_record){.name = "tour",
                                      .engine = "docker",
                                      .container = "8c1f04ab3e7d",
                                      .key = "a key of the test's",
                                      .uid = 61001,
                                      .cells = 3};
    assert_int_equal(cellar_record_save(&s.hold, &s.record, NULL), CELLAR_OK);
    *state = &s;
    return 0;
}

static int close_state(void **state)
{
    struct saved *s = *state;
    char path[80];
    cellar_record_remove(s->state_dir, "tour", &s->hold);
    cellar_hold_done(&s->hold);
    (void)snprintf(path, sizeof(path), "%s/owner", s->state_dir);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof(path), "%s/sessions", s->state_dir);
    assert_int_equal(rmdir(path), 0);
    (void)snprintf(path, sizeof(path), "%s/supervisors", s->state_dir);
    assert_int_equal(rmdir(path), 0);
    return rmdir(s->state_dir);
}

/* Not by memcmp() of the whole: what lies between the fields is anything. */
static bool same(const struct cellar_record *a, const struct cellar_record *b)
{
    const size_t numbers = offsetof(struct cellar_record, uid);
    return strcmp(a->name, b->name) == 0 && strcmp(a->engine, b->engine) == 0 &&
           strcmp(a->container, b->container) == 0 &&
           strcmp(a->image, b->image) == 0 &&
           strcmp(a->python, b->python) == 0 &&
           memcmp(a->key, b->key, sizeof(a->key)) == 0 &&
           memcmp((const char *)a + numbers, (const char *)b + numbers,
                  sizeof(*a) - numbers) == 0;
}

static enum cellar_code load(void *user)
{
    const struct saved *s = user;
    struct cellar_record loaded = {.uid = 77};
    struct cellar_record before = loaded;
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code code =
        cellar_record_load(s->state_dir, "tour", &loaded, &err);
    assert_int_equal(err.code, code);
    assert_true(same(&loaded, code == CELLAR_OK ? &s->record : &before));
    return code;
}

static enum cellar_code save(void *user)
{
    struct saved *s = user;
    struct cellar_error err = {.code = CELLAR_OK};
    enum cellar_code code = cellar_record_save(&s->hold, &s->record, &err);
    assert_int_equal(err.code, code);
    oom_pause(true);
    assert_int_equal(load(user), CELLAR_OK); /* what stands is whole */
    oom_pause(false);
    return code;
}

static void a_record_is_loaded_whole_or_not_at_all(void **state)
{
    oom_sweep(load, *state);
}

static void a_record_is_saved_whole_or_stays_as_it_was(void **state)
{
    oom_sweep(save, *state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_notebook_is_read_run_and_written_or_says_no_memory),
        cmocka_unit_test(a_script_is_read_or_says_no_memory),
        cmocka_unit_test(a_script_is_written_or_says_no_memory),
        cmocka_unit_test(an_entry_is_shown_or_says_no_memory),
        cmocka_unit_test(a_notebook_is_made_or_says_no_memory),
        cmocka_unit_test(a_config_is_read_or_says_no_memory),
        cmocka_unit_test(json_of_any_length_is_read_or_says_no_memory),
        cmocka_unit_test_setup_teardown(a_record_is_loaded_whole_or_not_at_all,
                                        open_state, close_state),
        cmocka_unit_test_setup_teardown(
            a_record_is_saved_whole_or_stays_as_it_was, open_state,
            close_state),
    };
    oom_init();
    return cmocka_run_group_tests_name("oom files", tests, NULL, NULL);
}
