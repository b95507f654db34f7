/* json_builder - a value out of tokens
 *
 * Checks the order of tokens and the limits on a message, and builds the value as far as it is known: what was taken
 * so far never has to be looked at again. Errors are those that a person who typed the input understands. */
#ifndef CAIRN_SCHEMA_JSON_BUILDER_H
#define CAIRN_SCHEMA_JSON_BUILDER_H

#include "blockcore/base/error.h"
#include "schema/codec/json_lexer.h"

#include <jansson.h>

#define JSON_DEPTH_MAX 1024
#define JSON_VALUES_MAX (256 * 1024) /* in a message from outside: a value costs up to 300 bytes of memory */

enum json_expectation {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* after '[' */
    EXPECT_SEPARATOR,    /* or the end of the container */
    EXPECT_KEY,
    EXPECT_KEY_OR_END, /* after '{' */
    EXPECT_COLON,
};

struct json_level;

struct json_builder {
    enum json_expectation expect;
    json_t *root;
    struct json_level *levels; /* containers that are open, the root first */
    size_t depth;
    size_t capacity;
    size_t values;
    size_t values_max;
    bool has_member; /* a key and its colon were seen: this is meant to be JSON */
    char *id_number; /* member "id" of the root as written, if it is a number that json_t cannot hold exactly */
};

/* @values_max: the most values that may be taken in one root. */
void json_builder_init(struct json_builder *builder, size_t values_max);

/* Drops what was built. */
void json_builder_reset(struct json_builder *builder);
void json_builder_fini(struct json_builder *builder);

/* Takes the token that @lexer just gave; not TOKEN_MORE or TOKEN_STRAY, and not after a value is complete. */
struct error *json_builder_take(struct json_builder *builder, enum json_token token,
                                const struct json_lexer *lexer) MUST_CHECK;

static inline bool json_builder_is_empty(const struct json_builder *builder)
{
    return !builder->root;
}

static inline bool json_builder_is_complete(const struct json_builder *builder)
{
    return builder->root && builder->depth == 0;
}

#endif
