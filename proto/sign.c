#include "sign.h"

#include <sodium.h>
#include <string.h>

_Static_assert(CELLAR_KEY_BYTES == crypto_aead_chacha20poly1305_ietf_KEYBYTES &&
                   CELLAR_KEY_BYTES == crypto_generichash_KEYBYTES,
               "one key length for everything");
_Static_assert(CELLAR_TAG_BYTES == crypto_aead_chacha20poly1305_ietf_ABYTES &&
                   CELLAR_TAG_BYTES >= crypto_generichash_BYTES_MIN,
               "one tag length for everything");

/* Every BLAKE2b input opens with one of these, so what was made for one use
 * can never be taken for another. */
#define LABEL_BYTES 16
static const uint8_t epoch_label[LABEL_BYTES] = "cellar epoch";
static const uint8_t resync_label[LABEL_BYTES] = "cellar resync";
static const uint8_t hello_label[LABEL_BYTES] = "cellar hello";
static const uint8_t lane_label[LABEL_BYTES] = "cellar lane";

enum cellar_code cellar_sign_init(void)
{
    return sodium_init() < 0 ? CELLAR_E_SYS : CELLAR_OK;
}

void cellar_sign_wipe(void *bytes, size_t len)
{
    sodium_memzero(bytes, len);
}

static void begin(crypto_generichash_state *hash, size_t out_len,
                  const uint8_t *key, const uint8_t *label,
                  enum cellar_direction direction)
{
    const uint8_t way = direction == CELLAR_TO_HOST;
    crypto_generichash_init(hash, key, CELLAR_KEY_BYTES, out_len);
    crypto_generichash_update(hash, label, LABEL_BYTES);
    crypto_generichash_update(hash, &way, sizeof(way));
}

static void add(crypto_generichash_state *hash, const uint8_t *bytes,
                size_t len)
{
    if (bytes)
        crypto_generichash_update(hash, bytes, len);
}

static void finish(crypto_generichash_state *hash, uint8_t *out, size_t len)
{
    crypto_generichash_final(hash, out, len);
    sodium_memzero(hash, sizeof(*hash));
}

void cellar_sign_epoch_key(uint8_t out[CELLAR_KEY_BYTES],
                           const uint8_t key[CELLAR_KEY_BYTES],
                           enum cellar_direction direction,
                           const uint8_t host_nonce[CELLAR_NONCE_BYTES],
                           const uint8_t agent_nonce[CELLAR_NONCE_BYTES])
{
    crypto_generichash_state hash;
    begin(&hash, CELLAR_KEY_BYTES, key, epoch_label, direction);
    add(&hash, host_nonce, CELLAR_NONCE_BYTES);
    add(&hash, agent_nonce, CELLAR_NONCE_BYTES);
    finish(&hash, out, CELLAR_KEY_BYTES);
}

void cellar_sign_lane_key(uint8_t out[CELLAR_KEY_BYTES],
                          const uint8_t key[CELLAR_KEY_BYTES], uint32_t lane)
{
    const uint8_t number[] = {(uint8_t)(lane >> 24), (uint8_t)(lane >> 16),
                              (uint8_t)(lane >> 8), (uint8_t)lane};
    crypto_generichash_state hash;
    begin(&hash, CELLAR_KEY_BYTES, key, lane_label, CELLAR_TO_AGENT);
    add(&hash, number, sizeof(number));
    finish(&hash, out, CELLAR_KEY_BYTES);
}

void cellar_sign_handshake(uint8_t tag[CELLAR_TAG_BYTES],
                           const uint8_t key[CELLAR_KEY_BYTES],
                           enum cellar_direction direction,
                           const uint8_t *host_nonce, const uint8_t *payload,
                           size_t len)
{
    crypto_generichash_state hash;
    begin(&hash, CELLAR_TAG_BYTES, key, hello_label, direction);
    add(&hash, host_nonce, CELLAR_NONCE_BYTES);
    add(&hash, payload, len);
    finish(&hash, tag, CELLAR_TAG_BYTES);
}

void cellar_sign_resync(uint8_t out[CELLAR_RESYNC_SECRET_BYTES],
                        const uint8_t key[CELLAR_KEY_BYTES],
                        enum cellar_direction direction,
                        const uint8_t *host_nonce)
{
    crypto_generichash_state hash;
    begin(&hash, CELLAR_RESYNC_SECRET_BYTES, key, resync_label, direction);
    add(&hash, host_nonce, CELLAR_NONCE_BYTES);
    finish(&hash, out, CELLAR_RESYNC_SECRET_BYTES);
}

static void nonce_of(uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES],
                     uint64_t seq)
{
    memset(nonce, 0, 4);
    for (size_t i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(seq >> (8 * i));
}

/* The empty message: its address is asked for, nothing is read or written. */
void cellar_sign_tag(uint8_t tag[CELLAR_TAG_BYTES],
                     const uint8_t key[CELLAR_KEY_BYTES], uint64_t seq,
                     const uint8_t *payload, size_t len)
{
    uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    uint8_t nothing[1];
    nonce_of(nonce, seq);
    crypto_aead_chacha20poly1305_ietf_encrypt_detached(
        nothing, tag, NULL, NULL, 0, payload, len, NULL, nonce, key);
}

bool cellar_sign_check(const uint8_t tag[CELLAR_TAG_BYTES],
                       const uint8_t key[CELLAR_KEY_BYTES], uint64_t seq,
                       const uint8_t *payload, size_t len)
{
    uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    const uint8_t nothing[1] = {0};
    nonce_of(nonce, seq);
    return crypto_aead_chacha20poly1305_ietf_decrypt_detached(
               NULL, NULL, nothing, 0, tag, payload, len, nonce, key) == 0;
}

bool cellar_sign_same(const uint8_t a[CELLAR_TAG_BYTES],
                      const uint8_t b[CELLAR_TAG_BYTES])
{
    return sodium_memcmp(a, b, CELLAR_TAG_BYTES) == 0;
}
