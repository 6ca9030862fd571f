#include <stdlib.h>
#include <string.h>

#include "engine.h"

uint8_t *cellar_greeting_copy(const struct cellar_launch *launch)
{
    uint8_t *copy = malloc(launch->greeting_len + 1);
    if (copy && launch->greeting_len)
        memcpy(copy, launch->greeting, launch->greeting_len);
    return copy;
}

void cellar_greeting_wipe(uint8_t *greeting, size_t len)
{
    if (greeting)
        explicit_bzero(greeting, len);
    free(greeting);
}
