#include "schema/compiler/json_text.h"

#include <inttypes.h>

void output_json_string(struct output *output, const char *text)
{
    output_text(output, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            output_printf(output, "\\%c", c);
        else if (c == '\n')
            output_text(output, "\\n");
        else if (c < 0x20 || c == 0x7f)
            output_printf(output, "\\u%04x", c);
        else
            output_printf(output, "%c", c);
    }
    output_text(output, "\"");
}

static void begin_value(struct json_text *json, const char *key)
{
    if (json->follows)
        output_text(json->output, ",");
    if (json->follows || json->depth)
        output_text(json->output, "\n");
    output_printf(json->output, "%*s", (int)json->depth, "");
    if (key) {
        output_json_string(json->output, key);
        output_text(json->output, ": ");
    }
    json->follows = true;
}

void json_open(struct json_text *json, const char *key, char bracket)
{
    begin_value(json, key);
    output_printf(json->output, "%c", bracket);
    json->depth++;
    json->follows = false;
}

void json_close(struct json_text *json, char bracket)
{
    json->depth--;
    if (json->follows)
        output_printf(json->output, "\n%*s", (int)json->depth, "");
    output_printf(json->output, "%c", bracket);
    if (json->depth == 0)
        output_text(json->output, "\n");
    json->follows = true;
}

void json_raw(struct json_text *json, const char *key, const char *value)
{
    begin_value(json, key);
    output_text(json->output, value);
}

void json_string(struct json_text *json, const char *key, const char *value)
{
    begin_value(json, key);
    output_json_string(json->output, value);
}

void json_bool(struct json_text *json, const char *key, bool value)
{
    json_raw(json, key, value ? "true" : "false");
}

void json_unsigned(struct json_text *json, const char *key, uint64_t value)
{
    json_raw(json, key, arena_printf(json->output->arena, "%" PRIu64, value));
}

void json_number(struct json_text *json, const char *key, const struct number *value)
{
    json_raw(json, key, number_text(json->output->arena, value));
}

const char *number_text(struct arena *arena, const struct number *number)
{
    if (number->integer)
        return arena_printf(arena, "%s%" PRIu64, number->negative ? "-" : "", number->magnitude);
    return arena_printf(arena, "%.17g", number->real);
}

void output_json_literal(struct output *output, const struct type *type, const struct literal *literal)
{
    if (type->kind == TYPE_ENUM || (type->kind == TYPE_BUILTIN && type->builtin->kind == BUILTIN_STR))
        output_json_string(output, literal->string);
    else if (type->kind == TYPE_BUILTIN && type->builtin->kind == BUILTIN_BOOL)
        output_text(output, literal->boolean ? "true" : "false");
    else
        output_text(output, number_text(output->arena, &literal->number));
}

bool condition_holds(const struct condition *condition, const struct backend_options *options)
{
    if (!condition)
        return true;
    if (condition->kind == CONDITION_NAME)
        return names_contain(options->defined, options->defined_count, condition->name);
    if (condition->kind == CONDITION_NOT)
        return !condition_holds(condition->operands.items[0], options);
    for (size_t i = 0; i < condition->operands.count; i++)
        if (condition_holds(condition->operands.items[i], options) != (condition->kind == CONDITION_ALL))
            return condition->kind == CONDITION_ANY;
    return condition->kind == CONDITION_ALL;
}
