/*
 * Every maximum of the wire, with its reason. Both sides check against the
 * same numbers; docs/PROTOCOL.md lists them.
 */
#ifndef CELLAR_PROTO_LIMITS_H
#define CELLAR_PROTO_LIMITS_H

#include <stdint.h>

/* The wire's version; a peer of another one is refused in the handshake. */
#define CELLAR_WIRE_VERSION 2

/* A session key, and the nonce each side adds to an epoch. */
#define CELLAR_KEY_BYTES   32
#define CELLAR_NONCE_BYTES 32

/* Poly1305's tag; the handshake's keyed BLAKE2b is cut to the same length. */
#define CELLAR_TAG_BYTES 16

/* length (u32, big endian) and tag stand before every payload. */
#define CELLAR_FRAME_HEADER_BYTES (4 + CELLAR_TAG_BYTES)

/* A payload. Large enough for a cell's code with room around it (code is cut
 * to CELLAR_CODE_MAX), small enough that a thousand sessions which each hold
 * one partial frame fit in a laptop's memory. */
#define CELLAR_PAYLOAD_MAX (4u << 20)

/* The code of one cell. A notebook's largest cells are under 100 KB; beyond
 * 1 MiB somebody is shipping data, which has its own way. */
#define CELLAR_CODE_MAX (1u << 20)

/* One chunk of output in a frame: what a pipe holds by default, and where
 * the cost of signing a byte has flattened. */
#define CELLAR_CHUNK_MAX (64u << 10)

/* The text of a result, an error's message, a whole traceback. What is over
 * it is cut by the worker and marked; a hostile worker's is cut by the agent.*/
#define CELLAR_RESULT_MAX    (1u << 20)
#define CELLAR_NAME_MAX      256u
#define CELLAR_MESSAGE_MAX   (64u << 10)
#define CELLAR_TRACEBACK_MAX (256u << 10)

/* msgpack nesting and items (array and map members and their containers) of
 * one payload: the messages of this wire need 4 levels and fewer than 100
 * items; a header that announces more is refused before anything is allocated
 * (msgpack-c#1013: 5 bytes ask for 96 GB). */
#define CELLAR_DEPTH_MAX 8u
#define CELLAR_ITEMS_MAX 1024u

/* MIME types in one bundle; the data of all its parts together is bounded by
 * CELLAR_RESULT_MAX. */
#define CELLAR_MIME_MAX 16u

/* The name of a checkpoint; how many of them a session may have, each of which
 * is a process and a copy of page tables; and the automatic ones beside them:
 * the last, and the one before in case the last does not wake. */
#define CELLAR_CHECKPOINT_TAG_MAX 63u
#define CELLAR_CHECKPOINTS_MAX    16u
#define CELLAR_COPIES_MAX         (CELLAR_CHECKPOINTS_MAX + 2u)

/* Branches that one FORK makes. */
#define CELLAR_BRANCHES_MAX 16u

/* Why a checkpoint was not taken, in a line. */
#define CELLAR_WHY_MAX 256u

/* Modules to import at a worker's start: some twenty names. */
#define CELLAR_PRELOAD_MAX 512u

/* A duration in milliseconds (139 years): added to a clock's reading it can't
 * overflow 64 bits, not even in nanoseconds. */
#define CELLAR_MS_MAX (1ull << 42)

/* The highest signal a cell can be killed by. */
#define CELLAR_SIGNAL_MAX 64u

/* What the agent keeps for a host that has not acknowledged it. One finished
 * cell (result, error, traceback) always fits beside a window of output. */
#define CELLAR_RING_BYTES (8u << 20)

/* What a host throws away while it looks for the answer to its hello: all
 * that the agent may have had under way. */
#define CELLAR_HUNT_MAX (2u * CELLAR_RING_BYTES)

#endif
