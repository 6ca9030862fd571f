/*
 * An engine whose containers are structs of this process, and whose agent is
 * a function of the test: what a real agent can't be made to do.
 */
#ifndef CELLAR_TESTS_FAKE_ENGINE_H
#define CELLAR_TESTS_FAKE_ENGINE_H

#include "kernel/engine/engine.h"
#include "kernel/supervisor_private.h"
#include "proto/link.h"

/* One fake container: the agent's end of the wire, and what became of it. */
struct fake_agent {
    struct cellar_link link;
    struct cellar_buf out; /* bytes for the host, sent from the loop */
    uint64_t delivered;    /* the last delivery number given out */
    bool mute;             /* answers nothing at all */
    bool gone;             /* its stream ends; until it is attached again */
    uint64_t running;      /* what WELCOME says */
    uint64_t last_cell;
    bool removed;
    int attached; /* times the host attached or started */
};

/* What the test sets before, and looks at after. */
struct fake {
    struct fake_agent agent;
    /* Called for each verified message of the host. */
    void (*on_message)(struct fake_agent *agent,
                       const struct cellar_message *msg);
    const char *listed; /* a session the engine lists as alive, or NULL */
    const char *owner;  /* whose it is */
    const char *state;  /* and how it is; NULL: running */
    uint64_t created;   /* when it was made, seconds since 1970 */
    enum cellar_code start_code;  /* start fails so */
    enum cellar_code attach_code; /* attach fails so */
    int attaches;
    uint64_t lane;      /* of the last attach */
    uint64_t answer_ms; /* how late the engine answers */
    int removes;
    enum cellar_code remove_code; /* removing fails so */
    enum cellar_vital vital;      /* diagnose's answer; 0: gone */
    const char *reason;
    const char *supervisor; /* who started the listed one; NULL: nobody */
};
extern struct fake fake;

/* The engine to give to cellar_supervisor_new(). */
cellar_engine_open_fn fake_engine_open;

/* Forgets the last test's container. */
void fake_reset(void);
/* The next start is of another container. */
void fake_next_agent(void);

/* The agent speaks: a delivery number is given to what needs one. */
void fake_say(struct fake_agent *agent, struct cellar_message *msg);
/* The polite agent: WELCOME, READY, and every RUN ends OK with "42". */
void fake_polite(struct fake_agent *agent, const struct cellar_message *msg);
void fake_ready(struct fake_agent *agent, uint64_t generation);
void fake_done(struct fake_agent *agent, uint64_t cell,
               enum cellar_status status, enum cellar_state state);

#endif
