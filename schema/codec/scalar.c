#include "schema/codec/scalar.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* strtoll() and its like skip white space, which is no part of a number here. */
static bool begins_number(const char *text)
{
    return isdigit((unsigned char)*text) || *text == '-' || *text == '+' || *text == '.';
}

enum scalar_result scalar_signed(const char *text, int64_t *value)
{
    char *end;
    if (!begins_number(text))
        return SCALAR_MALFORMED;
    errno = 0;
    long long number = strtoll(text, &end, 0);
    if (end == text || *end)
        return SCALAR_MALFORMED;
    if (errno == ERANGE)
        return SCALAR_RANGE;
    *value = number;
    return SCALAR_OK;
}

enum scalar_result scalar_unsigned(const char *text, uint64_t *value)
{
    char *end;
    if (!begins_number(text))
        return SCALAR_MALFORMED;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 0);
    if (end == text || *end)
        return SCALAR_MALFORMED;
    if (errno == ERANGE || (*text == '-' && number != 0))
        return SCALAR_RANGE;
    *value = number;
    return SCALAR_OK;
}

/* The factor of a suffix; 0 if it is none. */
static uint64_t suffix_factor(const char *suffix)
{
    static const char letters[] = "bkmgtpe";
    const char *found = *suffix ? strchr(letters, tolower((unsigned char)*suffix)) : NULL;
    if (!*suffix)
        return 1;
    return found && suffix[1] == '\0' ? (uint64_t)1 << (10 * (found - letters)) : 0;
}

/* "1.5G": the fraction is rounded down to whole bytes. */
static enum scalar_result size_with_fraction(const char *text, uint64_t *value)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || strspn(text, "0123456789.") != (size_t)(end - text))
        return SCALAR_MALFORMED;
    uint64_t factor = suffix_factor(end);
    if (factor < 1024)
        return SCALAR_MALFORMED;
    double bytes = number * (double)factor;
    if (!(bytes < 18446744073709551616.0))
        return SCALAR_RANGE;
    *value = (uint64_t)bytes;
    return SCALAR_OK;
}

enum scalar_result scalar_size(const char *text, uint64_t *value)
{
    char *end;
    if (*text == '-') {
        uint64_t zero;
        return scalar_unsigned(text, &zero) == SCALAR_MALFORMED ? SCALAR_MALFORMED : SCALAR_RANGE;
    }
    if (!isdigit((unsigned char)*text))
        return SCALAR_MALFORMED;
    bool hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    errno = 0;
    unsigned long long number = strtoull(text, &end, hexadecimal ? 16 : 10);
    if (*end == '.' && !hexadecimal)
        return size_with_fraction(text, value);
    uint64_t factor = suffix_factor(end);
    if (end == text || !factor || (hexadecimal && *end))
        return SCALAR_MALFORMED;
    uint64_t bytes;
    if (errno == ERANGE || __builtin_mul_overflow((uint64_t)number, factor, &bytes))
        return SCALAR_RANGE;
    *value = bytes;
    return SCALAR_OK;
}

enum scalar_result scalar_number(const char *text, double *value)
{
    char *end;
    if (!begins_number(text))
        return SCALAR_MALFORMED;
    double number = strtod(text, &end);
    if (end == text || *end)
        return SCALAR_MALFORMED;
    if (!isfinite(number))
        return SCALAR_RANGE;
    *value = number;
    return SCALAR_OK;
}

enum scalar_result scalar_bool(const char *text, bool *value)
{
    static const char *const yes[] = { "on", "yes", "true", "y" };
    static const char *const no[] = { "off", "no", "false", "n" };
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *value = strcmp(text, yes[i]) == 0;
            return SCALAR_OK;
        }
    }
    return SCALAR_MALFORMED;
}
