/* suggest - the name that was probably meant */
#ifndef CAIRN_SCHEMA_SUGGEST_H
#define CAIRN_SCHEMA_SUGGEST_H

#include <stddef.h>

struct suggestion {
    const char *name; /* the best candidate so far, or NULL */
    size_t distance;
};

/* Considers @candidate as what was meant by @given: a few letters wrong, missing, too many or swapped. Begin with all
 * zero. */
void suggestion_consider(struct suggestion *suggestion, const char *given, const char *candidate);

#endif
