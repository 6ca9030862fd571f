#include "options.h"

#include <stdio.h>
#include <string.h>

#include "cellar/history.h"
#include "config.h"
#include "kernel/fail.h"
#include "kernel/refill.h"
#include "nearest.h"
#include "units.h"

#define AT(member) offsetof(struct cellar_options, member)

#define MAKERS CELLAR_ON_MAKERS
#define FLAG   .type = CELLAR_OPTION_FLAG
#define TEXT   .type = CELLAR_OPTION_TEXT
#define LIST   .type = CELLAR_OPTION_LIST
#define IMAGE  .type = CELLAR_OPTION_IMAGE
#define NUMBER .type = CELLAR_OPTION_NUMBER
#define COUNTS NUMBER, .unit = CELLAR_UNIT_COUNT, .min = 1, .max = COUNT_MAX

#define COUNT_MAX 1000000000
#define AGE_MAX   (UINT64_C(36500) * 24 * 60 * 60 * 1000)

static const struct cellar_option words[] = {
    {"image", 'i', IMAGE, .value = "IMAGE",
     .commands = MAKERS | CELLAR_ON_DOCTOR, .in_config = true,
     .offset = AT(spec.image),
     .text = "image the session is made from; slim and data stand for "
             "cellar-runtime:slim and cellar-runtime:data"},
    {"network", 0, TEXT, .value = "NETWORK", .commands = MAKERS,
     .in_config = true, .offset = AT(spec.network),
     .text = "none, or the name of a network of the engine's"},
    {"mount", 0, LIST, .slots = CELLAR_MOUNTS_MAX, .value = "DIR:INSIDE[:rw]",
     .commands = MAKERS, .in_config = true, .offset = AT(spec.mounts),
     .text = "a directory of this machine to see inside; read-only unless "
             ":rw; may be given again"},
    {"runtime", 0, TEXT, .value = "RUNTIME",
     .commands = MAKERS | CELLAR_ON_DOCTOR, .in_config = true,
     .offset = AT(spec.runtime),
     .text = "OCI runtime the engine shall use, by the engine's name of it; "
             "with --engine oci runc, crun or runsc, or a path"},
    {"rootfs", 0, TEXT, .value = "DIR", .commands = MAKERS | CELLAR_ON_DOCTOR,
     .in_config = true, .offset = AT(spec.rootfs),
     .text =
         "with --engine oci: an unpacked root file system for the session, "
         "as `cellar image unpack` makes one; else this machine's own /usr"},
    {"allow", 0, LIST, .slots = CELLAR_ALLOW_MAX, .value = "PROTECTION",
     .commands = MAKERS, .in_config = true, .offset = AT(spec.allow),
     .text = "do without this protection (named as doctor names it) where the "
             "engine can't enforce it; may be given again"},
    {"preload", 0, TEXT, .value = "MODULES", .commands = MAKERS,
     .in_config = true, .offset = AT(spec.preload),
     .text = "modules that Python imports before the session is ready, as "
             "numpy,pandas; their names are not bound"},
    {"pool", 0, NUMBER, .unit = CELLAR_UNIT_COUNT, .min = 1,
     .max = CELLAR_READY_MAX, .none = true, .value = "N",
     .commands = CELLAR_ON_POOLED, .in_config = true, .offset = AT(pool),
     .text = "take a ready session of this kind where there is one, and keep N "
             "of them for the next commands"},
    {"at-least", 0, FLAG, .commands = CELLAR_ON_POOL, .offset = AT(at_least),
     .text = "leave those that are more than N"},
    {"only", 0, FLAG, .commands = CELLAR_ON_POOL, .offset = AT(only),
     .text = "remove what stands ready of other options"},
    {"output", 'o', TEXT, .value = "OUT.ipynb|DIR", .commands = CELLAR_ON_RUN,
     .offset = AT(output), .text = "write the executed notebook here"},
    {"session", 's', TEXT, .value = "NAME", .commands = CELLAR_ON_RUN,
     .offset = AT(session),
     .text = "run in this live session, which stays, and not in a new one"},
    {"jobs", 'J', COUNTS, .value = "N", .commands = CELLAR_ON_RUN,
     .in_config = true, .offset = AT(jobs),
     .text = "run so many files at once"},
    {"keep-going", 'k', FLAG, .commands = CELLAR_ON_RUN, .in_config = true,
     .offset = AT(keep_going),
     .text = "go on after a cell that did not end ok"},
    {"all", 'a', FLAG, .commands = CELLAR_ON_STOP, .offset = AT(all),
     .text = "every session, in place of NAME"},
    {"list", 'l', FLAG, .commands = CELLAR_ON_CHECKPOINT, .offset = AT(list),
     .text = "list the checkpoints there are, in place of TAG"},
    {"delete", 'd', FLAG, .commands = CELLAR_ON_CHECKPOINT, .offset = AT(drop),
     .text = "delete the checkpoint TAG"},
    {"variant", 0, TEXT, .value = "slim|data", .commands = CELLAR_ON_IMAGE,
     .offset = AT(variant),
     .text = "slim: the standard library (the default); data: numpy, pandas "
             "and matplotlib too"},
    {"base", 0, TEXT, .value = "IMAGE", .commands = CELLAR_ON_IMAGE,
     .offset = AT(base), .text = "Debian 12 image to build on"},
    {"cells", 'n', NUMBER, .unit = CELLAR_UNIT_COUNT, .min = 1, .max = 10000000,
     .value = "N", .commands = CELLAR_ON_BENCH, .offset = AT(cells),
     .text = "how many to time: cells, starts or rounds"},
    {"sessions", 'S', NUMBER, .unit = CELLAR_UNIT_COUNT, .min = 1,
     .max = 100000, .value = "N", .commands = CELLAR_ON_BENCH,
     .offset = AT(sessions), .text = "scale, memory: how many sessions"},
    {"python", 0, TEXT, .value = "PYTHON", .commands = CELLAR_ON_BENCH,
     .offset = AT(python),
     .text = "a Python of this machine that has ipykernel and jupyter_client, "
             "to compare with; else CELLAR_BENCH_PYTHON, or python3"},
    {"id", 0, COUNTS, .value = "ID",
     .commands = CELLAR_ON_HISTORY | CELLAR_ON_EXPORT, .offset = AT(id),
     .text = "the session with this id, as history lists it, where older ones "
             "had the name too"},
    {"cell", 0, COUNTS, .value = "N", .commands = CELLAR_ON_HISTORY,
     .offset = AT(cell), .text = "only the cell with this number"},
    {"last", 0, COUNTS, .value = "N", .commands = CELLAR_ON_HISTORY,
     .offset = AT(last), .text = "only the last N cells"},
    {"prune", 0, FLAG, .commands = CELLAR_ON_HISTORY, .offset = AT(prune),
     .text = "make the journal smaller, and tell what went"},
    {"age", 0, NUMBER, .unit = CELLAR_UNIT_MILLIS, .max = AGE_MAX,
     .value = "TIME", .commands = CELLAR_ON_HISTORY, .offset = AT(age_ms),
     .text = "with --prune: sessions that ended longer ago go"},
    {"size", 0, NUMBER, .unit = CELLAR_UNIT_BYTES, .max = UINT64_C(1) << 50,
     .value = "SIZE", .commands = CELLAR_ON_HISTORY, .offset = AT(size_bytes),
     .text = "with --prune: what the journal may take on disk"},
    {"script", 0, FLAG, .commands = CELLAR_ON_EXPORT, .offset = AT(script),
     .text = "a Python script with \"# %%\" cells, in place of a notebook"},
    {"interval", 0, NUMBER, .unit = CELLAR_UNIT_MILLIS, .min = 100,
     .max = 3600000, .value = "TIME", .commands = CELLAR_ON_STATS,
     .offset = AT(interval_ms), .text = "time between two rows"},
    {"count", 0, COUNTS, .value = "N", .commands = CELLAR_ON_STATS,
     .offset = AT(count), .text = "end after N rows"},
    {"engine", 'e', TEXT, .value = "ENGINE", .commands = CELLAR_ON_ALL,
     .in_config = true, .offset = AT(engine),
     .text = "container engine: docker; oci, which starts an OCI runtime by "
             "itself and needs no daemon and no image; or auto, docker where "
             "it answers and has the image, else oci; else CELLAR_ENGINE, else "
             "auto"},
    {"host", 'H', TEXT, .value = "ADDRESS", .commands = CELLAR_ON_ALL,
     .in_config = true, .offset = AT(host),
     .text = "the engine's address, as unix:///var/run/docker.sock or "
             "tcp://host:2376; else DOCKER_HOST has it"},
    {"state-dir", 0, TEXT, .value = "DIR", .commands = CELLAR_ON_ALL,
     .in_config = true, .offset = AT(state_dir),
     .text = "where sessions are recorded; else CELLAR_STATE_DIR, "
             "$XDG_STATE_HOME/cellar or ~/.local/state/cellar"},
    {"data-dir", 0, TEXT, .value = "DIR", .commands = CELLAR_ON_ALL,
     .in_config = true, .offset = AT(data_dir),
     .text = "what the runtime image is made of; else CELLAR_DATA_DIR, or "
             "where it was installed"},
    {"config", 'c', TEXT, .value = "FILE", .commands = CELLAR_ON_ALL,
     .offset = AT(config),
     .text = "JSON object of defaults, keyed by option name; else "
             "CELLAR_CONFIG, or ~/.config/cellar/config.json if it is there"},
    {"json", 'j', FLAG, .commands = CELLAR_ON_ALL & ~CELLAR_ON_REPL,
     .in_config = true, .offset = AT(json), .text = "answer in JSON"},
    {"verbose", 'v', FLAG, .commands = CELLAR_ON_ALL, .in_config = true,
     .offset = AT(verbose), .text = "show engine calls and times on stderr"},
    {"help", 'h', FLAG, .commands = CELLAR_ON_ALL, .offset = AT(help),
     .text = "show this help"},
    {"version", 'V', FLAG, .commands = CELLAR_ON_ALL, .offset = AT(version),
     .text = "show the version"},
};

#define WORD_COUNT (sizeof words / sizeof words[0])

size_t cellar_option_count(void)
{
    return cellar_spec_field_count + WORD_COUNT;
}

static struct cellar_option from_field(const struct cellar_spec_field *field)
{
    /* A cell's own timeout is the one number that a live session takes. */
    bool of_cell = strcmp(field->name, "timeout") == 0;
    return (struct cellar_option){
        .name = field->name,
        .letter = of_cell ? 't' : 0,
        .type = CELLAR_OPTION_NUMBER,
        .unit = field->unit,
        .min = field->min,
        .max = field->max,
        .none = field->none,
        .value = cellar_unit_placeholder(field->unit),
        .text = field->text,
        .commands = MAKERS | (of_cell ? CELLAR_ON_EXEC : 0),
        .in_config = true,
        .offset = AT(spec) + field->offset,
    };
}

struct cellar_option cellar_option_at(size_t i)
{
    if (i < cellar_spec_field_count)
        return from_field(&cellar_spec_fields[i]);
    return words[i - cellar_spec_field_count];
}

size_t cellar_option_find(const char *name)
{
    size_t i = 0;
    while (i < cellar_option_count() &&
           strcmp(cellar_option_at(i).name, name) != 0)
        i++;
    return i;
}

void cellar_option_preset(const struct cellar_option *option,
                          char text[CELLAR_OPTION_PRESET_MAX])
{
    struct cellar_options presets;
    cellar_options_init(&presets);
    const char *at = (const char *)&presets + option->offset;
    text[0] = '\0';
    if (option->type == CELLAR_OPTION_NUMBER) {
        uint64_t value = 0;
        memcpy(&value, at, sizeof value);
        if (value)
            cellar_unit_write(option->unit, value, text);
    } else if (option->type == CELLAR_OPTION_TEXT ||
               option->type == CELLAR_OPTION_IMAGE) {
        const char *word = NULL;
        memcpy(&word, at, sizeof word);
        snprintf(text, CELLAR_OPTION_PRESET_MAX, "%s", word ? word : "");
    }
}

void cellar_options_init(struct cellar_options *options)
{
    *options = (struct cellar_options){0};
    cellar_spec_init(&options->spec);
    options->age_ms = CELLAR_HISTORY_AGE_MS;
    options->size_bytes = CELLAR_HISTORY_BYTES;
    options->interval_ms = 1000;
    options->jobs = 1;
}

void cellar_options_done(struct cellar_options *options)
{
    cellar_config_free(options->file);
    free(options->operands);
    free(options->written);
    *options = (struct cellar_options){0};
}

/* ------------------------------------------------------- setting one -- */

static enum cellar_code set_number(const struct cellar_option *option,
                                   const char *label, const char *text,
                                   uint64_t *slot, struct cellar_error *err)
{
    char min[CELLAR_UNIT_TEXT_MAX] = "";
    char max[CELLAR_UNIT_TEXT_MAX] = "";
    uint64_t value = 0;
    enum cellar_code code = cellar_unit_parse(option->unit, text, &value);
    if (code == CELLAR_E_USAGE)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "%s: '%.64s' is not a %s; write one like %s", label,
                           text, cellar_unit_noun(option->unit),
                           cellar_unit_example(option->unit));
    bool fits =
        code == CELLAR_OK && ((value == 0 && option->none) ||
                              (value >= option->min && value <= option->max));
    if (!fits) {
        cellar_unit_write(option->unit, option->min, min);
        cellar_unit_write(option->unit, option->max, max);
        return cellar_fail(err, CELLAR_E_USAGE,
                           "%s: %.64s is out of bounds: %s to %s%s, like %s",
                           label, text, min, max,
                           option->none ? " (or 0 for none)" : "",
                           cellar_unit_example(option->unit));
    }
    *slot = value;
    return CELLAR_OK;
}

static enum cellar_code append(const struct cellar_option *option,
                               const char *label, const char *text,
                               const char **slots, struct cellar_error *err)
{
    for (size_t i = 0; i < option->slots; i++) {
        if (slots[i])
            continue;
        slots[i] = text;
        return CELLAR_OK;
    }
    return cellar_fail(err, CELLAR_E_USAGE, "%s: at most %zu of them", label,
                       option->slots);
}

static const char *image_name(const char *text)
{
    if (strcmp(text, "slim") == 0)
        return "cellar-runtime:slim";
    return strcmp(text, "data") == 0 ? "cellar-runtime:data" : text;
}

enum cellar_code cellar_options_set(struct cellar_options *options, size_t i,
                                    const char *label, const char *value,
                                    struct cellar_error *err)
{
    struct cellar_option option = cellar_option_at(i);
    void *slot = (char *)options + option.offset;
    if (value && !value[0])
        return cellar_fail(err, CELLAR_E_USAGE,
                           "%s: its value is empty; it takes %s", label,
                           option.value);
    switch (option.type) {
    case CELLAR_OPTION_FLAG:
        *(bool *)slot = true;
        break;
    case CELLAR_OPTION_TEXT:
        *(const char **)slot = value;
        break;
    case CELLAR_OPTION_IMAGE:
        *(const char **)slot = image_name(value);
        break;
    case CELLAR_OPTION_LIST:
        return append(&option, label, value, slot, err);
    case CELLAR_OPTION_NUMBER:
        return set_number(&option, label, value, slot, err);
    }
    return CELLAR_OK;
}

/* ---------------------------------------------------- the command line -- */

/* A command line being read. The config file's place may be on it, yet its
 * values must be set before: so the options are collected first. */
struct scan {
    struct cellar_options *options;
    int argc;
    char **argv;
    int at;
    bool only_operands; /* after "--" */
};

static void add_operand(struct scan *scan, const char *text)
{
    struct cellar_options *options = scan->options;
    options->operands[options->operand_count++] = text;
}

/* Notes option `i`. `value` is what was attached to it, or NULL. */
static enum cellar_code add_option(struct scan *scan, size_t i,
                                   const char *value, struct cellar_error *err)
{
    struct cellar_option option = cellar_option_at(i);
    bool flag = option.type == CELLAR_OPTION_FLAG;
    if (flag && value)
        return cellar_fail(err, CELLAR_E_USAGE, "--%s takes no value",
                           option.name);
    if (!flag && !value) {
        if (scan->at + 1 >= scan->argc)
            return cellar_fail(err, CELLAR_E_USAGE,
                               "--%s: its value is missing: --%s %s",
                               option.name, option.name, option.value);
        value = scan->argv[++scan->at];
    }
    scan->options->given |= UINT64_C(1) << i;
    scan->options->written[scan->options->written_count++] =
        (struct cellar_given){i, value};
    return CELLAR_OK;
}

static enum cellar_code unknown_option(const char *name,
                                       struct cellar_error *err)
{
    struct cellar_nearest nearest;
    cellar_nearest_init(&nearest, name);
    for (size_t i = 0; i < cellar_option_count(); i++)
        cellar_nearest_offer(&nearest, cellar_option_at(i).name);
    if (nearest.best)
        return cellar_fail(err, CELLAR_E_USAGE,
                           "unknown option --%s; did you mean --%s?", name,
                           nearest.best);
    return cellar_fail(err, CELLAR_E_USAGE, "unknown option --%.64s", name);
}

static enum cellar_code scan_long(struct scan *scan, const char *text,
                                  struct cellar_error *err)
{
    char name[64] = "";
    size_t len = strcspn(text, "=");
    snprintf(name, sizeof name, "%.*s", (int)(len < 63 ? len : 63), text);
    size_t i = cellar_option_find(name);
    if (i == cellar_option_count())
        return unknown_option(name, err);
    return add_option(scan, i, text[len] ? text + len + 1 : NULL, err);
}

static size_t find_letter(char letter)
{
    size_t i = 0;
    while (i < cellar_option_count() && cellar_option_at(i).letter != letter)
        i++;
    return i;
}

/* "-v", "-vj", "-o FILE", "-oFILE". */
static enum cellar_code scan_letters(struct scan *scan, const char *text,
                                     struct cellar_error *err)
{
    for (; *text; text++) {
        size_t i = find_letter(*text);
        if (i == cellar_option_count())
            return cellar_fail(err, CELLAR_E_USAGE,
                               "unknown option -%.16s; put -- before words "
                               "that begin with a dash",
                               text);
        bool flag = cellar_option_at(i).type == CELLAR_OPTION_FLAG;
        const char *value = !flag && text[1] ? text + 1 : NULL;
        enum cellar_code code = add_option(scan, i, value, err);
        if (code != CELLAR_OK || !flag)
            return code;
    }
    return CELLAR_OK;
}

static enum cellar_code scan_word(struct scan *scan, struct cellar_error *err)
{
    const char *word = scan->argv[scan->at];
    if (scan->only_operands || word[0] != '-' || !word[1]) {
        add_operand(scan, word);
        return CELLAR_OK;
    }
    if (strcmp(word, "--") == 0) {
        scan->only_operands = true;
        return CELLAR_OK;
    }
    return word[1] == '-' ? scan_long(scan, word + 2, err)
                          : scan_letters(scan, word + 1, err);
}

/* A list on the command line stands in place of the config file's. */
static void forget_lists(struct cellar_options *options)
{
    for (size_t i = 0; i < cellar_option_count(); i++) {
        struct cellar_option option = cellar_option_at(i);
        if (option.type == CELLAR_OPTION_LIST && (options->given >> i & 1))
            memset((char *)options + option.offset, 0,
                   option.slots * sizeof(char *));
    }
}

static enum cellar_code set_found(const struct scan *scan,
                                  struct cellar_error *err)
{
    enum cellar_code code = CELLAR_OK;
    for (size_t n = 0; code == CELLAR_OK && n < scan->options->written_count;
         n++) {
        char label[64] = "";
        const struct cellar_given *found = &scan->options->written[n];
        snprintf(label, sizeof label, "--%s",
                 cellar_option_at(found->option).name);
        code = cellar_options_set(scan->options, found->option, label,
                                  found->value, err);
    }
    return code;
}

/* --help answers without a config file, which may be what is broken. */
static bool wants_config(const struct cellar_options *options)
{
    return !cellar_options_given(options, "help") &&
           !cellar_options_given(options, "version");
}

static const char *config_operand(const struct scan *scan)
{
    size_t config = cellar_option_find("config");
    const char *path = NULL;
    for (size_t n = 0; n < scan->options->written_count; n++)
        if (scan->options->written[n].option == config)
            path = scan->options->written[n].value;
    return path;
}

enum cellar_code cellar_options_parse(struct cellar_options *options, int argc,
                                      char **argv, struct cellar_error *err)
{
    /* One word may hold several letters, each an option. */
    size_t room = 1;
    for (int i = 1; i < argc; i++)
        room += strlen(argv[i]);
    options->written = calloc(room, sizeof *options->written);
    options->operands = calloc((size_t)argc + 1, sizeof *options->operands);
    if (!options->written || !options->operands)
        return cellar_fail(err, CELLAR_E_NOMEM, "out of memory");
    struct scan scan = {
        .options = options, .argc = argc, .argv = argv, .at = 1};
    enum cellar_code code = CELLAR_OK;
    for (; code == CELLAR_OK && scan.at < argc; scan.at++)
        code = scan_word(&scan, err);
    if (code == CELLAR_OK && wants_config(options))
        code = cellar_config_load(config_operand(&scan), options, err);
    if (code != CELLAR_OK)
        return code;
    forget_lists(options);
    return set_found(&scan, err);
}

enum cellar_code cellar_options_allowed(const struct cellar_options *options,
                                        unsigned command_bit,
                                        const char *command,
                                        struct cellar_error *err)
{
    for (size_t i = 0; i < cellar_option_count(); i++) {
        struct cellar_option option = cellar_option_at(i);
        if ((options->given >> i & 1) && !(option.commands & command_bit))
            return cellar_fail(err, CELLAR_E_USAGE,
                               "--%s is no option of 'cellar %s'", option.name,
                               command);
    }
    return CELLAR_OK;
}

bool cellar_options_given(const struct cellar_options *options,
                          const char *name)
{
    size_t i = cellar_option_find(name);
    return i < cellar_option_count() && (options->given >> i & 1);
}

uint64_t cellar_options_cell_timeout(const struct cellar_options *options)
{
    if (!cellar_options_given(options, "timeout"))
        return 0;
    return options->spec.timeout_ms ? options->spec.timeout_ms : UINT64_MAX;
}
