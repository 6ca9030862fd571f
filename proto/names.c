/* Numbers to words, each made from the list that makes the enum. */
#include <stddef.h>
#include <string.h>

#include "cellar/ending.h"
#include "cellar/error.h"
#include "message.h"

#define CODE_NAME(code, name, text)                                            \
    case code:                                                                 \
        return name;
#define CODE_TEXT(code, name, text)                                            \
    case code:                                                                 \
        return text;
#define STATUS_NAME(name, number, word)                                        \
    case CELLAR_STATUS_##name:                                                 \
        return word;
#define STATE_NAME(name, number, word)                                         \
    case CELLAR_STATE_##name:                                                  \
        return word;
#define LIMIT_NAME(name, number, word)                                         \
    case CELLAR_LIMIT_##name:                                                  \
        return word;
#define CHECKPOINT_NAME(name, number, word)                                    \
    case CELLAR_CHECKPOINT_##name:                                             \
        return word;
#define REFUSAL_TEXT(name, code, text)                                         \
    case CELLAR_REFUSAL_##name:                                                \
        return text;
#define REFUSAL_CODE(name, code, text)                                         \
    if (is_text(told, text))                                                   \
        return code;
#define MESSAGE_NAME(name, number, word)                                       \
    case CELLAR_MSG_##name:                                                    \
        return word;

const char *cellar_code_name(enum cellar_code code)
{
    switch (code) {
        CELLAR_ERROR_MAP(CODE_NAME)
    }
    return "unknown";
}

const char *cellar_code_text(enum cellar_code code)
{
    switch (code) {
        CELLAR_ERROR_MAP(CODE_TEXT)
    }
    return "an unknown error";
}

const char *cellar_status_name(enum cellar_status status)
{
    switch (status) {
        CELLAR_STATUS_MAP(STATUS_NAME)
    }
    return NULL;
}

const char *cellar_state_name(enum cellar_state state)
{
    switch (state) {
        CELLAR_STATE_MAP(STATE_NAME)
    }
    return NULL;
}

const char *cellar_limit_name(enum cellar_limit limit)
{
    switch (limit) {
        CELLAR_LIMIT_MAP(LIMIT_NAME)
    }
    return NULL;
}

const char *cellar_checkpoint_name(enum cellar_checkpoint_policy policy)
{
    switch (policy) {
        CELLAR_CHECKPOINT_MAP(CHECKPOINT_NAME)
    }
    return NULL;
}

const char *cellar_message_name(enum cellar_message_type type)
{
    switch (type) {
        CELLAR_MESSAGE_MAP(MESSAGE_NAME)
    }
    return NULL;
}

const char *cellar_refusal_text(enum cellar_refusal refusal)
{
    switch (refusal) {
        CELLAR_REFUSAL_MAP(REFUSAL_TEXT)
    }
    return NULL;
}

static bool is_text(struct cellar_bytes told, const char *text)
{
    return told.len == strlen(text) && memcmp(told.data, text, told.len) == 0;
}

enum cellar_code cellar_refusal_code(struct cellar_bytes told)
{
    CELLAR_REFUSAL_MAP(REFUSAL_CODE)
    return CELLAR_E_DENIED;
}
