/*
 * A host in the raw, for tests of the agent: speaks the wire with a program on
 * its stdin and stdout, and is told line by line what to say.
 *
 *     agent_host PROGRAM ARGUMENT...       (its stderr is ours)
 *
 * Commands on stdin, one a line; HEX is bytes in hexadecimal, "-" for none:
 *     hello MARK LEASE_MS GRACE_MS NPROC NOFILE FSIZE LIFE_MS POLICY  greets
 *     run CELL TIMEOUT_MS OUTPUT_MAX HEX
 *     interrupt CELL | reset | ping | stop | list
 *     checkpoint HEX | restore HEX | drop HEX   with the tag
 *     raw HEX         writes bytes as they are
 *     hold 0|1        1: acknowledges nothing from now on
 *     pause | resume  stops reading the program's output, and goes on
 *     close           closes the program's stdin
 *     bench CELL N OUTPUT_MAX HEX   N cells; prints microseconds each
 *
 * What comes is printed as a line each: "ready 1 3.11.2 6 2",
 * "output 3 1 HEX", "done 3 STATUS STATE LIMIT CODE DROPPED1 DROPPED2 WALL CPU
 * PEAK FROM TAKEN WHY NAME MESSAGE TRACEBACK [TYPE DATA]...",
 * "reply REQUEST OK AFTER US TEXT", "copies HELD [TAG AFTER AGE]...",
 * "broken CODE", "eof".
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proto/link.h"
#include "proto/sign.h"

#define LINE_BYTES (4u << 20)
#define READ_BYTES (256u << 10)

struct host {
    struct cellar_link link;
    uint64_t mark;
    bool greeted, held, paused, quiet;
    uint64_t done; /* the last cell that ended */
    int to, from;
    pid_t pid;
};

/* ------------------------------------------------------------------ lines --
 */

static void put_hex(struct cellar_bytes bytes)
{
    putchar(' ');
    if (bytes.len == 0)
        putchar('-');
    for (size_t i = 0; i < bytes.len; i++)
        printf("%02x", bytes.data[i]);
}

static void put_numbers(const uint64_t *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf(" %" PRIu64, numbers[i]);
}

static int digit(char c)
{
    return c >= 'a' ? c - 'a' + 10 : c - '0';
}

/* In place: two digits make a byte of the same buffer. */
static struct cellar_bytes get_hex(char *text)
{
    size_t len = strcmp(text, "-") == 0 ? 0 : strlen(text) / 2;
    for (size_t i = 0; i < len; i++)
        text[i] = (char)(digit(text[2 * i]) * 16 + digit(text[2 * i + 1]));
    return (struct cellar_bytes){(const uint8_t *)text, len};
}

/* Reads numbers off the line; returns what follows them. */
static char *get_numbers(char *text, uint64_t *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        numbers[i] = strtoull(text, &text, 10);
    return text + strspn(text, " ");
}

/* --------------------------------------------------------------- speaking --
 */

static void write_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n <= 0)
            return;
        bytes += n;
        len -= (size_t)n;
    }
}

static void flush(struct host *host, struct cellar_buf *out)
{
    write_all(host->to, cellar_buf_peek(out), cellar_buf_len(out));
    cellar_buf_done(out);
}

static void say(struct host *host, struct cellar_message *msg)
{
    struct cellar_buf out;
    cellar_buf_init(&out, 2 * CELLAR_PAYLOAD_MAX);
    msg->mark = host->mark;
    enum cellar_code code = cellar_link_send(&host->link, msg, &out);
    if (code != CELLAR_OK)
        printf("unsent %s\n", cellar_code_name(code));
    flush(host, &out);
}

static void on_hello(struct host *host, char *rest)
{
    uint64_t n[8];
    uint8_t nonce[CELLAR_NONCE_BYTES];
    struct cellar_buf out;
    get_numbers(rest, n, 8);
    struct cellar_message msg = {.type = CELLAR_MSG_HELLO, .mark = n[0]};
    msg.u.hello = (struct cellar_msg_hello){.lease_ms = n[1],
                                            .grace_ms = n[2],
                                            .nproc = n[3],
                                            .nofile = n[4],
                                            .fsize = n[5],
                                            .life_ms = n[6],
                                            .policy = n[7]};
    cellar_buf_init(&out, 2 * CELLAR_PAYLOAD_MAX);
    if (getrandom(nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce) ||
        cellar_link_greet(&host->link, !host->greeted, nonce, &msg, &out) !=
            CELLAR_OK)
        printf("unsent hello\n");
    host->greeted = true;
    flush(host, &out);
}

static void on_run(struct host *host, char *rest)
{
    uint64_t n[3];
    char *hex = get_numbers(rest, n, 3);
    struct cellar_message msg = {.type = CELLAR_MSG_RUN, .cell = n[0]};
    msg.u.run.timeout_ms = n[1];
    msg.u.run.output_max = n[2];
    msg.u.run.code = get_hex(hex);
    say(host, &msg);
}

static void on_plain(struct host *host, enum cellar_message_type type,
                     char *rest)
{
    uint64_t cell = 0;
    get_numbers(rest, &cell, 1);
    say(host, &(struct cellar_message){.type = type, .cell = cell});
}

static void on_tag(struct host *host, enum cellar_message_type type, char *hex)
{
    struct cellar_message msg = {.type = type};
    msg.u.tag.tag = get_hex(hex);
    say(host, &msg);
}

/* -------------------------------------------------------------- listening --
 */

static void show_done(const struct cellar_message *msg)
{
    const struct cellar_msg_done *done = &msg->u.done;
    const uint64_t numbers[] = {msg->cell,
                                done->status,
                                done->state,
                                done->limit,
                                done->code,
                                done->dropped_stdout,
                                done->dropped_stderr,
                                done->wall_us,
                                done->cpu_us,
                                done->peak_memory_bytes,
                                done->restored_from,
                                done->checkpoint};
    printf("done");
    put_numbers(numbers, sizeof(numbers) / sizeof(numbers[0]));
    put_hex(done->checkpoint_why);
    put_hex(done->error_name);
    put_hex(done->error_message);
    put_hex(done->traceback);
    for (size_t i = 0; i < done->parts; i++) {
        put_hex(done->result[i].type);
        put_hex(done->result[i].data);
    }
}

static void show_reply(const struct cellar_msg_reply *reply)
{
    const uint64_t numbers[] = {reply->request, reply->ok, reply->after,
                                reply->took_us};
    printf("reply");
    put_numbers(numbers, 4);
    put_hex(reply->text);
}

static void show_copies(const struct cellar_msg_copies *copies)
{
    printf("copies %" PRIu64, copies->held_bytes);
    for (size_t i = 0; i < copies->count; i++) {
        put_hex(copies->kept[i].tag);
        put_numbers(&copies->kept[i].after, 1);
        put_numbers(&copies->kept[i].age_ms, 1);
    }
}

static void show(const struct cellar_message *msg)
{
    const struct cellar_msg_welcome *welcome = &msg->u.welcome;
    const struct cellar_msg_ready *ready = &msg->u.ready;
    const uint64_t state[] = {welcome->epoch,     welcome->generation,
                              welcome->ready,     welcome->running,
                              welcome->last_cell, welcome->delivered};
    const uint64_t protection[] = {ready->landlock_abi, ready->seccomp};
    if (msg->type == CELLAR_MSG_DONE) {
        show_done(msg);
    } else if (msg->type == CELLAR_MSG_WELCOME) {
        printf("welcome");
        put_numbers(state, sizeof(state) / sizeof(state[0]));
    } else if (msg->type == CELLAR_MSG_READY) {
        printf("ready %" PRIu64 " %.*s", ready->generation,
               (int)ready->python.len, (const char *)ready->python.data);
        put_numbers(protection, 2);
    } else if (msg->type == CELLAR_MSG_OUTPUT) {
        printf("output %" PRIu64 " %" PRIu64, msg->cell, msg->u.output.stream);
        put_hex(msg->u.output.data);
    } else if (msg->type == CELLAR_MSG_FAULT) {
        printf("fault %" PRIu64, msg->u.fault.code);
        put_hex(msg->u.fault.text);
    } else if (msg->type == CELLAR_MSG_REPLY) {
        show_reply(&msg->u.reply);
    } else if (msg->type == CELLAR_MSG_COPIES) {
        show_copies(&msg->u.copies);
    } else {
        printf("%s", cellar_message_name(msg->type));
    }
    putchar('\n');
}

static void take(struct host *host, const struct cellar_message *msg)
{
    static uint64_t unacked;
    if (msg->mark > 0 && !host->held)
        host->mark = msg->mark;
    if (msg->type == CELLAR_MSG_DONE)
        host->done = msg->cell;
    if (!host->quiet)
        show(msg);
    unacked += msg->type == CELLAR_MSG_OUTPUT ? msg->u.output.data.len : 64;
    if (unacked > 1u << 20 && !host->held) {
        unacked = 0;
        say(host, &(struct cellar_message){.type = CELLAR_MSG_PING});
    }
}

/* One read; false at the program's end. */
static bool listen_once(struct host *host)
{
    static uint8_t bytes[READ_BYTES];
    ssize_t n = read(host->from, bytes, sizeof(bytes));
    for (size_t at = 0; n > 0 && at < (size_t)n;) {
        size_t used = 0;
        struct cellar_message msg;
        enum cellar_code code =
            cellar_link_feed(&host->link, bytes + at, (size_t)n - at, &used);
        at += used;
        while (code == CELLAR_OK) {
            code = cellar_link_next(&host->link, &msg);
            if (code == CELLAR_OK)
                take(host, &msg);
        }
        if (code != CELLAR_E_AGAIN) {
            printf("broken %s\n", cellar_code_name(code));
            break;
        }
    }
    return n > 0;
}

static double microseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void on_bench(struct host *host, char *rest)
{
    uint64_t n[3];
    char *hex = get_numbers(rest, n, 3);
    struct cellar_message msg = {.type = CELLAR_MSG_RUN};
    msg.u.run.output_max = n[2];
    msg.u.run.code = get_hex(hex);
    host->quiet = true;
    printf("bench");
    for (uint64_t i = 0; i < n[1]; i++) {
        double start = microseconds();
        msg.cell = n[0] + i;
        say(host, &msg);
        while (host->done != msg.cell && listen_once(host)) {
        }
        printf(" %.1f", microseconds() - start);
    }
    host->quiet = false;
    putchar('\n');
}

/* --------------------------------------------------------------- commands --
 */

static void on_raw(struct host *host, char *rest)
{
    struct cellar_bytes bytes = get_hex(rest);
    write_all(host->to, bytes.data, bytes.len);
}

static void obey(struct host *host, char *line)
{
    char *rest = line + strcspn(line, " ");
    if (*rest)
        *rest++ = '\0';
    if (strcmp(line, "hello") == 0)
        on_hello(host, rest);
    else if (strcmp(line, "run") == 0)
        on_run(host, rest);
    else if (strcmp(line, "interrupt") == 0)
        on_plain(host, CELLAR_MSG_INTERRUPT, rest);
    else if (strcmp(line, "reset") == 0)
        on_plain(host, CELLAR_MSG_RESET, rest);
    else if (strcmp(line, "ping") == 0)
        on_plain(host, CELLAR_MSG_PING, rest);
    else if (strcmp(line, "stop") == 0)
        on_plain(host, CELLAR_MSG_STOP, rest);
    else if (strcmp(line, "list") == 0)
        on_plain(host, CELLAR_MSG_LIST, rest);
    else if (strcmp(line, "checkpoint") == 0)
        on_tag(host, CELLAR_MSG_CHECKPOINT, rest);
    else if (strcmp(line, "restore") == 0)
        on_tag(host, CELLAR_MSG_RESTORE, rest);
    else if (strcmp(line, "drop") == 0)
        on_tag(host, CELLAR_MSG_DROP, rest);
    else if (strcmp(line, "raw") == 0)
        on_raw(host, rest);
    else if (strcmp(line, "hold") == 0)
        host->held = *rest == '1';
    else if (strcmp(line, "pause") == 0 || strcmp(line, "resume") == 0)
        host->paused = *line == 'p';
    else if (strcmp(line, "close") == 0)
        close(host->to);
    else if (strcmp(line, "bench") == 0)
        on_bench(host, rest);
    else
        printf("unknown %s\n", line);
}

/* All whole lines that stdin has; false at its end. */
static bool read_commands(struct host *host)
{
    static char held[LINE_BYTES];
    static size_t len;
    ssize_t n = read(STDIN_FILENO, held + len, sizeof(held) - len);
    if (n <= 0)
        return false;
    len += (size_t)n;
    char *end = memchr(held, '\n', len);
    while (end) {
        *end = '\0';
        size_t used = (size_t)(end - held) + 1;
        obey(host, held);
        len -= used;
        memmove(held, held + used, len);
        end = memchr(held, '\n', len);
    }
    return true;
}

static void start(struct host *host, char **argv)
{
    int in[2];
    int out[2];
    if (pipe(in) != 0 || pipe(out) != 0)
        exit(EXIT_FAILURE);
    host->pid = fork();
    if (host->pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        for (int i = 0; i < 2; i++) {
            close(in[i]);
            close(out[i]);
        }
        execvp(argv[0], argv);
        _exit(EXIT_FAILURE);
    }
    close(in[0]);
    close(out[1]);
    host->to = in[1];
    host->from = out[0];
}

int main(int argc, char **argv)
{
    static struct host host;
    uint8_t key[CELLAR_KEY_BYTES];
    int status = 0;
    if (argc < 2 || cellar_sign_init() != CELLAR_OK ||
        getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
        return EXIT_FAILURE;
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOFBF, 1u << 20);
    cellar_link_init(&host.link, CELLAR_ROLE_HOST, key);
    start(&host, argv + 1);
    bool speaks = true;
    bool obeys = true;
    while (speaks) {
        struct pollfd fds[] = {{obeys ? STDIN_FILENO : -1, POLLIN, 0},
                               {host.paused ? -1 : host.from, POLLIN, 0}};
        fflush(stdout);
        poll(fds, 2, -1);
        if (fds[0].revents)
            obeys = read_commands(&host);
        if (fds[1].revents)
            speaks = listen_once(&host);
        if (!obeys && host.paused)
            break;
    }
    waitpid(host.pid, &status, 0);
    printf("eof %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return EXIT_SUCCESS;
}
