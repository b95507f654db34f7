/* names - a map from strings to pointers; grows inside an arena
 *
 * All zero is empty. Strings are not copied. */
#ifndef SCHEMAC_NAMES_H
#define SCHEMAC_NAMES_H

#include "blockcore/base/arena.h"

struct name_slot {
    const char *name;
    void *value;
};

struct names {
    struct name_slot *slots;
    size_t count;
    size_t capacity; /* a power of two */
};

/* NULL if there is none. */
void *names_get(const struct names *names, const char *name);
/* The value that stood there before, which stays, or NULL. */
void *names_add(struct names *names, struct arena *arena, const char *name, void *value);

#endif
