#include "blockcore/objects/glob.h"

#include <stddef.h>

/* The "]" that closes the set whose first byte is at @set, or NULL. One that comes first is in the set. */
static const char *end_of_set(const char *set)
{
    if (*set == '!' || *set == '^')
        set++;
    if (*set == ']')
        set++;
    for (; *set && *set != ']'; set++) {
        if (*set == '\\' && set[1])
            set++;
    }
    return *set ? set : NULL;
}

/* One byte of a set, that may have "\" before it. */
static unsigned char set_byte(const char **at)
{
    if (**at == '\\' && (*at)[1])
        (*at)++;
    return (unsigned char)*(*at)++;
}

static bool in_set(const char *set, const char *end, unsigned char byte)
{
    bool inverse = *set == '!' || *set == '^';
    bool found = false;
    set += inverse;
    while (set < end) {
        unsigned char first = set_byte(&set);
        unsigned char last = first;
        if (*set == '-' && set + 1 < end) {
            set++;
            last = set_byte(&set);
        }
        found = found || (first <= byte && byte <= last);
    }
    return found != inverse;
}

/* Compares the byte with what stands at *pattern, which is not "*", and moves on behind that. */
static bool match_one(const char **pattern, unsigned char byte)
{
    const char *at = *pattern;
    const char *end = *at == '[' ? end_of_set(at + 1) : NULL;
    if (end) {
        *pattern = end + 1;
        return in_set(at + 1, end, byte);
    }
    if (*at == '?') {
        *pattern = at + 1;
        return true;
    }
    if (*at == '\\' && at[1])
        at++;
    *pattern = at + 1;
    return (unsigned char)*at == byte;
}

/* When something does not fit, the last "*" takes one byte more: an earlier one need never be looked at again. */
bool glob_matches(const char *pattern, const char *text)
{
    const char *star = NULL;
    const char *resume = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = ++pattern;
            resume = text;
            continue;
        }
        const char *next = pattern;
        if (*pattern && match_one(&next, (unsigned char)*text)) {
            pattern = next;
            text++;
        } else if (star) {
            pattern = star;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}
