/* random - values of any type, for tests
 *
 * The table says what a value may be, and the generator takes any of it: each branch, each limit to its edge, members
 * there or not. The same seed gives the same value. */
#ifndef CAIRN_SCHEMA_RANDOM_H
#define CAIRN_SCHEMA_RANDOM_H

#include "blockcore/base/arena.h"
#include "schema/codec/descriptor.h"

/* A value of @type in @arena. Integers stay within int64_t, as far as readers of JSON go. @seed moves on. NULL when the
 * arena's limit is reached or there is no memory, or if the type's limits leave no value that is soon found. */
void *value_random(const struct type_descriptor *type, uint64_t *seed, struct arena *arena) MUST_CHECK;

#endif
