/*
 * Config files. What is taken leaves every number within its bounds, and says
 * the same when it is read again; what is refused names the file.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "kernel/cli/config.h"

static void must(int fine)
{
    if (!fine)
        abort();
}

static void check_numbers(const struct cellar_options *options)
{
    for (size_t i = 0; i < cellar_option_count(); i++) {
        struct cellar_option option = cellar_option_at(i);
        uint64_t value = 0;
        if (option.type != CELLAR_OPTION_NUMBER || !option.in_config)
            continue;
        memcpy(&value, (const char *)options + option.offset, sizeof(value));
        must((value >= option.min && value <= option.max) ||
             (value == 0 && option.none));
    }
}

static void check_same_texts(const char *const *a, const char *const *b,
                             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        must(!a[i] == !b[i]);
        must(!a[i] || strcmp(a[i], b[i]) == 0);
    }
}

static void check_same(const struct cellar_options *a,
                       const struct cellar_options *b)
{
    for (size_t i = 0; i < cellar_spec_field_count; i++)
        must(cellar_spec_get(&a->spec, &cellar_spec_fields[i]) ==
             cellar_spec_get(&b->spec, &cellar_spec_fields[i]));
    check_same_texts(&a->spec.image, &b->spec.image, 1);
    check_same_texts(a->spec.mounts, b->spec.mounts, CELLAR_MOUNTS_MAX);
    check_same_texts(a->spec.allow, b->spec.allow, CELLAR_ALLOW_MAX);
    must(a->verbose == b->verbose && a->json == b->json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct cellar_options first;
    struct cellar_options second;
    struct cellar_error err = {.code = CELLAR_OK};
    struct cellar_error again = {.code = CELLAR_OK};
    const char *text = (const char *)data;
    cellar_options_init(&first);
    cellar_options_init(&second);
    enum cellar_code code =
        cellar_config_read("fuzz.json", text, len, &first, &err);
    check_numbers(&first);
    must(cellar_config_read("fuzz.json", text, len, &second, &again) == code);
    check_same(&first, &second);
    must(code == CELLAR_OK || (code == CELLAR_E_USAGE && err.code == code &&
                               memcmp(err.msg, "fuzz.json: ", 11) == 0));
    cellar_options_done(&first);
    cellar_options_done(&second);
    return 0;
}
