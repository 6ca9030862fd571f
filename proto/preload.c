#include "preload.h"

#include "limits.h"

/* ASCII: Python takes more, and no module that is worth waiting for has it. */
static bool begins_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool cellar_preload_valid(const char *text, size_t len)
{
    bool begins = true;
    if (len > CELLAR_PRELOAD_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool ends = text[i] == '.' || text[i] == ',';
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (begins ? !begins_name(text[i])
                   : !ends && !digit && !begins_name(text[i]))
            return false;
        begins = ends;
    }
    return len == 0 || !begins;
}
