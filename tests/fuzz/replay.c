/* Runs a fuzz target over every file of the folders named, in order of their
 * names, then over each with a bit flipped: a fuzz target is a test under
 * any compiler. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define SEED_MAX  (1u << 20)
#define FLIPS_MAX 1024

/* In memory of its own, so that a sanitizer sees the end. */
static void run(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        abort();
    if (len > 0)
        memcpy(copy, data, len);
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

/* All bits of a small seed. Of a larger one every n-th, n being odd so that
 * each place of a byte has its turn. */
static void run_mutants(uint8_t *data, size_t len)
{
    size_t step = 8 * len / FLIPS_MAX | 1;
    for (size_t bit = 0; bit < 8 * len; bit += step) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        run(data, len);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static int run_file(const char *folder, const char *name)
{
    static uint8_t data[SEED_MAX];
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    size_t len = fread(data, 1, sizeof(data), file);
    fclose(file);
    run(data, len);
    run_mutants(data, len);
    return 0;
}

static int is_seed(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    int ran = 0;
    for (int i = 1; i < argc; i++) {
        struct dirent **entries = NULL;
        int count = scandir(argv[i], &entries, is_seed, alphasort);
        if (count < 0) {
            perror(argv[i]);
            return 1;
        }
        for (int n = 0; n < count; n++) {
            if (run_file(argv[i], entries[n]->d_name) != 0)
                return 1;
            free(entries[n]);
            ran++;
        }
        free(entries);
    }
    printf("%d seeds\n", ran);
    return ran > 0 ? 0 : 1;
}
