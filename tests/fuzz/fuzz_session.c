/*
 * A session whose agent holds the key and lies. The first byte of the input
 * says how the agent begins; then come steps, each a letter's byte and what it
 * needs: what the agent says next, what the user asks, how much time goes by.
 * Whatever comes: everybody who waits is told once, no more output is handed
 * out than the cap allows, each result is JSON, the container is removed, and
 * nothing is left on the loop or in the state directory.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_loop.h"
#include "fuzz.h"
#include "kernel/supervisor.h"
#include "kernel/supervisor_private.h"
#include "kernel/utf8.h"
#include "puppet.h"

#define OUTPUT_CAP 4096

/* LEAVES: an unnamed session is left to cellar_free(), also amid its start. */
enum { SILENT = 1, NO_READY = 2, START_FAILS = 4, NAMED = 8, LEAVES = 16 };

static char state_dir[] = "/dev/shm/cellar-fuzz-XXXXXX";

struct input {
    const uint8_t *data;
    size_t len;
};

static struct {
    struct cellar *c;
    struct cellar_session *s; /* NULL: not there yet, or gone */
    unsigned opened, ran, ended, resets, resets_told, adopts, adopts_told;
    unsigned asks, asks_told;
    uint8_t how;
} run;

static void must(int fine)
{
    if (!fine)
        abort();
}

static uint8_t take_byte(struct input *in)
{
    if (in->len == 0)
        return 0;
    in->len--;
    return *in->data++;
}

/* A length byte and so many bytes, as far as they are there. */
static struct cellar_bytes take_bytes(struct input *in)
{
    size_t len = take_byte(in);
    len = len < in->len ? len : in->len;
    struct cellar_bytes bytes = {in->data, len};
    in->data += len;
    in->len -= len;
    return bytes;
}

/* ---------------------------------------------------------- the agent -- */

static void on_message(const struct cellar_message *msg)
{
    if (msg->type != CELLAR_MSG_HELLO || run.how & SILENT)
        return;
    puppet_welcome();
    if (!(run.how & NO_READY))
        puppet_ready(1);
}

static void say_output(struct input *in)
{
    struct cellar_message msg = {.type = CELLAR_MSG_OUTPUT};
    msg.cell = take_byte(in);
    msg.u.output.stream = take_byte(in);
    msg.u.output.data = take_bytes(in);
    for (unsigned n = 1u + take_byte(in); n > 0; n--)
        puppet_say(&msg);
}

static void say_done(struct input *in)
{
    struct cellar_message msg = {.type = CELLAR_MSG_DONE};
    struct cellar_msg_done *done = &msg.u.done;
    msg.cell = take_byte(in);
    done->status = take_byte(in);
    done->state = take_byte(in);
    done->restored_from = take_byte(in);
    done->limit = take_byte(in);
    done->code = take_byte(in);
    done->dropped_stdout = take_byte(in);
    done->has_error = done->status == CELLAR_STATUS_ERROR;
    if (done->has_error)
        done->error_name = done->traceback = take_bytes(in);
    done->parts = take_byte(in) % 3;
    for (size_t i = 0; i < done->parts; i++)
        done->result[i] = (struct cellar_mime_part){
            {(const uint8_t *)"text/plain", 10}, take_bytes(in)};
    puppet_say(&msg);
}

static void say_payload(struct input *in)
{
    struct cellar_bytes bytes = take_bytes(in);
    if (puppet.link.state == CELLAR_LINK_OPEN && bytes.len > 0)
        must(cellar_link_send_payload(&puppet.link, bytes.data, bytes.len,
                                      &puppet.out) == CELLAR_OK);
}

static void say_raw(struct input *in)
{
    struct cellar_bytes bytes = take_bytes(in);
    must(cellar_buf_append(&puppet.out, bytes.data, bytes.len) == CELLAR_OK);
}

static void say_display(struct input *in)
{
    struct cellar_message msg = {.type = CELLAR_MSG_DISPLAY};
    msg.cell = take_byte(in);
    msg.u.display.count = 1;
    msg.u.display.parts[0].type = take_bytes(in);
    msg.u.display.parts[0].data = take_bytes(in);
    puppet_say(&msg);
}

static void say_reply(struct input *in)
{
    struct cellar_message msg = {.type = CELLAR_MSG_REPLY};
    msg.u.reply.request = take_byte(in);
    msg.u.reply.ok = take_byte(in) & 1;
    msg.u.reply.text = take_bytes(in);
    msg.u.reply.after = take_byte(in);
    msg.u.reply.lane = take_byte(in);
    puppet_say(&msg);
}

static void say_ready(struct input *in)
{
    puppet_ready(take_byte(in));
}

static void say_fault(struct input *in)
{
    struct cellar_message msg = {.type = CELLAR_MSG_FAULT};
    msg.u.fault.code = take_byte(in);
    msg.u.fault.text = take_bytes(in);
    puppet_say(&msg);
}

/* A session whose container lives is attached again, and greeted as it says. */
static void hang_up(struct input *in)
{
    uint8_t how = take_byte(in);
    puppet.vital = (enum cellar_vital)(how % 4u);
    puppet.welcome.generation = 1u + how / 4u % 4u;
    puppet.welcome.ready = how / 16u % 2u;
    puppet_hang_up();
}

/* ----------------------------------------------------------- the user -- */

static void check_result(struct cellar_result *result)
{
    must(result->status <= CELLAR_STATUS_LOST);
    must(result->stdout_text && result->stderr_text);
    must(cellar_utf8_valid(result->stdout_text, result->stdout_len));
    must(cellar_utf8_valid(result->stderr_text, result->stderr_len));
    /* A byte that is no UTF-8 takes three once it is replaced. */
    must(result->stdout_len + result->stderr_len <= 3 * OUTPUT_CAP);
    char *text = cellar_result_json(result);
    must(text != NULL && !strchr(text, '\n'));
    json_t *json = json_loads(text, JSON_ALLOW_NUL, NULL);
    must(json_is_object(json));
    json_decref(json);
    free(text);
}

static void on_result(void *user, struct cellar_result *result,
                      const struct cellar_error *err)
{
    size_t *heard = user;
    must(!result == !!err);
    if (result)
        check_result(result);
    cellar_result_free(result);
    must(*heard <= OUTPUT_CAP);
    free(heard);
    run.ended++;
}

static void on_output(void *user, int stream, const char *data, size_t len)
{
    must((stream == 1 || stream == 2) && data && len > 0);
    *(size_t *)user += len;
}

static void ask_run(struct input *in)
{
    struct cellar_cell cell = {.code = "x", .on_output = on_output};
    struct cellar_error err;
    cell.timeout_ms = 10u * take_byte(in);
    cell.user = calloc(1, sizeof(size_t));
    must(cell.user != NULL);
    if (run.s &&
        cellar_run_async(run.s, &cell, on_result, cell.user, &err) == CELLAR_OK)
        run.ran++;
    else
        free(cell.user);
}

static void ask_interrupt(struct input *in)
{
    struct cellar_error err;
    (void)in;
    if (run.s)
        (void)!cellar_interrupt(run.s, &err);
}

static void on_reset(void *user, struct cellar_session *s,
                     const struct cellar_error *err)
{
    (void)user;
    (void)s;
    (void)err;
    run.resets_told++;
}

static void ask_reset(struct input *in)
{
    struct cellar_error err;
    (void)in;
    if (run.s && cellar_reset_async(run.s, on_reset, NULL, &err) == CELLAR_OK)
        run.resets++;
}

static void on_moment(void *user, const struct cellar_moment *moment,
                      const struct cellar_error *err)
{
    (void)user;
    must(!moment == !!err);
    run.asks_told++;
}

/* Two branches, or what else is asked of a session between its cells. */
static void ask_moment(struct input *in)
{
    static const char *const names[] = {"twig", "sprig"};
    uint8_t what = take_byte(in);
    enum cellar_code code = CELLAR_E_LOST;
    struct cellar_error err;
    if (run.s && what % 5 == 4)
        code = cellar_fork_async(run.s, names, 1 + what / 5 % 2, on_moment,
                                 NULL, &err);
    else if (run.s)
        code = cellar_ask_async(run.s, (enum cellar_ask)(what % 5), "tag",
                                on_moment, NULL, &err);
    run.asks += code == CELLAR_OK;
}

/* Branches are recorded only under their names; the container is for whoever
 * is left. */
static void drop_branches(void)
{
    static const char *const names[] = {"twig", "sprig"};
    for (size_t i = 0; i < 2; i++) {
        struct cellar_hold hold = CELLAR_HOLD_NONE;
        struct cellar_record record;
        if (cellar_record_load(state_dir, names[i], &record, NULL) != CELLAR_OK)
            continue;
        must(run.how & NAMED);
        must(strcmp(record.name, names[i]) == 0 && record.container[0]);
        must(cellar_hold_take(state_dir, names[i], &hold, NULL) == CELLAR_OK);
        cellar_record_remove(state_dir, names[i], &hold);
        cellar_hold_done(&hold);
    }
}

static void on_adopted(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    (void)user;
    must(!s == !!err);
    run.s = s;
    run.adopts_told++;
}

/* Lets go of the session and takes it again, from an agent that says of
 * itself what the input says. */
static void ask_adopt(struct input *in)
{
    struct cellar_error err;
    puppet.welcome =
        (struct cellar_msg_welcome){.generation = 1u + take_byte(in) % 4u};
    puppet.welcome.ready = take_byte(in);
    puppet.welcome.running = take_byte(in);
    puppet.welcome.last_cell = take_byte(in);
    puppet.welcome.delivered = take_byte(in);
    if (!run.s || !(run.how & NAMED))
        return;
    cellar_close(run.s);
    run.s = NULL;
    /* One that was being attached again is let go of when it is; the puppet
     * has one stream. */
    for (int i = 0; i < 1000 && puppet.attached; i++)
        (void)cellar_dispatch(run.c, 100);
    if (cellar_adopt_async(run.c, "tour", on_adopted, NULL, &err) == CELLAR_OK)
        run.adopts++;
}

static void let_go_by(struct input *in)
{
    unsigned steps = take_byte(in);
    for (unsigned i = 0; i <= steps; i++)
        (void)cellar_dispatch(run.c, (int)steps * 64);
}

/* One letter for each step. */
static const struct step {
    uint8_t letter;
    void (*go)(struct input *in);
} steps[] = {{'o', say_output},    {'d', say_done},    {'p', say_payload},
             {'b', say_raw},       {'m', say_display}, {'y', say_ready},
             {'f', say_fault},     {'h', hang_up},     {'r', ask_run},
             {'i', ask_interrupt}, {'t', ask_reset},   {'w', let_go_by},
             {'a', ask_adopt},     {'e', say_reply},   {'c', ask_moment}};

static void on_opened(void *user, struct cellar_session *s,
                      const struct cellar_error *err)
{
    (void)user;
    must(!s == !!err);
    run.s = s;
    run.opened++;
}

static void on_stopped(void *user, struct cellar_session *s,
                       const struct cellar_error *err)
{
    (void)err;
    must(!s);
    ++*(unsigned *)user;
}

/* ---------------------------------------------------------- the whole -- */

static void tidy(void)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/owner", state_dir);
    unlink(path);
    rmdir(state_dir);
}

/* No session's directory is left; the supervisor makes the one of all anew. */
static void check_state_dir(void)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/sessions", state_dir);
    must(rmdir(path) == 0);
    snprintf(path, sizeof(path), "%s/supervisors", state_dir);
    must(rmdir(path) == 0);
    snprintf(path, sizeof(path), "%s/journal.db", state_dir);
    unlink(path);
}

static void open_supervisor(void)
{
    static bool made;
    struct cellar_config config = {.state_dir = state_dir};
    struct cellar_error err;
    if (!made) {
        must(mkdtemp(state_dir) != NULL && atexit(tidy) == 0);
        made = true;
    }
    must(cellar_supervisor_new(&config, puppet_open, &run.c, &err) ==
         CELLAR_OK);
}

static void start(void)
{
    struct cellar_spec spec;
    struct cellar_error err;
    cellar_spec_init(&spec);
    spec.name = run.how & NAMED ? "tour" : NULL;
    spec.output_bytes = OUTPUT_CAP;
    puppet.start_code = run.how & START_FAILS ? CELLAR_E_ENGINE : CELLAR_OK;
    must(cellar_start_async(run.c, &spec, on_opened, NULL, &err) == CELLAR_OK);
    for (int i = 0; i < 8 && !run.opened; i++)
        (void)cellar_dispatch(run.c, 0);
}

static void play(struct input *in)
{
    while (in->len > 0) {
        uint8_t letter = take_byte(in);
        for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++)
            if (steps[i].letter == letter)
                steps[i].go(in);
        if (letter >= 'a' && letter <= 'z')
            (void)cellar_dispatch(run.c, 0);
    }
}

/* The longest deadline is that of a start. */
static void stop(void)
{
    struct cellar_error err;
    unsigned stopped = 0;
    drop_branches();
    if (run.how & LEAVES && !(run.how & NAMED))
        return;
    for (int i = 0; i < 1000 && (!run.opened || run.adopts > run.adopts_told);
         i++)
        (void)cellar_dispatch(run.c, 1000);
    if (run.s) {
        must(cellar_stop_async(run.s, on_stopped, &stopped, &err) == CELLAR_OK);
        for (int i = 0; i < 1000 && !stopped; i++)
            (void)cellar_dispatch(run.c, 100);
        must(stopped == 1);
    }
    /* An adoption that failed leaves the container, which has its name; so does
     * a loss beside branches. */
    if (run.how & NAMED && puppet.running)
        must(cellar_stop_name(run.c, "tour", &err) == CELLAR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct input in = {data, len};
    memset(&run, 0, sizeof(run));
    run.how = take_byte(&in);
    puppet_init();
    puppet.on_message = on_message;
    fake_loop = (struct fake_loop){.turn = puppet_turn, .now_us = 1000000};
    open_supervisor();
    puppet.listed = run.how & NAMED ? "tour" : NULL;
    puppet.owner = cellar_supervisor_owner(run.c);
    start();
    play(&in);
    stop();
    cellar_free(run.c);
    must(run.adopts == run.adopts_told);
    must(run.opened == 1 && run.ended == run.ran &&
         run.resets == run.resets_told && run.asks == run.asks_told);
    must(!puppet.running && !puppet.attached && !puppet.bad_host);
    must(puppet.removes >= puppet.starts && fake_loop.handles == 0);
    check_state_dir();
    puppet_done();
    return 0;
}
