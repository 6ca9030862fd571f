#include "http_head.h"

#include <string.h>
#include <strings.h>

struct span {
    const char *data;
    size_t len;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool equals(struct span span, const char *text)
{
    return span.len == strlen(text) &&
           strncasecmp(span.data, text, span.len) == 0;
}

static bool begins(struct span span, const char *text)
{
    return span.len >= strlen(text) &&
           strncasecmp(span.data, text, strlen(text)) == 0;
}

static struct span trim(struct span span)
{
    while (span.len && (*span.data == ' ' || *span.data == '\t')) {
        span.data++;
        span.len--;
    }
    while (span.len &&
           (span.data[span.len - 1] == ' ' || span.data[span.len - 1] == '\t'))
        span.len--;
    return span;
}

/* "HTTP/1.1 101 UPGRADED" */
static enum cellar_code parse_status(struct span line,
                                     struct cellar_http_head *head)
{
    const char *p = line.data;
    if (line.len < 12 || !begins(line, "HTTP/1.") || !is_digit(p[7]) ||
        p[8] != ' ' || !is_digit(p[9]) || !is_digit(p[10]) || !is_digit(p[11]))
        return CELLAR_E_PROTO;
    if (line.len > 12 && p[12] != ' ')
        return CELLAR_E_PROTO;
    head->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
    return head->status >= 100 ? CELLAR_OK : CELLAR_E_PROTO;
}

static enum cellar_code parse_length(struct span value,
                                     struct cellar_http_head *head)
{
    uint64_t length = 0;
    /* 18 digits cannot overflow, and no reply is that long. */
    if (!value.len || value.len > 18 || head->has_length)
        return CELLAR_E_PROTO;
    for (size_t i = 0; i < value.len; i++) {
        if (!is_digit(value.data[i]))
            return CELLAR_E_PROTO;
        length = length * 10 + (uint64_t)(value.data[i] - '0');
    }
    head->has_length = true;
    head->length = length;
    return CELLAR_OK;
}

static enum cellar_code parse_field(struct span line,
                                    struct cellar_http_head *head)
{
    const char *colon = memchr(line.data, ':', line.len);
    if (!colon || colon == line.data)
        return CELLAR_E_PROTO;
    struct span name = {line.data, (size_t)(colon - line.data)};
    struct span value = trim((struct span){colon + 1, line.len - name.len - 1});
    if (equals(name, "Upgrade"))
        head->upgrade_tcp = equals(value, "tcp");
    else if (equals(name, "Content-Type"))
        head->raw_stream = begins(value, "application/vnd.docker.");
    else if (equals(name, "Transfer-Encoding"))
        head->chunked = true;
    else if (equals(name, "Content-Length"))
        return parse_length(value, head);
    return CELLAR_OK;
}

static enum cellar_code parse_lines(const char *data, size_t len,
                                    struct cellar_http_head *head)
{
    enum cellar_code code = CELLAR_OK;
    for (size_t at = 0; at < len && !code;) {
        const char *end = memmem(data + at, len - at, "\r\n", 2);
        struct span line = {data + at, (size_t)(end - data) - at};
        code = at ? parse_field(line, head) : parse_status(line, head);
        at += line.len + 2;
    }
    return code;
}

/* A stranger that will never send an HTTP head is found out at once, not
 * when the deadline is over. */
static bool can_become_http(const char *data, size_t len)
{
    static const char start[] = "HTTP/1.";
    size_t n = len < sizeof(start) - 1 ? len : sizeof(start) - 1;
    return memcmp(data, start, n) == 0;
}

enum cellar_code cellar_http_head_parse(const char *data, size_t len,
                                        struct cellar_http_head *out)
{
    if (!can_become_http(data, len))
        return CELLAR_E_PROTO;
    size_t look = len < CELLAR_HTTP_HEAD_MAX ? len : CELLAR_HTTP_HEAD_MAX;
    const char *end = memmem(data, look, "\r\n\r\n", 4);
    if (!end)
        return len < CELLAR_HTTP_HEAD_MAX ? CELLAR_E_AGAIN : CELLAR_E_LIMIT;
    struct cellar_http_head head = {.len = (size_t)(end - data) + 4};
    enum cellar_code code = parse_lines(data, head.len - 2, &head);
    if (!code)
        *out = head;
    return code;
}

bool cellar_http_head_is_stream(const struct cellar_http_head *head)
{
    if (head->chunked || head->has_length)
        return false;
    return head->status == 101 ? head->upgrade_tcp
                               : head->status == 200 && head->raw_stream;
}
