/*
 * A container engine that misbehaves to order, on a unix socket of its own:
 * for what a real engine can't be made to do. Each connection has a thread;
 * each request is answered by the first line of the script whose `match` its
 * request line contains.
 *
 *     struct scripted *s = scripted_start(lines);
 *     ... talk to scripted_host(s) ...
 *     assert_true(scripted_saw(s, "DELETE "));
 *     scripted_stop(s);
 */
#ifndef CELLAR_TESTS_FAULT_SCRIPTED_H
#define CELLAR_TESTS_FAULT_SCRIPTED_H

#include <stdbool.h>
#include <stddef.h>

enum manner {
    SAY,  /* the reply at once; the connection stays open */
    ONCE, /* as SAY; but its next request is not answered: it is closed */
    CUT,  /* the reply, then close */
    DRIP, /* the reply a byte at a time */
    HANG, /* the reply, then silence for this and every later request */
    FLOOD /* the reply, then 'x' for ever */
};

struct line {
    const char *match; /* NULL ends the script */
    enum manner manner;
    const char *reply;
    size_t len; /* 0: reply is a string */
};

struct scripted;

/* The head of a reply that goes on until the connection is closed (CUT), and
 * that of an upgrade. */
#define SCRIPTED_OK "HTTP/1.1 200 OK\r\n\r\n"
#define SCRIPTED_101                                                           \
    "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

/* `lines` live as long as the engine. Two scripts: `first` wins. */
struct scripted *scripted_start(const struct line *first,
                                const struct line *then);
void scripted_stop(struct scripted *s);
/* "unix:///..." */
const char *scripted_host(const struct scripted *s);
/* Whether a request line, or a body of less than 1 KiB, with `words` in it
 * came, and how many did. */
bool scripted_saw(struct scripted *s, const char *words);
size_t scripted_count(struct scripted *s, const char *words);
/* The most connections that were open at one time. */
size_t scripted_peak(struct scripted *s);

/* Everything a session's start, attach and removal ask for, done well. */
extern const struct line scripted_good[];

#endif
