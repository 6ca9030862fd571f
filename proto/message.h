/*
 * Messages: the payloads of frames, as C values. A payload is one msgpack
 * array [type, cell, mark, fields...]; docs/PROTOCOL.md lists the fields.
 *
 * `mark` of a host's message acknowledges: the highest delivery the host has
 * taken. `mark` of an agent's message is its own delivery number, 1, 2, 3,
 * ... through all epochs of a session; 0 for what need not be delivered
 * (WELCOME, PONG). An agent repeats what was not acknowledged.
 *
 * `cell` is a cell's number in RUN, INTERRUPT, DISPLAY and DONE, and 0 in all
 * others; OUTPUT of nobody's cell (a thread that outlived it) has 0 too.
 *
 * Packing and unpacking check the same: number and kind of the fields, every
 * length and range, and that the fields of a DONE tell one story; so nothing
 * can be sent that the peer would refuse. Unpacking runs cellar_scan() first
 * and takes no trailing bytes. All texts travel as bin: nobody vouches for
 * the UTF-8 of what stems from the worker.
 */
#ifndef CELLAR_PROTO_MESSAGE_H
#define CELLAR_PROTO_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "cellar/ending.h"
#include "cellar/error.h"
#include "limits.h"

/* The one argument an agent takes, and only if its user said so: it runs also
 * where the kernel shows what it has open to others of its container. */
#define CELLAR_AGENT_OPEN "open"

/* name, number on the wire, name in docs. Host to agent below 16. */
#define CELLAR_MESSAGE_MAP(X)                                                  \
    X(HELLO, 1, "hello")                                                       \
    X(RUN, 2, "run")                                                           \
    X(INTERRUPT, 3, "interrupt")                                               \
    X(RESET, 4, "reset")                                                       \
    X(PING, 5, "ping")                                                         \
    X(STOP, 6, "stop")                                                         \
    X(CHECKPOINT, 7, "checkpoint")                                             \
    X(RESTORE, 8, "restore")                                                   \
    X(DROP, 9, "drop")                                                         \
    X(LIST, 10, "list")                                                        \
    X(FORK, 11, "fork")                                                        \
    X(WELCOME, 17, "welcome")                                                  \
    X(READY, 18, "ready")                                                      \
    X(OUTPUT, 19, "output")                                                    \
    X(DISPLAY, 20, "display")                                                  \
    X(DONE, 21, "done")                                                        \
    X(FAULT, 22, "fault")                                                      \
    X(PONG, 23, "pong")                                                        \
    X(REPLY, 24, "reply")                                                      \
    X(COPIES, 25, "copies")

enum cellar_message_type {
#define CELLAR_MESSAGE_ENUM(name, number, text) CELLAR_MSG_##name = (number),
    CELLAR_MESSAGE_MAP(CELLAR_MESSAGE_ENUM)
#undef CELLAR_MESSAGE_ENUM
};

/* Bytes that are lent: they live as long as the payload they were decoded
 * from, or as the caller says when encoding. `data` is not NUL-terminated. */
struct cellar_bytes {
    const uint8_t *data;
    size_t len;
};

/* One entry of a MIME bundle. */
struct cellar_mime_part {
    struct cellar_bytes type; /* "text/plain" */
    struct cellar_bytes data;
};

/* Why a lane has no worker. The first ones say that the image is unfit. */
#define CELLAR_FAULT_MAP(X)                                                    \
    X(NO_PYTHON, 1, "no_python", "the image has no python3 in its PATH")       \
    X(MUSL, 2, "musl",                                                         \
      "the image's python3 is built on musl; Cellar needs glibc")              \
    X(OLD_PYTHON, 3, "old_python",                                             \
      "the image's python3 is too old; Cellar needs CPython 3.8 or later")     \
    X(EXTENSION, 4, "extension",                                               \
      "the image's python3 could not load Cellar's extension")                 \
    X(SANDBOX, 5, "sandbox", "the worker could not be confined")               \
    X(WORKER, 6, "worker", "the worker did not start")                         \
    X(INTERNAL, 7, "internal", "the agent failed")                             \
    X(ENDED, 8, "ended", "the session has ended, and others go on beside it")  \
    X(PRELOAD, 9, "preload", "a module could not be imported")

enum cellar_fault {
#define CELLAR_FAULT_ENUM(name, number, word, text)                            \
    CELLAR_FAULT_##name = (number),
    CELLAR_FAULT_MAP(CELLAR_FAULT_ENUM)
#undef CELLAR_FAULT_ENUM
};

struct cellar_msg_hello {
    uint64_t version;
    uint8_t nonce[CELLAR_NONCE_BYTES];
    uint64_t lease_ms; /* the agent ends without a frame for so long; > 0 */
    uint64_t life_ms;  /* it ends so long after this HELLO at the latest,
                          whoever greets it; 0: never */
    uint64_t grace_ms; /* from SIGINT to SIGKILL */
    uint64_t nproc;    /* rlimits of the worker; 0: as the container has it */
    uint64_t nofile;
    uint64_t fsize;
    uint64_t policy; /* enum cellar_checkpoint_policy, of checkpoints */
    char preload[CELLAR_PRELOAD_MAX + 1]; /* preload.h; NUL-terminated */
};

struct cellar_msg_run {
    struct cellar_bytes code; /* UTF-8, up to CELLAR_CODE_MAX */
    uint64_t timeout_ms;      /* 0: none */
    uint64_t output_max;      /* bytes of stdout + stderr that are sent */
};

/* CHECKPOINT takes one by this name, in the place of an older one; RESTORE goes
 * back to it, DROP forgets it. */
struct cellar_msg_tag {
    struct cellar_bytes tag; /* 1..CELLAR_CHECKPOINT_TAG_MAX bytes */
};

struct cellar_msg_fork {
    uint64_t count; /* 1..CELLAR_BRANCHES_MAX */
};

struct cellar_msg_welcome {
    uint64_t version;
    uint8_t nonce[CELLAR_NONCE_BYTES];
    uint64_t epoch;      /* 1, 2, ... */
    uint64_t generation; /* of workers: 1 at the start, +1 per new worker */
    uint64_t ready;      /* 1: this generation's worker can run cells */
    uint64_t running;    /* the cell that is running, or 0 */
    uint64_t last_cell;  /* the highest cell number seen so far, or 0 */
    uint64_t delivered;  /* the highest delivery number given out so far */
};

struct cellar_msg_ready {
    uint64_t generation;
    struct cellar_bytes python; /* "3.11.2" */
    uint64_t landlock_abi;      /* 0: the kernel has none */
    uint64_t seccomp;           /* Seccomp: of the worker; 2 is a filter */
};

struct cellar_msg_output {
    uint64_t stream; /* 1 stdout, 2 stderr */
    struct cellar_bytes data;
};

struct cellar_msg_display {
    size_t count; /* 1..CELLAR_MIME_MAX */
    struct cellar_mime_part parts[CELLAR_MIME_MAX];
};

struct cellar_msg_done {
    uint64_t status;        /* enum cellar_status, but for LOST */
    uint64_t state;         /* enum cellar_state */
    uint64_t restored_from; /* an earlier cell iff state is RESTORED, else 0 */
    uint64_t limit; /* enum cellar_limit; TIMEOUT when status is TIMEOUT,
                       MEMORY when OUT_OF_MEMORY, OUTPUT only with a dropped
                       byte */
    uint64_t code;  /* exit status when EXITED, signal when KILLED, else 0 */
    size_t parts;   /* of the result; only when OK. 0: there is none */
    struct cellar_mime_part result[CELLAR_MIME_MAX];
    bool has_error; /* iff status is ERROR; else the three texts are empty */
    struct cellar_bytes error_name;
    struct cellar_bytes error_message;
    struct cellar_bytes traceback; /* lines joined with \n */
    uint64_t dropped_stdout;       /* bytes over the cap */
    uint64_t dropped_stderr;
    uint64_t wall_us;
    uint64_t cpu_us;
    uint64_t peak_memory_bytes;
    uint64_t checkpoint; /* enum cellar_taken: the automatic one after it */
    struct cellar_bytes checkpoint_why; /* iff NOT_TAKEN */
};

struct cellar_msg_fault {
    uint64_t code; /* enum cellar_fault */
    struct cellar_bytes text;
};

/* What came of a CHECKPOINT, RESTORE, DROP, FORK or STOP; and, unasked for, of
 * a checkpoint that failed though DONE had promised it, or RESTORE had gone
 * back to it: request 0. */
struct cellar_msg_reply {
    uint64_t request; /* enum cellar_message_type */
    bool ok;
    struct cellar_bytes text; /* why not; iff not ok */
    uint64_t after;           /* the cell after which the globals stood */
    uint64_t took_us;
    uint64_t lane; /* of FORK: the first of the branches, which follow each
                      other; else 0 */
};

/* The reasons of a REPLY that a program may want to tell apart: name, code,
 * text. The host knows them by their text; every other one is E_DENIED. */
#define CELLAR_REFUSAL_MAP(X)                                                  \
    X(RUNNING, CELLAR_E_BUSY, "a cell is running")                             \
    X(ASKED, CELLAR_E_BUSY, "another request is under way")                    \
    X(NO_SUCH, CELLAR_E_NOT_FOUND, "there is no checkpoint of this name")      \
    X(CHECKPOINTS, CELLAR_E_LIMIT,                                             \
      "the session has 16 checkpoints, and keeps no more")                     \
    X(BRANCHES, CELLAR_E_LIMIT,                                                \
      "the container has no room for so many branches")

enum cellar_refusal {
#define CELLAR_REFUSAL_ENUM(name, code, text) CELLAR_REFUSAL_##name,
    CELLAR_REFUSAL_MAP(CELLAR_REFUSAL_ENUM)
#undef CELLAR_REFUSAL_ENUM
};

/* One checkpoint that is kept. */
struct cellar_kept {
    struct cellar_bytes tag; /* empty: an automatic one */
    uint64_t after;          /* the cell after which it was taken */
    uint64_t age_ms;
};

/* Answers LIST. */
struct cellar_msg_copies {
    uint64_t held_bytes; /* memory that would be free without them */
    size_t count;
    struct cellar_kept kept[CELLAR_COPIES_MAX]; /* oldest first */
};

struct cellar_message {
    enum cellar_message_type type;
    uint64_t cell; /* 0: belongs to no cell */
    uint64_t mark;
    union {
        struct cellar_msg_hello hello;
        struct cellar_msg_run run;
        struct cellar_msg_welcome welcome;
        struct cellar_msg_ready ready;
        struct cellar_msg_output output;
        struct cellar_msg_display display;
        struct cellar_msg_done done;
        struct cellar_msg_fault fault;
        struct cellar_msg_tag tag; /* CHECKPOINT, RESTORE, DROP */
        struct cellar_msg_fork fork;
        struct cellar_msg_reply reply;
        struct cellar_msg_copies copies;
    } u;
};

/* A linear look at msgpack bytes that allocates nothing: one value, complete,
 * no byte left over, at most CELLAR_DEPTH_MAX deep and CELLAR_ITEMS_MAX items
 * in all, no length beyond the payload, no ext type, no 0xc1.
 * CELLAR_E_PROTO or CELLAR_E_LIMIT otherwise. */
enum cellar_code cellar_scan(const uint8_t *payload, size_t len);

/* Appends the payload of `msg` to `out`. CELLAR_E_LIMIT where a field is over
 * its bound or `out` is full, CELLAR_E_PROTO where a field breaks a rule,
 * CELLAR_E_NOMEM; `out` is unchanged on failure. */
enum cellar_code cellar_message_pack(const struct cellar_message *msg,
                                     struct cellar_buf *out);

/* Reads a payload that may come from anybody. On CELLAR_OK `msg` borrows
 * from `payload`; else it is untouched. Codes as above. */
enum cellar_code cellar_message_unpack(const uint8_t *payload, size_t len,
                                       struct cellar_message *msg);

/* "hello" for CELLAR_MSG_HELLO; NULL for a number that is no message. */
const char *cellar_message_name(enum cellar_message_type type);

const char *cellar_refusal_text(enum cellar_refusal refusal);
/* The code of a REPLY's reason; E_DENIED for one that is not of the list. */
enum cellar_code cellar_refusal_code(struct cellar_bytes told);

#endif
