#include "schema/codec/suggest.h"

#include <stdbool.h>
#include <string.h>

enum {
    LENGTH_MAX = 63, /* longer names get no suggestion */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edits that turn one name into the other: insert, remove, replace, swap neighbours (optimal string alignment). */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][LENGTH_MAX + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];

    for (size_t j = 0; j <= b_length; j++)
        above[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            bool same = a[i - 1] == b[j - 1];
            row[j] = smaller(smaller(above[j], row[j - 1]) + 1, above[j - 1] + !same);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = smaller(row[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[b_length];
}

void suggestion_consider(struct suggestion *suggestion, const char *given, const char *candidate)
{
    size_t given_length = strlen(given), length = strlen(candidate);
    if (given_length > LENGTH_MAX || length > LENGTH_MAX)
        return;
    size_t allowed = 1 + length / 4;
    size_t distance = edit_distance(given, given_length, candidate, length);
    if (distance > allowed || distance >= length || (suggestion->name && distance >= suggestion->distance))
        return;
    *suggestion = (struct suggestion){ .name = candidate, .distance = distance };
}
