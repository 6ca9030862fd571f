/*
 * Records: what agent and worker say to each other over the worker's control
 * socket (fd CELLAR_RECORD_FD). The worker is believed for nothing, so this is
 * no signed wire but the simplest thing that can be bounded:
 *
 *     u32 length of the body, big endian | u8 kind | body
 *
 * agent -> worker   CODE   u64 cell, u64 ticket (big endian), then the code,
 *                          UTF-8; with its first byte may come two
 *                          descriptors (SCM_RIGHTS): the cell's stdout, stderr
 * launcher -> agent SANDBOX u8 Landlock's ABI (0: none), u8 Seccomp's mode
 * worker -> agent   READY  the Python version, "3.11.2"
 *                   MIME   type, a zero byte, data: a part of the result
 *                   NAME, TEXT, TRACE   an exception's name, message, and its
 *                          traceback, lines joined with \n
 *                   END    u64 ticket (big endian), u8 outcome, u32 exit status
 *
 * The ticket is a random number of this cell's, which END gives back: a cell
 * that writes an END of its own to the socket doesn't know it, and the agent
 * sees that the worker is not to be believed any more.
 *
 * A cell's answer is any of MIME, NAME, TEXT, TRACE (each at most once, MIME
 * up to CELLAR_MIME_MAX times) and then END, best in one write. The header is
 * all that the worker's extension takes from proto/: it links nothing.
 */
#ifndef CELLAR_PROTO_RECORD_H
#define CELLAR_PROTO_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define CELLAR_RECORD_FD           3
#define CELLAR_RECORD_HEADER_BYTES 5

#define CELLAR_RECORD_MAP(X)                                                   \
    X(CODE, 'C')                                                               \
    X(SANDBOX, 'S')                                                            \
    X(READY, 'R')                                                              \
    X(MIME, 'M')                                                               \
    X(NAME, 'N')                                                               \
    X(TEXT, 'T')                                                               \
    X(TRACE, 'B')                                                              \
    X(END, 'E')

enum cellar_record_kind {
#define CELLAR_RECORD_ENUM(name, letter) CELLAR_RECORD_##name = (letter),
    CELLAR_RECORD_MAP(CELLAR_RECORD_ENUM)
#undef CELLAR_RECORD_ENUM
};

/* What the worker says of its cell. */
enum cellar_outcome {
    CELLAR_OUTCOME_OK = 0,
    CELLAR_OUTCOME_ERROR = 1,       /* NAME, TEXT, TRACE came before */
    CELLAR_OUTCOME_INTERRUPTED = 2, /* ended by KeyboardInterrupt */
    CELLAR_OUTCOME_EXIT = 3         /* SystemExit, with its exit status */
};

#define CELLAR_RECORD_END_BYTES  13
#define CELLAR_RECORD_CODE_BYTES 16 /* before the code itself */

/* Exit statuses of launcher and bootstrap that say why no worker came up; the
 * agent turns each into its FAULT (message.h) with the worker's last words on
 * stderr as text. Above what Python and shells use. */
enum cellar_boot_status {
    CELLAR_BOOT_NO_PYTHON = 201,
    CELLAR_BOOT_MUSL = 202,
    CELLAR_BOOT_OLD_PYTHON = 203,
    CELLAR_BOOT_EXTENSION = 204,
    CELLAR_BOOT_SANDBOX = 205
};

#endif
