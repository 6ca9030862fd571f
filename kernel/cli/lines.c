#include "lines.h"

#include <string.h>

/* A walk through the text. A logical line is what ends with a newline outside
 * of brackets and texts. */
struct walk {
    const char *at;
    const char *end;
    size_t depth;       /* of open brackets */
    bool line_has_code; /* the logical line under way */
    char last;          /* its last character that is code */
    bool block;         /* a compound statement is open */
    bool any;           /* there is code at all */
    bool broken;        /* no further line can mend it */
    bool open;          /* the text ended within a token or after a \ */
};

static bool word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_' || (unsigned char)c >= 0x80;
}

static bool at_text(const struct walk *walk, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(walk->end - walk->at) >= n &&
           memcmp(walk->at, text, n) == 0;
}

/* Words that begin a compound statement. `match` and `case` are names too;
 * their colon at the end of the line tells. */
static bool compound_word(const char *word, size_t len)
{
    static const char *const words[] = {"if",    "for",  "while",  "def",
                                        "class", "with", "try",    "async",
                                        "else",  "elif", "except", "finally"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strlen(words[i]) == len && memcmp(words[i], word, len) == 0)
            return true;
    return false;
}

/* Skips a text whose opening quotes are at walk->at. Prefixes need no care: a
 * backslash keeps the next quote from closing a raw text too. */
static void skip_quoted(struct walk *walk)
{
    char quote = *walk->at;
    bool triple = at_text(walk, quote == '"' ? "\"\"\"" : "'''");
    size_t width = triple ? 3 : 1;
    walk->at += width;
    for (; walk->at < walk->end; walk->at++) {
        if (*walk->at == '\\' && walk->at + 1 < walk->end) {
            walk->at++;
            continue;
        }
        if (*walk->at == '\n' && !triple) {
            walk->broken = true;
            return;
        }
        bool closes =
            *walk->at == quote &&
            (!triple || at_text(walk, quote == '"' ? "\"\"\"" : "'''"));
        if (!closes)
            continue;
        walk->at += width;
        return;
    }
    /* A plain text can't go on in the next line, but for a backslash. */
    walk->open = triple || walk->end[-1] == '\\' ||
                 (walk->end[-1] == '\n' && walk->end[-2] == '\\');
    walk->broken |= !walk->open;
}

static void end_line(struct walk *walk)
{
    if (walk->line_has_code && walk->last == ':')
        walk->block = true;
    walk->line_has_code = false;
    walk->last = '\0';
}

/* The first code of a logical line. At the margin it begins a statement of
 * its own, and an older block is over. */
static void begin_line(struct walk *walk, bool margin)
{
    const char *word_end = walk->at;
    while (word_end < walk->end && word_byte(*word_end))
        word_end++;
    bool compound = *walk->at == '@' ||
                    compound_word(walk->at, (size_t)(word_end - walk->at));
    if (margin)
        walk->block = compound;
    walk->line_has_code = true;
    walk->any = true;
}

static void bracket(struct walk *walk, char c)
{
    if (strchr("([{", c))
        walk->depth++;
    else if (walk->depth == 0)
        walk->broken = true;
    else
        walk->depth--;
}

static void skip_comment(struct walk *walk)
{
    while (walk->at < walk->end && *walk->at != '\n')
        walk->at++;
}

/* A backslash joins the next line to this one. At the very end, that line is
 * still to come. */
static void join_line(struct walk *walk)
{
    walk->at++;
    if (walk->at < walk->end && *walk->at == '\r')
        walk->at++;
    if (walk->at < walk->end && *walk->at == '\n')
        walk->at++;
    walk->open = walk->at == walk->end;
}

static void step(struct walk *walk, const char *text)
{
    char c = *walk->at;
    if (c == '#') {
        skip_comment(walk);
        return;
    }
    if (c == '\n') {
        if (walk->depth == 0)
            end_line(walk);
        walk->at++;
        return;
    }
    if (c == ' ' || c == '\t' || c == '\r' || c == '\f') {
        walk->at++;
        return;
    }
    if (!walk->line_has_code)
        begin_line(walk, walk->at == text || walk->at[-1] == '\n');
    if (c == '\\') {
        join_line(walk);
        return;
    }
    walk->last = c;
    if (c == '"' || c == '\'') {
        skip_quoted(walk);
        return;
    }
    if (c && strchr("()[]{}", c))
        bracket(walk, c);
    walk->at++;
}

/* Whether the last line is empty: the sign that a block is over. */
static bool ends_empty(const char *text, size_t len)
{
    if (len == 0 || text[len - 1] != '\n')
        return false;
    len--;
    while (len > 0 && strchr(" \t\r\f", text[len - 1]) && text[len - 1])
        len--;
    return len == 0 || text[len - 1] == '\n';
}

enum cellar_lines cellar_lines_state(const char *text, size_t len)
{
    struct walk walk = {.at = text, .end = text + len};
    while (walk.at < walk.end && !walk.broken)
        step(&walk, text);
    if (walk.broken)
        return CELLAR_LINES_COMPLETE;
    if (walk.open || walk.depth > 0)
        return CELLAR_LINES_MORE;
    end_line(&walk);
    if (!walk.any)
        return CELLAR_LINES_EMPTY;
    if (walk.block && !ends_empty(text, len))
        return CELLAR_LINES_MORE;
    return CELLAR_LINES_COMPLETE;
}

void cellar_lines_mark_quoted(const char *text, size_t len, bool *inside)
{
    struct walk walk = {.at = text, .end = text + len};
    memset(inside, 0, len * sizeof *inside);
    while (walk.at < walk.end && !walk.broken) {
        const char *from = walk.at;
        bool quoted = *from == '"' || *from == '\'';
        step(&walk, text);
        for (const char *p = from + 1; quoted && p < walk.at; p++)
            inside[p - text] = true;
    }
}
