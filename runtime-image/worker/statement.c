#include "runtime-image/worker/statement.h"

#include <string.h>

/* What no expression begins with, in any version. */
static const char *const words[] = {
    "assert", "async",  "break", "class",  "continue", "def",
    "del",    "elif",   "else",  "except", "finally",  "for",
    "from",   "global", "if",    "import", "nonlocal", "pass",
    "raise",  "return", "try",   "while",  "with",
};

/* Of the last logical line that is not indented: what is indented below it
 * belongs to it, as the body of a compound statement. */
struct line {
    bool keyword; /* it begins with one of the words */
    bool assigns; /* '=' outside of brackets, of no comparison */
    bool colon;   /* ':' outside of brackets: perhaps a lambda's */
    bool several; /* ';' outside of brackets */
    bool headed;  /* indented lines follow */
};

/* A position; past the end it reads zeros, which Python's source has none of.*/
struct scan {
    const char *source;
    size_t len;
    size_t at;
    size_t depth; /* of brackets */
    bool begun;   /* the logical line has */
    bool doubt;
    struct line line;
};

static char peek(const struct scan *scan, size_t ahead)
{
    size_t at = scan->at + ahead;
    return at < scan->len ? scan->source[at] : '\0';
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_quote(char c)
{
    return c == '"' || c == '\'';
}

static bool is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

static bool is_keyword(const char *word, size_t len)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strlen(words[i]) == len && memcmp(words[i], word, len) == 0)
            return true;
    return false;
}

/* To the end of a string whose first quote is here. */
static void skip_string(struct scan *scan)
{
    char quote = peek(scan, 0);
    bool triple = peek(scan, 1) == quote && peek(scan, 2) == quote;
    scan->at += triple ? 3 : 1;
    while (scan->at < scan->len) {
        char c = peek(scan, 0);
        bool ends =
            c == quote &&
            (!triple || (peek(scan, 1) == quote && peek(scan, 2) == quote));
        if (ends) {
            scan->at += triple ? 3 : 1;
            return;
        }
        if (is_line_end(c) && !triple)
            break;
        scan->at += c == '\\' ? 2 : 1;
    }
    scan->doubt = true;
}

/* A name, a number, or what stands before a string's quote. Strings with code
 * in them have a grammar of their own. */
static void take_word(struct scan *scan, bool first)
{
    const char *word = scan->source + scan->at;
    size_t len = 0;
    while (is_word(peek(scan, len)))
        len++;
    scan->at += len;
    if (is_quote(peek(scan, 0)))
        for (size_t i = 0; i < len; i++)
            scan->doubt |= !strchr("bBrRuU", word[i]);
    else if (first)
        scan->line.keyword = is_keyword(word, len);
}

static void take_equal(struct scan *scan)
{
    char before = scan->at > 0 ? scan->source[scan->at - 1] : '\0';
    bool compares = peek(scan, 1) == '=';
    scan->at += compares ? 2 : 1;
    if (!compares && before != '!' && before != '<' && before != '>' &&
        before != ':' && scan->depth == 0)
        scan->line.assigns = true;
}

static void take_sign(struct scan *scan)
{
    char c = peek(scan, 0);
    scan->at++;
    if (c == '(' || c == '[' || c == '{')
        scan->depth++;
    else if (c == ')' || c == ']' || c == '}')
        scan->depth -= scan->depth > 0;
    else if (c == '\\' || c == '\f' || c == '\0')
        scan->doubt = true;
    else if (c == ':' && scan->depth == 0)
        scan->line.colon = true;
    else if (c == ';' && scan->depth == 0)
        scan->line.several = true;
}

/* What begins a logical line: indented, it belongs to the one before. */
static void begin_line(struct scan *scan, bool indented)
{
    scan->begun = true;
    if (indented)
        scan->line.headed = true;
    else
        scan->line = (struct line){.keyword = false};
}

static void take(struct scan *scan, bool indented)
{
    char c = peek(scan, 0);
    bool first = !scan->begun;
    if (first)
        begin_line(scan, indented);
    if (is_quote(c))
        skip_string(scan);
    else if (is_word(c))
        take_word(scan, first && !indented);
    else if (c == '=')
        take_equal(scan);
    else
        take_sign(scan);
}

/* Up to the next thing that means something; whether blanks stood before it
 * where a line begins. */
static bool skip_blanks(struct scan *scan)
{
    bool blank = false;
    while (scan->at < scan->len) {
        char c = peek(scan, 0);
        if (is_line_end(c)) {
            blank = false;
            scan->begun &= scan->depth > 0;
            scan->at++;
        } else if (c == ' ' || c == '\t') {
            blank = true;
            scan->at++;
        } else if (c == '#') {
            while (scan->at < scan->len && !is_line_end(peek(scan, 0)))
                scan->at++;
        } else {
            break;
        }
    }
    return blank;
}

bool cellar_statement_is_last(const char *source, size_t len)
{
    struct scan scan = {.source = source, .len = len};
    bool indented = skip_blanks(&scan);
    while (scan.at < scan.len && !scan.doubt) {
        take(&scan, indented);
        indented = skip_blanks(&scan);
    }
    const struct line *line = &scan.line;
    if (scan.doubt || scan.depth > 0)
        return false;
    return line->headed || (line->keyword && !line->several) ||
           (line->assigns && !line->colon && !line->several);
}
