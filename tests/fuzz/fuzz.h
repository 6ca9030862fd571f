/* The one function of a fuzz target, by the name that libFuzzer gave it. */
#ifndef CELLAR_TESTS_FUZZ_H
#define CELLAR_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* NOLINTNEXTLINE(readability-identifier-naming) */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#endif
