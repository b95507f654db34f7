/* copy - values that live longer than the arena they were decoded into
 *
 *     const struct blockdev_options *kept = value_copy(&blockdev_options_descriptor, options, arena);
 *
 * A copy shares nothing with what it was made from, so it lives as long as its arena and is freed with it, never
 * alone. */
#ifndef CAIRN_SCHEMA_COPY_H
#define CAIRN_SCHEMA_COPY_H

#include "blockcore/base/arena.h"
#include "schema/codec/descriptor.h"

/* A deep copy of @value, which lies by value as @type says and is one of its type (a member that must be there is).
 * NULL when the arena's limit is reached or there is no memory. Any thread that may use @arena. */
void *value_copy(const struct type_descriptor *type, const void *value, struct arena *arena) MUST_CHECK;

/* What stands in the place of @text in a copy, from @arena; NULL: the same. @object is the copy of who has the member,
 * with those before it. */
typedef const char *value_text(const struct type_descriptor *type, const void *object,
                               const struct member_descriptor *member, const char *text, struct arena *arena);

/* The same, asking @text about each text that is a member or an item of one. */
void *value_copy_with(const struct type_descriptor *type, const void *value, struct arena *arena,
                      value_text *text) MUST_CHECK;

#endif
