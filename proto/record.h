/*
 * Records: what agent and worker say to each other over the worker's control
 * socket (fd CELLAR_RECORD_FD). The worker is believed for nothing, so this is
 * no signed wire but the simplest thing that can be bounded:
 *
 *     u32 length of the body, big endian | u8 kind | body
 *
 * agent -> worker   CODE   u64 cell, u64 ticket (big endian), u8 whether UNFIT
 *                          is of interest, then the code, UTF-8; with its
 *                          first byte may come two descriptors (SCM_RIGHTS):
 *                          the cell's stdout, stderr
 *                   FREEZE with one descriptor (SCM_RIGHTS): the worker's end
 *                          of the socket of a copy, which it forks
 *                   WAKE   u8 reason, u64 ping (big endian); with two
 *                          descriptors: a frozen copy is the worker from now
 *                          on, and these its stdout, stderr
 * launcher -> agent SANDBOX u8 Landlock's ABI (0: none), u8 Seccomp's mode;
 *                          with a descriptor where the kernel has it: the
 *                          listener of the filter, which is asked before
 *                          processes of the session send each other signals
 * worker -> agent   READY  the Python version, "3.11.2"
 *                   MIME   type, a zero byte, data: a part of the result
 *                   NAME, TEXT, TRACE   an exception's name, message, and its
 *                          traceback, lines joined with \n
 *                   UNFIT  why the worker can't be copied, when asked: a line
 *                   END    u64 ticket (big endian), u8 outcome, u32 exit status
 * copy -> agent     FROZEN nothing; or, from the worker in the copy's place,
 *                          UNFIT: it could not be made
 *                   AWAKE  u64 (big endian): the ping and 1, added by the woken
 *                          interpreter
 *
 * The ticket is a random number of this cell's, which END gives back: a cell
 * that writes an END of its own to the socket doesn't know it, and the agent
 * sees that the worker is not to be believed any more.
 *
 * A cell's answer is any of MIME, NAME, TEXT, TRACE, UNFIT (each at most once,
 * MIME up to CELLAR_MIME_MAX times) and then END, best in one write. The header
 * is all that the worker's extension takes from proto/: it links nothing.
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
    X(END, 'E')                                                                \
    X(FREEZE, 'F')                                                             \
    X(FROZEN, 'Z')                                                             \
    X(WAKE, 'W')                                                               \
    X(AWAKE, 'A')                                                              \
    X(UNFIT, 'U')

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

/* Why a copy is woken. */
enum cellar_wake_reason {
    CELLAR_WAKE_RESTORE = 0, /* in the place of the worker it was copied from */
    CELLAR_WAKE_BRANCH = 1   /* beside it */
};

#define CELLAR_RECORD_END_BYTES   13
#define CELLAR_RECORD_CODE_BYTES  17 /* before the code itself */
#define CELLAR_RECORD_WAKE_BYTES  9
#define CELLAR_RECORD_AWAKE_BYTES 8

/* Exit statuses of launcher and bootstrap that say why no worker came up; the
 * agent turns each into its FAULT (message.h) with the worker's last words on
 * stderr as text. Above what Python and shells use. */
enum cellar_boot_status {
    CELLAR_BOOT_NO_PYTHON = 201,
    CELLAR_BOOT_MUSL = 202,
    CELLAR_BOOT_OLD_PYTHON = 203,
    CELLAR_BOOT_EXTENSION = 204,
    CELLAR_BOOT_SANDBOX = 205,
    CELLAR_BOOT_PRELOAD = 206 /* the last line says which module, and why */
};

#endif
