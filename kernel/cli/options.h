/*
 * The options of the `cellar` command: one table that drives the parser,
 * --help, the config file and the check of the man page. The numbers of a
 * session come from the table in kernel/spec.h; the rest stands in options.c.
 *
 *     struct cellar_options options;
 *     cellar_options_init(&options);
 *     if (cellar_options_parse(&options, argc, argv, &err) ||
 *         cellar_options_allowed(&options, command->bit, command->name, &err))
 *         ... err.msg names the option; exit status 2
 *     cellar_options_done(&options);
 *
 * Options may stand before the command, after it, and between operands; "--"
 * ends them. A value on the command line beats one in the config file, which
 * beats the default.
 */
#ifndef CELLAR_CLI_OPTIONS_H
#define CELLAR_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/spec.h"

struct cellar_config_file;

/* The commands, as bits: which of them an option belongs to. */
enum cellar_on {
    CELLAR_ON_REPL = 1 << 0,
    CELLAR_ON_RUN = 1 << 1,
    CELLAR_ON_START = 1 << 2,
    CELLAR_ON_EXEC = 1 << 3,
    CELLAR_ON_INTERRUPT = 1 << 4,
    CELLAR_ON_RESET = 1 << 5,
    CELLAR_ON_STOP = 1 << 6,
    CELLAR_ON_PS = 1 << 7,
    CELLAR_ON_DOCTOR = 1 << 8,
    CELLAR_ON_IMAGE = 1 << 9,
    CELLAR_ON_BENCH = 1 << 10,
    CELLAR_ON_HISTORY = 1 << 11,
    CELLAR_ON_EXPORT = 1 << 12,
    CELLAR_ON_STATS = 1 << 13,
    CELLAR_ON_CHECKPOINT = 1 << 14,
    CELLAR_ON_RESTORE = 1 << 15,
    CELLAR_ON_FORK = 1 << 16,
    CELLAR_ON_POOL = 1 << 17,
    CELLAR_ON_ALL = (1 << 18) - 1,
    /* Those that run cells: they tell what ended unattended. */
    CELLAR_ON_RUNNERS = CELLAR_ON_REPL | CELLAR_ON_RUN | CELLAR_ON_EXEC,
    /* Those that take one from a pool. */
    CELLAR_ON_POOLED = CELLAR_ON_REPL | CELLAR_ON_RUN | CELLAR_ON_START,
    /* Those that may start a session. */
    CELLAR_ON_MAKERS = CELLAR_ON_REPL | CELLAR_ON_RUN | CELLAR_ON_START |
                       CELLAR_ON_BENCH | CELLAR_ON_POOL
};

/* What a command line and a config file come to. Strings are borrowed from
 * argv and from `file`. */
struct cellar_options {
    struct cellar_spec spec;
    const char *engine;
    const char *host;
    const char *state_dir;
    const char *data_dir;
    const char *config;
    const char *output;   /* run: the executed notebook */
    const char *session;  /* run: the name of the session to run in */
    const char *variant;  /* image build */
    const char *base;     /* image build */
    const char *python;   /* bench: one that has ipykernel */
    uint64_t jobs;        /* run: files at once */
    uint64_t pool;        /* ready sessions to keep; 0: none */
    uint64_t cells;       /* bench: how many; 0: its own choice */
    uint64_t sessions;    /* bench scale: how many; 0: its own choice */
    uint64_t id;          /* history, export: a session in the journal; 0: none
                             is named */
    uint64_t cell;        /* history: the one to show; 0: all */
    uint64_t last;        /* history: how many; 0: all */
    uint64_t age_ms;      /* history --prune */
    uint64_t size_bytes;  /* history --prune */
    uint64_t interval_ms; /* stats */
    uint64_t count;       /* stats: how many rows; 0: its own choice */
    bool prune;
    bool script;
    bool keep_going;
    bool all;
    bool at_least;
    bool only;
    bool list; /* checkpoint */
    bool drop; /* checkpoint */
    bool json;
    bool verbose;
    bool help;
    bool version;
    const char **operands; /* the command is the first; owned */
    size_t operand_count;
    uint64_t given; /* bit i: option i stood on the command line */
    struct cellar_given *written; /* as they stood there; owned */
    size_t written_count;
    struct cellar_config_file *file; /* owned */
};

/* An option as it was written. */
struct cellar_given {
    size_t option;
    const char *value; /* NULL of a FLAG */
};

enum cellar_option_type {
    CELLAR_OPTION_FLAG,   /* bool; takes no value */
    CELLAR_OPTION_TEXT,   /* const char *, as written */
    CELLAR_OPTION_LIST,   /* const char *[slots]; may be given again */
    CELLAR_OPTION_NUMBER, /* uint64_t, in `unit` */
    CELLAR_OPTION_IMAGE   /* const char *; "slim" and "data" are short names */
};

struct cellar_option {
    const char *name; /* without the dashes */
    char letter;      /* or 0 */
    enum cellar_option_type type;
    enum cellar_unit unit; /* with its bounds: of a NUMBER */
    uint64_t min;
    uint64_t max;
    bool none;         /* 0 is allowed too, and means no limit */
    size_t slots;      /* of a LIST */
    const char *value; /* what stands for the value in --help */
    const char *text;
    unsigned commands; /* bits of enum cellar_on */
    bool in_config;    /* its name is a key of the config file too */
    size_t offset;     /* in struct cellar_options */
};

/* The table, by value: `i` below the count (at most 64, the bits of given). */
size_t cellar_option_count(void);
struct cellar_option cellar_option_at(size_t i);
/* The index of the option called `name`, or the count where there is none. */
size_t cellar_option_find(const char *name);
/* The default as one would write it; "" where there is none. */
#define CELLAR_OPTION_PRESET_MAX 256
void cellar_option_preset(const struct cellar_option *option,
                          char text[CELLAR_OPTION_PRESET_MAX]);

/* The defaults. */
void cellar_options_init(struct cellar_options *options);
void cellar_options_done(struct cellar_options *options);

/* Reads the whole command line, and the config file before it. E_USAGE names
 * the option, its value, and how to write it; operands read so far stay. */
enum cellar_code cellar_options_parse(struct cellar_options *options, int argc,
                                      char **argv, struct cellar_error *err);

/* Sets option `i` from `value` (NULL for a FLAG), which must live as long as
 * `options`. `label` stands for the option in messages: "--memory". */
enum cellar_code cellar_options_set(struct cellar_options *options, size_t i,
                                    const char *label, const char *value,
                                    struct cellar_error *err);

/* E_USAGE when an option on the command line isn't one of this command. */
enum cellar_code cellar_options_allowed(const struct cellar_options *options,
                                        unsigned command_bit,
                                        const char *command,
                                        struct cellar_error *err);

/* Whether the option called `name` stood on the command line itself. */
bool cellar_options_given(const struct cellar_options *options,
                          const char *name);

/* The timeout of a cell in a live session, as struct cellar_cell has it: 0
 * for the session's own, unless --timeout stood on the command line. */
uint64_t cellar_options_cell_timeout(const struct cellar_options *options);

#endif
