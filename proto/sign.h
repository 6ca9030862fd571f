/*
 * Keys and tags: the only user of libsodium on the wire. Call sodium_init()
 * (cellar_sign_init) once before.
 *
 * Frames of an epoch: crypto_aead_chacha20poly1305_ietf with an empty message
 * and the payload as associated data; the nonce is 4 zero bytes and the
 * frame's sequence number, little endian. A (key, nonce) pair never repeats:
 * the key is fresh for each direction and epoch, the number only grows.
 * Handshake frames: keyed BLAKE2b, which needs no nonce, cut to 16 bytes.
 */
#ifndef CELLAR_PROTO_SIGN_H
#define CELLAR_PROTO_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellar/error.h"
#include "limits.h"

#define CELLAR_RESYNC_SECRET_BYTES 28

/* Direction of what a key signs. */
enum cellar_direction { CELLAR_TO_AGENT, CELLAR_TO_HOST };

enum cellar_code cellar_sign_init(void);

/* Zeroes a secret; never optimised away. */
void cellar_sign_wipe(void *bytes, size_t len);

/* The key of one direction of one epoch. */
void cellar_sign_epoch_key(uint8_t out[CELLAR_KEY_BYTES],
                           const uint8_t key[CELLAR_KEY_BYTES],
                           enum cellar_direction direction,
                           const uint8_t host_nonce[CELLAR_NONCE_BYTES],
                           const uint8_t agent_nonce[CELLAR_NONCE_BYTES]);

/* The session key of lane `lane`, which was forked from one with `key`. */
void cellar_sign_lane_key(uint8_t out[CELLAR_KEY_BYTES],
                          const uint8_t key[CELLAR_KEY_BYTES], uint32_t lane);

void cellar_sign_tag(uint8_t tag[CELLAR_TAG_BYTES],
                     const uint8_t key[CELLAR_KEY_BYTES], uint64_t seq,
                     const uint8_t *payload, size_t len);

/* In constant time. */
bool cellar_sign_check(const uint8_t tag[CELLAR_TAG_BYTES],
                       const uint8_t key[CELLAR_KEY_BYTES], uint64_t seq,
                       const uint8_t *payload, size_t len);

/* Whether two tags are equal, in constant time. */
bool cellar_sign_same(const uint8_t a[CELLAR_TAG_BYTES],
                      const uint8_t b[CELLAR_TAG_BYTES]);

/* The tag of HELLO (to the agent) or WELCOME (to the host). `host_nonce` is
 * bound into WELCOME's tag, so an old one can't be replayed; NULL for HELLO.*/
void cellar_sign_handshake(uint8_t tag[CELLAR_TAG_BYTES],
                           const uint8_t key[CELLAR_KEY_BYTES],
                           enum cellar_direction direction,
                           const uint8_t *host_nonce, const uint8_t *payload,
                           size_t len);

/* The bytes of a resync mark after its ff ff ff ff. To the agent it is one
 * per session (host_nonce NULL); to the host it depends on the host's nonce. */
void cellar_sign_resync(uint8_t out[CELLAR_RESYNC_SECRET_BYTES],
                        const uint8_t key[CELLAR_KEY_BYTES],
                        enum cellar_direction direction,
                        const uint8_t *host_nonce);

#endif
