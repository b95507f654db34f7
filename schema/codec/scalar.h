/* scalar - numbers and booleans that are written as text
 *
 * The conversions of QEMU's key=value syntax. Each takes the whole text or nothing. */
#ifndef CAIRN_SCHEMA_SCALAR_H
#define CAIRN_SCHEMA_SCALAR_H

#include <stdbool.h>
#include <stdint.h>

enum scalar_result {
    SCALAR_OK,
    SCALAR_MALFORMED,
    SCALAR_RANGE, /* well-formed, but too large or too small for any integer */
};

enum scalar_result scalar_signed(const char *text, int64_t *value);
enum scalar_result scalar_unsigned(const char *text, uint64_t *value);

/* Bytes: an integer, or a decimal fraction with a suffix. */
enum scalar_result scalar_size(const char *text, uint64_t *value);

enum scalar_result scalar_number(const char *text, double *value);
enum scalar_result scalar_bool(const char *text, bool *value);

#endif
