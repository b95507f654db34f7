/* compare - whether two values say the same, and where they do not
 *
 * What counts is what the values mean: a member that was left out equals one that was given with its default. JSON of
 * any form is compared as JSON, whatever its spaces and the order of its members. */
#ifndef CAIRN_SCHEMA_COMPARE_H
#define CAIRN_SCHEMA_COMPARE_H

#include "blockcore/base/arena.h"
#include "blockcore/base/error.h"
#include "schema/codec/descriptor.h"

/* Whether @a and @b, which lie by value as @type says, are equal. Any thread. */
bool value_equal(const struct type_descriptor *type, const void *a, const void *b);

struct value_changes {
    const char *const *paths; /* "file.filename", "children[1].x"; in the order of the schema; "" for the whole */
    size_t count;
};

/* What differs between @a and @b, as far inside as both have it: of a member that only one has, an array whose length
 * changed or a discriminator that changed, its own path and nothing below or beside. The paths are taken from @arena.
 * An error says that there is no memory. */
struct error *value_diff(const struct type_descriptor *type, const void *a, const void *b, struct arena *arena,
                         struct value_changes *changes) MUST_CHECK;

#endif
