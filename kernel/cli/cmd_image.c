#include <string.h>

#include "command.h"
#include "kernel/fail.h"
#include "kernel/image/build.h"
#include "kernel/image/unpack.h"
#include "table.h"

static void show_progress(void *user, const char *line, double fraction)
{
    struct cellar_front *front = user;
    if (fraction >= 0)
        cellar_output_printf(&front->err_out, "%s (%d%%)\n", line,
                             (int)(fraction * 100));
    else
        cellar_output_printf(&front->err_out, "%s\n", line);
}

static enum cellar_code print_object(struct cellar_front *front,
                                     const char *image, const char *key,
                                     const char *value)
{
    const struct cellar_column columns[] = {{"image", NULL}, {key, NULL}};
    struct cellar_table *table = cellar_table_new(columns, 2);
    if (!table)
        return cellar_fail(&front->err, CELLAR_E_NOMEM, "out of memory");
    cellar_table_text(table, image);
    cellar_table_text(table, value);
    enum cellar_code code = cellar_table_print(table, CELLAR_TABLE_OBJECT,
                                               &front->out, &front->err);
    cellar_table_free(table);
    return code;
}

static int build(struct cellar_front *front,
                 const struct cellar_image_request *request, const char *image)
{
    if (cellar_front_open(front) != CELLAR_OK ||
        cellar_image_build(front->c, request, show_progress, front,
                           &front->err) != CELLAR_OK)
        return cellar_front_fail(front);
    if (!front->options.json)
        cellar_output_printf(&front->out, "%s\n", image);
    else if (print_object(front, image, "variant", request->variant) !=
             CELLAR_OK)
        return cellar_front_fail(front);
    return CELLAR_EXIT_OK;
}

static const char *named(const char *image)
{
    const char *own = cellar_image_name(image);
    return own ? own : image;
}

static int unpack(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    char path[CELLAR_UNPACK_PATH_MAX];
    if (options->operand_count < 3)
        return cellar_front_usage(front, "unpack which IMAGE?");
    const char *image = named(options->operands[2]);
    const char *dir = options->operand_count > 3 ? options->operands[3] : NULL;
    if (cellar_front_open(front) != CELLAR_OK ||
        cellar_image_unpack(front->c, image, dir, path, &front->err) !=
            CELLAR_OK)
        return cellar_front_fail(front);
    if (!front->options.json)
        cellar_output_printf(&front->out, "%s\n", path);
    else if (print_object(front, image, "rootfs", path) != CELLAR_OK)
        return cellar_front_fail(front);
    return CELLAR_EXIT_OK;
}

static int run(struct cellar_front *front)
{
    const struct cellar_options *options = &front->options;
    struct cellar_image_request request = {
        .variant = options->variant ? options->variant : "slim",
        .base = options->base};
    const char *image = cellar_image_name(request.variant);
    if (strcmp(options->operands[1], "unpack") == 0)
        return unpack(front);
    if (strcmp(options->operands[1], "build") != 0 ||
        options->operand_count > 2)
        return cellar_front_usage(front,
                                  "'%.64s' is nothing 'cellar image' does; it "
                                  "does 'build' and 'unpack IMAGE [DIR]'",
                                  options->operands[1]);
    if (!image)
        return cellar_front_usage(
            front, "--variant: '%.64s' is not known; slim and data are",
            request.variant);
    return build(front, &request, image);
}

const struct cellar_command cellar_command_image = {
    .name = "image",
    .bit = CELLAR_ON_IMAGE,
    .operands = "build|unpack IMAGE [DIR]",
    .operands_min = 1,
    .operands_max = 3,
    .text = "Build the runtime image, or unpack one",
    .details =
        "The image is built by the engine, on Debian 12, and called\n"
        "cellar-runtime:slim or cellar-runtime:data. Progress is shown on "
        "stderr.\n"
        "unpack writes an image's files to a folder, a root file system for "
        "the oci\n"
        "engine; without DIR to one of the state directory. The engine is "
        "then needed no\n"
        "more. With --json: {image, variant} of build, {image, rootfs} of "
        "unpack.\n",
    .run = run,
};
