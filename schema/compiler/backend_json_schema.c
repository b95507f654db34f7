/* A JSON Schema (draft 2020-12): what decode accepts, it accepts, and what decode refuses, it refuses. Where JSON
 * Schema cannot say the same, it accepts more: 1.0 is an integer to it, lengths count characters instead of bytes, and
 * numbers that stand in strings are not compared with their limits.
 *
 * A union has the common members, and for each value of its discriminator an "if" with a closed list of members in its
 * "then", so that editors complete, and complain about, what fits the value. */
#include "schema/compiler/json_text.h"
#include "schema/compiler/markup.h"
#include "schema/compiler/printers.h"

#include <stdlib.h>
#include <string.h>

struct schema_writer {
    struct json_text json;
    const struct model *model;
    const struct backend_options *options;
    bool text;
    VECTOR(const struct type *) used; /* described in $defs; grows while they are described */
};

struct names {
    VECTOR(const char *) list;
};

static const struct type *written(const struct type *type)
{
    return type->plain ? type->plain : type;
}

static const char *use(struct schema_writer *writer, const struct type *type)
{
    bool known = false;
    for (size_t i = 0; i < writer->used.count && !known; i++)
        known = writer->used.items[i] == type;
    if (!known)
        VECTOR_PUSH(writer->json.output->arena, &writer->used, type);
    return arena_printf(writer->json.output->arena, "#/$defs/%s", type->name);
}

/* One line of prose, as editors show it. */
static void put_description(struct schema_writer *writer, const char *text)
{
    struct arena *arena = writer->json.output->arena;
    struct blocks blocks = { 0 };
    struct output description = { .arena = arena };
    markup_blocks(arena, text, &blocks);
    for (size_t i = 0; i < blocks.list.count; i++) {
        const char *line = blocks.list.items[i].text;
        struct piece piece;
        if (blocks.list.items[i].kind == BLOCK_EXAMPLE)
            continue;
        output_text(&description, description.text.count ? " " : "");
        while (markup_piece(arena, &line, &piece))
            output_text(&description, piece.text);
    }
    if (description.text.count)
        json_string(&writer->json, "description", output_string(&description));
}

/* Whether a text of this form can begin as numbers do. */
static bool looks_like_number(const struct pattern *pattern)
{
    for (size_t i = 0; i < pattern->items.count; i++) {
        const struct pattern_item *item = &pattern->items.items[i];
        for (const char *c = "-0123456789"; *c; c++)
            if (item->set[*c / 32] >> (*c % 32) & 1)
                return true;
        if (item->minimum > 0)
            return false;
    }
    return false;
}

/* Files of text may have variables from the environment in them: what these hold is not known here. */
#define VARIABLE "|[$][{]"

static void put_limits(struct schema_writer *writer, const struct constraints *constraints)
{
    struct json_text *json = &writer->json;
    if (!constraints)
        return;
    if (constraints->has_minimum)
        json_number(json, "minimum", &constraints->minimum);
    if (constraints->has_maximum)
        json_number(json, "maximum", &constraints->maximum);
    if (constraints->multiple_of)
        json_unsigned(json, "multipleOf", constraints->multiple_of);
    if (constraints->max_length && constraints->max_length != UINT32_MAX)
        json_unsigned(json, "maxLength", constraints->max_length);
    if (constraints->min_length)
        json_unsigned(json, "minLength", (constraints->min_length + 3) / 4); /* a character has 1 to 4 bytes */
    if (!constraints->pattern)
        return;
    json_string(
        json, "pattern",
        arena_printf(json->output->arena, "^(?:%s)$%s", constraints->pattern->text, writer->text ? VARIABLE : ""));
    if (writer->text && !looks_like_number(constraints->pattern)) { /* which is the text of a string as well */
        json_open(json, "not", '{');
        json_string(json, "type", "number");
        json_close(json, '}');
    }
}

struct integer_range {
    const char *name, *minimum, *maximum;
};

static const struct integer_range *integer_range(const char *name)
{
    static const struct integer_range ranges[] = {
        { "int8", "-128", "127" },
        { "int16", "-32768", "32767" },
        { "int32", "-2147483648", "2147483647" },
        { "int64", "-9223372036854775808", "9223372036854775807" },
        { "int", "-9223372036854775808", "9223372036854775807" },
        { "uint8", "0", "255" },
        { "uint16", "0", "65535" },
        { "uint32", "0", "4294967295" },
        { "uint64", "0", "18446744073709551615" },
        { "size", "0", "18446744073709551615" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
        if (strcmp(ranges[i].name, name) == 0)
            return &ranges[i];
    return NULL;
}

/* What decoding text takes for a value of this kind; NULL: no strings. */
static const char *text_pattern(const struct type *type)
{
    static const char signed_pattern[] = "^[-+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$" VARIABLE;
    static const char unsigned_pattern[] = "^([+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)|-(0[xX])?0+)$" VARIABLE;
    static const char size_pattern[] =
        "^(0[xX][0-9a-fA-F]+|[0-9]+[bBkKmMgGtTpPeE]?|[0-9]+[.][0-9]*[kKmMgGtTpPeE])$" VARIABLE;
    static const char number_pattern[] = "^[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)?$" VARIABLE;
    switch (type->builtin->kind) {
    case BUILTIN_INT:
        return type->name[0] == 'u' ? unsigned_pattern : signed_pattern;
    case BUILTIN_SIZE:
        return size_pattern;
    case BUILTIN_NUMBER:
        return number_pattern;
    case BUILTIN_BOOL:
        return "^(on|yes|true|y|off|no|false|n)$" VARIABLE;
    case BUILTIN_NULL:
        return "^$";
    default:
        return NULL;
    }
}

static void put_scalar_body(struct schema_writer *writer, const struct type *type)
{
    static const char *const names[] = {
        [BUILTIN_STR] = "string",   [BUILTIN_NUMBER] = "number", [BUILTIN_INT] = "integer",
        [BUILTIN_SIZE] = "integer", [BUILTIN_BOOL] = "boolean",  [BUILTIN_NULL] = "null",
    };
    struct json_text *json = &writer->json;
    const struct integer_range *range = integer_range(type->name);
    if (type->builtin->kind == BUILTIN_ANY)
        return;
    json_string(json, "type", names[type->builtin->kind]);
    if (range) {
        json_raw(json, "minimum", range->minimum);
        json_raw(json, "maximum", range->maximum);
    }
}

/* Text knows no types: 10809 may be a string, and "64K" a size. */
static void put_builtin(struct schema_writer *writer, const struct type *type)
{
    struct json_text *json = &writer->json;
    if (!writer->text || type->builtin->kind == BUILTIN_ANY) {
        put_scalar_body(writer, type);
        return;
    }
    if (type->builtin->kind == BUILTIN_STR) {
        json_open(json, "type", '[');
        json_string(json, NULL, "string");
        json_string(json, NULL, "number");
        json_string(json, NULL, "boolean");
        json_close(json, ']');
        return;
    }
    json_open(json, "anyOf", '[');
    json_open(json, NULL, '{');
    put_scalar_body(writer, type);
    json_close(json, '}');
    json_open(json, NULL, '{');
    json_string(json, "type", "string");
    json_string(json, "pattern", text_pattern(type));
    json_close(json, '}');
    json_close(json, ']');
}

static void put_reference(struct schema_writer *writer, const struct type *type)
{
    struct json_text *json = &writer->json;
    if (type->kind != TYPE_ARRAY) {
        json_string(json, "$ref", use(writer, type));
        return;
    }
    json_string(json, "type", "array");
    json_open(json, "items", '{');
    put_reference(writer, type->element);
    json_close(json, '}');
}

static void put_member(struct schema_writer *writer, const struct member *member, const struct doc *doc)
{
    struct json_text *json = &writer->json;
    const struct doc_entry *entry = doc ? doc_find(doc->members.items, doc->members.count, member->name) : NULL;
    json_open(json, member->name, '{');
    put_reference(writer, member->type);
    if (entry)
        put_description(writer, entry->text);
    put_limits(writer, member->constraints);
    if (member->default_value) {
        struct output text = { .arena = json->output->arena };
        output_json_literal(&text, member->type, member->default_value);
        json_raw(json, "default", arena_strndup(json->output->arena, text.text.items, text.text.count));
    }
    if (features_contain(&member->features, "deprecated"))
        json_bool(json, "deprecated", true);
    json_close(json, '}');
}

static bool is_there(const struct schema_writer *writer, const struct condition *condition)
{
    return condition_holds(condition, writer->options);
}

/* The comment in which a member is described: that of the type which brings it. */
static const struct doc *doc_of_member(const struct type *type, size_t index)
{
    while (type->base && index < type->base->members.count && !type->base->implicit)
        type = type->base;
    return type->doc;
}

static void put_required(struct schema_writer *writer, const struct type *type)
{
    struct json_text *json = &writer->json;
    json_open(json, "required", '[');
    for (size_t i = 0; i < type->members.count; i++)
        if (!type->members.items[i].optional && is_there(writer, type->members.items[i].condition))
            json_string(json, NULL, type->members.items[i].name);
    json_close(json, ']');
}

static void put_body(struct schema_writer *writer, const struct type *type, const struct names *inherited);

static void put_if(struct schema_writer *writer, const struct member *tag, const char *value)
{
    struct json_text *json = &writer->json;
    bool by_default = tag->default_value && strcmp(tag->default_value->string, value) == 0;
    json_open(json, "if", '{');
    json_open(json, "properties", '{');
    json_open(json, tag->name, '{');
    json_string(json, "const", value);
    json_close(json, '}');
    json_close(json, '}');
    if (!by_default) {
        json_open(json, "required", '[');
        json_string(json, NULL, tag->name);
        json_close(json, ']');
    }
    json_close(json, '}');
}

static const struct type *branch_type(const struct schema_writer *writer, const struct type *type, const char *value)
{
    for (size_t i = 0; i < type->branches.count; i++)
        if (strcmp(type->branches.items[i].name, value) == 0 && is_there(writer, type->branches.items[i].condition))
            return type->branches.items[i].type;
    return writer->model->empty;
}

static void put_branches(struct schema_writer *writer, const struct type *type, const struct names *names)
{
    struct json_text *json = &writer->json;
    const struct member *tag = &type->members.items[type->tag];
    json_open(json, "allOf", '[');
    for (size_t i = 0; i < tag->type->values.count; i++) {
        const struct enum_value *value = &tag->type->values.items[i];
        if (!is_there(writer, value->condition))
            continue;
        json_open(json, NULL, '{');
        put_if(writer, tag, value->name);
        json_open(json, "then", '{');
        put_body(writer, branch_type(writer, type, value->name), names);
        json_close(json, '}');
        json_close(json, '}');
    }
    json_close(json, ']');
}

/* Members of @type beside those of @inherited, which are described elsewhere. Only the innermost list is closed. */
static void put_body(struct schema_writer *writer, const struct type *type, const struct names *inherited)
{
    struct json_text *json = &writer->json;
    struct names names = { 0 };
    json_open(json, "properties", '{');
    for (size_t i = 0; inherited && i < inherited->list.count; i++) {
        VECTOR_PUSH(json->output->arena, &names.list, inherited->list.items[i]);
        if (!type->discriminator)
            json_bool(json, inherited->list.items[i], true);
    }
    for (size_t i = 0; i < type->members.count; i++) {
        if (!is_there(writer, type->members.items[i].condition))
            continue;
        VECTOR_PUSH(json->output->arena, &names.list, type->members.items[i].name);
        put_member(writer, &type->members.items[i], doc_of_member(type, i));
    }
    json_close(json, '}');
    put_required(writer, type);
    if (type->discriminator)
        put_branches(writer, type, &names);
    else
        json_bool(json, "additionalProperties", false);
}

static void put_enum(struct schema_writer *writer, const struct type *type)
{
    struct json_text *json = &writer->json;
    json_open(json, "enum", '[');
    for (size_t i = 0; i < type->values.count; i++)
        if (is_there(writer, type->values.items[i].condition))
            json_string(json, NULL, type->values.items[i].name);
    json_close(json, ']');
}

static bool takes_strings(const struct type *type)
{
    type = written(type);
    return type->kind == TYPE_ENUM || (type->kind == TYPE_BUILTIN && type->builtin->kind == BUILTIN_STR);
}

/* In text every scalar but null is a string, and belongs to the branch that takes strings, if there is one. */
static void put_alternate(struct schema_writer *writer, const struct type *type)
{
    struct json_text *json = &writer->json;
    bool strings = false;
    for (size_t i = 0; i < type->branches.count; i++)
        strings = strings || takes_strings(type->branches.items[i].type);
    json_open(json, "anyOf", '[');
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct type *branch = type->branches.items[i].type;
        bool other = writer->text && strings && branch->kind == TYPE_BUILTIN && !takes_strings(branch);
        if (!is_there(writer, type->branches.items[i].condition) || (other && branch->builtin->kind != BUILTIN_NULL))
            continue;
        json_open(json, NULL, '{');
        if (other)
            json_string(json, "type", "null");
        else
            put_reference(writer, branch);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_definition(struct schema_writer *writer, const struct type *type)
{
    struct json_text *json = &writer->json;
    json_open(json, type->name, '{');
    if (type->doc)
        put_description(writer, type->doc->text);
    switch (type->kind) {
    case TYPE_BUILTIN:
        put_builtin(writer, written(type));
        put_limits(writer, type->constraints);
        break;
    case TYPE_ENUM:
        put_enum(writer, type);
        break;
    case TYPE_OBJECT:
        json_string(json, "type", "object");
        put_body(writer, type, NULL);
        break;
    case TYPE_ALTERNATE:
        put_alternate(writer, type);
        break;
    case TYPE_ARRAY:
        break;
    }
    json_close(json, '}');
}

static const struct type *find_type(const struct model *model, const char *name)
{
    for (size_t i = 0; i < model->types.count; i++)
        if (strcmp(model->types.items[i]->name, name) == 0 && model->types.items[i]->kind != TYPE_ARRAY)
            return model->types.items[i];
    return NULL;
}

bool write_json_schema(struct output *output, const struct model *model, const struct backend_options *options,
                       const char *root, bool text)
{
    struct schema_writer writer = { .json = { .output = output }, .model = model, .options = options, .text = text };
    const struct type *type = root ? find_type(model, root) : NULL;
    if (root && !type)
        return false;
    json_open(&writer.json, NULL, '{');
    json_string(&writer.json, "$schema", "https://json-schema.org/draft/2020-12/schema");
    json_string(&writer.json, "title", root ? root : options->schema);
    if (type)
        json_string(&writer.json, "$ref", use(&writer, type));
    for (size_t i = 0; !type && i < model->types.count; i++)
        if (model->types.items[i]->kind != TYPE_ARRAY && is_there(&writer, model->types.items[i]->condition))
            use(&writer, model->types.items[i]);
    json_open(&writer.json, "$defs", '{');
    for (size_t i = 0; i < writer.used.count; i++)
        put_definition(&writer, writer.used.items[i]);
    json_close(&writer.json, '}');
    json_close(&writer.json, '}');
    return true;
}
