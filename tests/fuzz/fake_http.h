/*
 * HTTP without a server: takes the place of kernel/engine/http*.c when it is
 * linked first. What the engine asks is answered with what the test has, one
 * reply for each request, in the order they were made:
 *
 *     fake_http.next = my_next;
 *     ... begin calls of an engine that cellar_docker_new() made ...
 *     fake_http_run();        until nothing is asked any more
 */
#ifndef CELLAR_TESTS_FAKE_HTTP_H
#define CELLAR_TESTS_FAKE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/engine/docker/http.h"

struct fake_reply {
    int status; /* HTTP's; 0: the server is silent */
    const uint8_t *body;
    size_t len;
};

struct fake_http {
    /* Set by the test. The next reply to `method` on `path`. For an upgrade,
     * 101 opens the stream, and `body` is what then comes on it. */
    struct fake_reply (*next)(const char *method, const char *path);
    void (*quiet)(bool on); /* around what is not the code under test's */
    size_t piece;           /* streamed bodies come in pieces of this size */
    bool keep_open;         /* a stream lasts until its user closes it */
    /* Looked at by the test. */
    unsigned requests;
    unsigned removals; /* DELETE */
    unsigned starts;   /* POST .../start */
    unsigned streams;  /* that were not closed */
    size_t written;    /* bytes, on any stream */
};
extern struct fake_http fake_http;

void fake_http_run(void);

#endif
