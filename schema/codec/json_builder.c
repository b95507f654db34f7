#include "schema/codec/json_builder.h"

#include "blockcore/base/memory.h"
#include "schema/codec/json_tree.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Levels above this number are given back when the message is over. */
#define LEVELS_KEEP 64

struct json_level {
    json_t *container; /* owned by the root */
    char *key;         /* of the value to come, in an object; owned */
    size_t key_length;
};

void json_builder_init(struct json_builder *builder, size_t values_max)
{
    *builder = (struct json_builder){ .expect = EXPECT_VALUE, .values_max = values_max };
}

void json_builder_reset(struct json_builder *builder)
{
    for (size_t i = 0; i < builder->depth; i++)
        free(builder->levels[i].key);
    json_decref(builder->root);
    free(builder->id_number);
    struct json_level *levels = builder->levels;
    size_t capacity = builder->capacity;
    if (capacity > LEVELS_KEEP) {
        free(levels);
        levels = NULL;
        capacity = 0;
    }
    *builder = (struct json_builder){
        .expect = EXPECT_VALUE,
        .levels = levels,
        .capacity = capacity,
        .values_max = builder->values_max,
    };
}

void json_builder_fini(struct json_builder *builder)
{
    json_builder_reset(builder);
    free(builder->levels);
    builder->levels = NULL;
}

static struct json_level *innermost(const struct json_builder *builder)
{
    return &builder->levels[builder->depth - 1];
}

static bool in_object(const struct json_builder *builder)
{
    return json_is_object(innermost(builder)->container);
}

static void push(struct json_builder *builder, json_t *container)
{
    if (builder->depth == builder->capacity) {
        builder->capacity = builder->capacity ? builder->capacity * 2 : 8;
        builder->levels = xrealloc_array(builder->levels, builder->capacity, sizeof(*builder->levels));
    }
    builder->levels[builder->depth++] = (struct json_level){ .container = container };
    builder->expect = json_is_object(container) ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
}

static void pop(struct json_builder *builder)
{
    builder->depth--;
    builder->expect = EXPECT_SEPARATOR;
}

/* Puts @value (owned) where it belongs. */
static void attach(struct json_builder *builder, json_t *value)
{
    builder->expect = EXPECT_SEPARATOR;
    if (builder->depth == 0) {
        builder->root = value;
        return;
    }
    struct json_level *level = innermost(builder);
    if (!level->key) {
        json_array_append_new(level->container, value);
        return;
    }
    json_object_setn_new_nocheck(level->container, level->key, level->key_length, value);
    free(steal(&level->key));
}

static bool is_id(const struct json_builder *builder)
{
    return builder->depth == 1 && innermost(builder)->key && strcmp(innermost(builder)->key, "id") == 0;
}

static struct error *number_value(struct json_builder *builder, const char *text, json_t **out)
{
    bool whole = !strpbrk(text, ".eE");
    errno = 0;
    long long integer = whole ? strtoll(text, NULL, 10) : 0;
    if (whole && errno == 0) {
        *out = json_integer(integer);
        return NULL;
    }
    double real = strtod(text, NULL);
    if (!isfinite(real))
        return error_new("JSON parse error, number '%.40s' is out of range", text);
    if (is_id(builder))
        builder->id_number = xstrdup(text);
    *out = whole ? json_wide_integer(text) : json_real(real);
    return NULL;
}

static struct error *make_value(struct json_builder *builder, enum json_token token, const struct json_lexer *lexer,
                                json_t **out)
{
    switch (token) {
    case TOKEN_LBRACE:
        *out = json_object();
        return NULL;
    case TOKEN_LBRACKET:
        *out = json_array();
        return NULL;
    case TOKEN_STRING:
        *out = json_stringn_nocheck(lexer->text, lexer->length);
        return NULL;
    case TOKEN_NUMBER:
        return number_value(builder, lexer->text, out);
    case TOKEN_TRUE:
    case TOKEN_FALSE:
        *out = json_boolean(token == TOKEN_TRUE);
        return NULL;
    case TOKEN_NULL:
        *out = json_null();
        return NULL;
    default:
        return error_new("JSON parse error, expecting value");
    }
}

static struct error *take_value(struct json_builder *builder, enum json_token token, const struct json_lexer *lexer)
{
    bool container = token == TOKEN_LBRACE || token == TOKEN_LBRACKET;
    if (container && builder->depth == JSON_DEPTH_MAX)
        return error_new("JSON nesting depth limit exceeded: a message may be %d levels deep", JSON_DEPTH_MAX);
    if (builder->values == builder->values_max)
        return error_new("JSON value count limit exceeded: a message may have %zu values", builder->values_max);

    json_t *value = NULL;
    struct error *err = make_value(builder, token, lexer, &value);
    if (err)
        return err;
    if (!value)
        return error_new("no memory for the input");
    builder->values++;
    attach(builder, value);
    if (container)
        push(builder, value);
    return NULL;
}

static struct error *take_key(struct json_builder *builder, enum json_token token, const struct json_lexer *lexer)
{
    if (token != TOKEN_STRING)
        return error_new("JSON parse error, key is not a string in object");
    struct json_level *level = innermost(builder);
    if (json_object_getn(level->container, lexer->text, lexer->length))
        return error_new("JSON parse error, duplicate key '%.80s'", lexer->text);
    level->key = xstrndup(lexer->text, lexer->length);
    level->key_length = lexer->length;
    builder->expect = EXPECT_COLON;
    return NULL;
}

static struct error *take_separator(struct json_builder *builder, enum json_token token)
{
    bool object = in_object(builder);
    if (token == TOKEN_COMMA)
        builder->expect = object ? EXPECT_KEY : EXPECT_VALUE;
    else if (token == (object ? TOKEN_RBRACE : TOKEN_RBRACKET))
        pop(builder);
    else
        return error_new("JSON parse error, expected separator in %s", object ? "object" : "array");
    return NULL;
}

static struct error *take_colon(struct json_builder *builder, enum json_token token)
{
    if (token != TOKEN_COLON)
        return error_new("JSON parse error, missing ':' after key '%.80s'", innermost(builder)->key);
    builder->expect = EXPECT_VALUE;
    builder->has_member = true;
    return NULL;
}

struct error *json_builder_take(struct json_builder *builder, enum json_token token, const struct json_lexer *lexer)
{
    if (token == TOKEN_BAD)
        return error_new("JSON parse error, %s", lexer->message);
    bool ends_empty = (builder->expect == EXPECT_VALUE_OR_END && token == TOKEN_RBRACKET) ||
                      (builder->expect == EXPECT_KEY_OR_END && token == TOKEN_RBRACE);
    if (ends_empty) {
        pop(builder);
        return NULL;
    }
    switch (builder->expect) {
    case EXPECT_KEY:
    case EXPECT_KEY_OR_END:
        return take_key(builder, token, lexer);
    case EXPECT_COLON:
        return take_colon(builder, token);
    case EXPECT_SEPARATOR:
        return take_separator(builder, token);
    case EXPECT_VALUE:
    case EXPECT_VALUE_OR_END:
        break;
    }
    return take_value(builder, token, lexer);
}
