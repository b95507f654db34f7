/* json_text - JSON that is written line by line, for back ends whose output other programs read
 *
 *     struct json_text json = { .output = output };
 *     json_open(&json, NULL, '{');
 *     json_string(&json, "name", "blockdev-add");
 *     json_open(&json, "members", '[');
 *     json_close(&json, ']');
 *     json_close(&json, '}');
 *
 * Commas and indentation come by themselves. @key is NULL inside arrays and for the whole. */
#ifndef SCHEMAC_JSON_TEXT_H
#define SCHEMAC_JSON_TEXT_H

#include "schema/compiler/backend.h"

struct json_text {
    struct output *output;
    unsigned depth;
    bool follows; /* something stands before in the same object or array */
};

/* @bracket is '{' or '[', and its counterpart when closing. */
void json_open(struct json_text *json, const char *key, char bracket);
void json_close(struct json_text *json, char bracket);

void json_string(struct json_text *json, const char *key, const char *value);
void json_bool(struct json_text *json, const char *key, bool value);
void json_unsigned(struct json_text *json, const char *key, uint64_t value);
void json_number(struct json_text *json, const char *key, const struct number *value);
/* Text that is JSON already. */
void json_raw(struct json_text *json, const char *key, const char *value);

/* A string with its quotes, in JSON's form. */
void output_json_string(struct output *output, const char *text);

/* A number as in JSON and in C: "-5", "0.25". */
const char *number_text(struct arena *arena, const struct number *number);

/* A default as JSON. */
void output_json_literal(struct output *output, const struct type *type, const struct literal *literal);

/* Whether the condition holds if exactly the names of @options are defined; NULL always does. */
bool condition_holds(const struct condition *condition, const struct backend_options *options);

#endif
