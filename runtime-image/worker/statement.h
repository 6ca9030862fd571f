/*
 * Whether a cell surely ends with a statement that has no value: an assignment,
 * a def, an import, a loop. Then it is compiled once, and not first to a tree
 * whose last expression is looked for. Knows just enough of Python's words;
 * where it is in doubt the answer is no, which costs time and nothing else.
 */
#ifndef CELLAR_WORKER_STATEMENT_H
#define CELLAR_WORKER_STATEMENT_H

#include <stdbool.h>
#include <stddef.h>

/* `source` is UTF-8. True: if this compiles, its last statement is no
 * expression. */
bool cellar_statement_is_last(const char *source, size_t len);

#endif
