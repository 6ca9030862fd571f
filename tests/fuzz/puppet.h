/*
 * An engine with one container, whose agent says what the test wants, on the
 * loop of fake_loop.h. What the host asks of the engine is answered at its
 * next turn, in order.
 */
#ifndef CELLAR_TESTS_PUPPET_H
#define CELLAR_TESTS_PUPPET_H

#include "kernel/engine/engine.h"
#include "kernel/supervisor_private.h"
#include "proto/link.h"

struct puppet {
    struct cellar_link link; /* the agent's end */
    struct cellar_buf out;   /* what it says: link calls append here */
    uint64_t delivered;      /* the last delivery it gave a number */
    /* Set by the test. */
    void (*on_message)(const struct cellar_message *msg);
    enum cellar_code start_code;       /* a start ends so */
    enum cellar_vital vital;           /* what is said of a running one */
    struct cellar_msg_welcome welcome; /* generation 0: that of a new agent */
    const char *listed;     /* the session that a running container is of */
    const char *owner;      /* and whose it is */
    void (*quiet)(bool on); /* around what is the puppet's own work */
    /* Looked at by the test. */
    bool running; /* the container is there */
    bool attached;
    unsigned starts;
    unsigned removes;
    bool bad_host; /* the host said what the agent's link refused */
};
extern struct puppet puppet;

cellar_engine_open_fn puppet_open;

/* Forgets everything; for fake_loop.turn. */
void puppet_init(void);
void puppet_done(void);
bool puppet_turn(void);

/* Says `msg`, with the next delivery's number where it needs one. What the
 * link doesn't let through isn't said. */
void puppet_say(struct cellar_message *msg);
/* The engine ends the stream. */
void puppet_hang_up(void);

/* A good agent's answers to HELLO: WELCOME, READY. */
void puppet_welcome(void);
void puppet_ready(uint64_t generation);

#endif
