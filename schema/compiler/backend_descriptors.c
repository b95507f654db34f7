#include "schema/compiler/backend_private.h"
#include "schema/compiler/naming.h"

#include <inttypes.h>
#include <string.h>

/* What the tables are written with, so that they stay short enough to be read. OF is the tag of the struct whose
 * members follow. */
static const char macros[] =
    "#define T(c) &c##_descriptor\n"
    "#define AT(m) offsetof(struct OF, m)\n"
    "#define REQUIRED(n, m, t) { n, T(t), 0, sizeof(n) - 1, 0, AT(m), NONE, NONE }\n"
    "#define OPTIONAL(n, m, t) { n, T(t), 0, sizeof(n) - 1, MEMBER_OPTIONAL, AT(m), NONE, NONE }\n"
    "#define MAYBE(n, m, t) { n, T(t), 0, sizeof(n) - 1, MEMBER_OPTIONAL, AT(m), AT(has_##m), NONE }\n"
    "#define ARRAY(n, m, t) { n, T(t), 0, sizeof(n) - 1, 0, AT(m), NONE, AT(m##_count) }\n"
    "#define MAYBE_ARRAY(n, m, t) { n, T(t), 0, sizeof(n) - 1, MEMBER_OPTIONAL, AT(m), AT(has_##m), AT(m##_count) }\n"
    "#define codec_bool_descriptor codec_bool\n"
    "#define codec_int_descriptor codec_int\n"
    "#define codec_int8_descriptor codec_int8\n"
    "#define codec_int16_descriptor codec_int16\n"
    "#define codec_int32_descriptor codec_int32\n"
    "#define codec_int64_descriptor codec_int64\n"
    "#define codec_uint8_descriptor codec_uint8\n"
    "#define codec_uint16_descriptor codec_uint16\n"
    "#define codec_uint32_descriptor codec_uint32\n"
    "#define codec_uint64_descriptor codec_uint64\n"
    "#define codec_size_descriptor codec_size\n"
    "#define codec_number_descriptor codec_number\n"
    "#define codec_str_descriptor codec_str\n"
    "#define codec_null_descriptor codec_null\n"
    "#define codec_any_descriptor codec_any\n"
    "#define codec_empty_descriptor codec_empty\n"
    "#define NONE DESCRIPTOR_NO_OFFSET\n"
    "#define LENGTH(a) sizeof(a) / sizeof(a[0])\n"
    "#define PASTE(a, b) a##b\n"
    "#define JOIN(a, b) PASTE(a, b)\n"
    "#define MEMBERS static const struct member_descriptor JOIN(OF, _members)[] =\n"
    "#define BRANCHES static const struct type_descriptor *const JOIN(OF, _branches)[] =\n"
    "#define ALTERNATIVES(c) static const struct alternate_branch c##_branches[] =\n"
    "#define TABLE(c) const struct type_descriptor c##_descriptor\n"
    "#define ENUM(c, n, max) TABLE(c) = { n, VALUE_ENUM, sizeof(enum c), 0, 0, { .enumeration = { c##_names, max } } "
    "}\n"
    "#define LIST(c, t) TABLE(c) = { \"array\", VALUE_ARRAY, sizeof(struct descriptor_list), 0, 0, { .array = { T(t) } "
    "} "
    "}\n"
    "#define EMPTY(c, n) TABLE(c) = { n, VALUE_OBJECT, sizeof(struct c), 0, 0, { .object = { 0, 0, 0, 0, 0, 0 } } }\n"
    "#define OBJECT(n, flags, ...) \\\n"
    "    const struct type_descriptor JOIN(OF, _descriptor) = { n, VALUE_OBJECT, sizeof(struct OF), flags, 0, \\\n"
    "        { .object = { JOIN(OF, _members), LENGTH(JOIN(OF, _members)), __VA_ARGS__ } } }\n"
    "#define STRUCT(n, flags) OBJECT(n, flags, 0, 0, 0, 0)\n"
    "#define UNION(n, flags, tag) \\\n"
    "    OBJECT(n, flags, tag, JOIN(OF, _branches), LENGTH(JOIN(OF, _branches)), AT(u))\n"
    "#define ALTERNATE(c, n) TABLE(c) = { n, VALUE_ALTERNATE, sizeof(struct c), 0, 0, \\\n"
    "    { .alternate = { c##_branches, LENGTH(c##_branches), offsetof(struct c, u) } } }\n\n";

/* What the functions below know of the schema. */
struct tables {
    const struct model *model;
    const char *prefix;
};

/* A named scalar has a table of its own, since it has limits of its own. */
static bool has_descriptor(const struct model *model, const struct type *type)
{
    return type->kind == TYPE_BUILTIN ? type->plain != NULL : type != model->empty;
}

/* Lists of what is built in belong to no schema, so that two schemas can meet in one program. */
static bool is_shared(const struct type *type)
{
    return type->kind == TYPE_ARRAY && type->element->kind == TYPE_BUILTIN && !type->element->plain;
}

/* "blockdev_options_descriptor". */
static const char *table_name(struct output *output, const char *prefix, const struct type *type)
{
    return arena_printf(output->arena, "%s%s_descriptor", is_shared(type) ? prefix : "", type->c_name);
}

/* "blockdev_options", "codec_str": what T() completes. */
static const char *table_stem(struct output *output, const struct tables *tables, const struct type *type)
{
    if (type == tables->model->empty)
        return "codec_empty";
    if (!has_descriptor(tables->model, type))
        return type->builtin->descriptor;
    return is_shared(type) ? arena_printf(output->arena, "%s%s", tables->prefix, type->c_name) : type->c_name;
}

const char *descriptor_name(struct output *output, const struct model *model, const char *prefix,
                            const struct type *type)
{
    if (type == model->empty)
        return "codec_empty";
    return has_descriptor(model, type) ? table_name(output, prefix, type) : type->builtin->descriptor;
}

/* One declaration goes on as long as no condition stands in between; *open: it waits for more. */
static void declare(struct output *output, const char *prefix, const struct type *type, bool *open)
{
    const char *name = table_name(output, prefix, type);
    if (*open && !type->condition) {
        output_printf(output, ",\n    %s", name);
        return;
    }
    if (*open)
        output_text(output, ";\n");
    output_if(output, type->condition);
    output_printf(output, "extern const struct type_descriptor\n    %s%s", name, type->condition ? ";\n" : "");
    output_endif(output, type->condition);
    *open = !type->condition;
}

void write_descriptors_header(struct output *output, const struct model *model, const struct backend_options *options)
{
    output_header_begin(output, arena_printf(output->arena, "%sdescriptors.h", options->prefix), options->schema);
    output_text(output, "#include \"schema/codec/descriptor.h\"\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    output_printf(
        output,
        "/* All of the tables below but those of lists. */\nextern const struct descriptor_table %sdescriptors;\n\n",
        options->prefix);
    bool open = false;
    for (size_t i = 0; i < model->types.count; i++)
        if (has_descriptor(model, model->types.items[i]))
            declare(output, options->prefix, model->types.items[i], &open);
    if (open)
        output_text(output, ";\n");
    output_header_end(output);
    indent_by_tabs(output);
}

/* What limits and defaults are made of ------------------------------------------------------------------------- */

static const struct type *without_name(const struct type *type)
{
    return type->kind == TYPE_BUILTIN && type->plain ? type->plain : type;
}

static bool is_unsigned(const struct type *type)
{
    const struct builtin *builtin = without_name(type)->builtin;
    return builtin->kind == BUILTIN_SIZE || builtin->name[0] == 'u';
}

/* A constant expression of C for a number of this type. */
static const char *c_number(struct arena *arena, const struct type *type, const struct number *number)
{
    if (without_name(type)->builtin->kind == BUILTIN_NUMBER)
        return arena_printf(arena, "%.17g", number->real);
    if (is_unsigned(type))
        return arena_printf(arena, "UINT64_C(%" PRIu64 ")", number->magnitude);
    if (!number->negative || number->magnitude == 0)
        return arena_printf(arena, "INT64_C(%" PRIu64 ")", number->magnitude);
    /* The smallest integer has no literal. */
    return arena_printf(arena, "(-INT64_C(%" PRIu64 ") - 1)", number->magnitude - 1);
}

static const char *limit_field(const struct type *type)
{
    const struct type *limited = without_name(type);
    if (limited->builtin->kind == BUILTIN_NUMBER)
        return "d";
    return is_unsigned(limited) ? "u" : "i";
}

static void write_string(struct output *output, const char *text)
{
    output_text(output, "\"");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            output_printf(output, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f || c == '?')
            output_printf(output, "\\%03o", c);
        else
            output_printf(output, "%c", c);
    }
    output_text(output, "\"");
}

static void write_pattern(struct output *output, const char *name, const struct pattern *pattern)
{
    output_printf(output, "static const struct value_pattern_item %s_pattern_items[] = {\n", name);
    for (size_t i = 0; i < pattern->items.count; i++) {
        const struct pattern_item *item = &pattern->items.items[i];
        output_text(output, "    { { ");
        for (size_t j = 0; j < ARRAY_SIZE(item->set); j++)
            output_printf(output, "0x%" PRIx32 "%s", item->set[j], j + 1 < ARRAY_SIZE(item->set) ? ", " : "");
        output_printf(output, " }, %" PRIu32 ", %" PRIu32 "u },\n", item->minimum, item->maximum);
    }
    output_printf(output, "    { { 0 }, 0, 0 },\n};\nstatic const struct value_pattern %s_pattern = { ", name);
    write_string(output, pattern->text);
    output_printf(output, ", %s_pattern_items, LENGTH(%s_pattern_items) - 1 };\n", name, name);
}

/* "static const struct value_limits NAME_limits" and what it points to. */
static void write_limits(struct output *output, const char *name, const struct type *type,
                         const struct constraints *constraints)
{
    if (constraints->pattern)
        write_pattern(output, name, constraints->pattern);
    output_printf(output, "static const struct value_limits %s_limits = {\n    .flags = 0%s%s,\n", name,
                  constraints->has_minimum ? " | LIMIT_MIN" : "", constraints->has_maximum ? " | LIMIT_MAX" : "");
    if (constraints->has_minimum)
        output_printf(output, "    .min = { .%s = %s },\n", limit_field(type),
                      c_number(output->arena, type, &constraints->minimum));
    if (constraints->has_maximum)
        output_printf(output, "    .max = { .%s = %s },\n", limit_field(type),
                      c_number(output->arena, type, &constraints->maximum));
    if (constraints->multiple_of)
        output_printf(output, "    .multiple_of = UINT64_C(%" PRIu64 "),\n", constraints->multiple_of);
    output_printf(output, "    .min_length = %" PRIu32 "u,\n    .max_length = %" PRIu32 "u,\n", constraints->min_length,
                  constraints->max_length);
    if (constraints->pattern)
        output_printf(output, "    .pattern = &%s_pattern,\n", name);
    output_text(output, "};\n");
}

static void write_default(struct output *output, const char *name, const struct type *type,
                          const struct literal *literal)
{
    if (type->kind == TYPE_ENUM) {
        output_printf(output, "static const enum %s %s_default = %s;\n", type->c_name, name,
                      type->values.items[literal->enum_index].c_name);
        return;
    }
    enum builtin_kind kind = without_name(type)->builtin->kind;
    /* c_type ends where a name may begin: "bool ", "const char *". */
    output_printf(output, "static %sconst %s_default = ", type->builtin->c_type, name);
    if (kind == BUILTIN_STR)
        write_string(output, literal->string);
    else if (kind == BUILTIN_BOOL)
        output_text(output, literal->boolean ? "true" : "false");
    else
        output_text(output, c_number(output->arena, type, &literal->number));
    output_text(output, ";\n");
}

/* Members of objects --------------------------------------------------------------------------------------------- */

static bool has_extra(const struct member *member)
{
    return member->constraints || member->default_value;
}

static const char *extra_name(struct output *output, const struct type *owner, const struct member *member)
{
    return arena_printf(output->arena, "%s_%s", owner->c_name, c_part(output->arena, member->name));
}

static void write_extra(struct output *output, const struct type *owner, const struct member *member)
{
    if (!has_extra(member))
        return;
    const char *name = extra_name(output, owner, member);
    output_if(output, member->condition);
    if (member->constraints)
        write_limits(output, name, member->type, member->constraints);
    if (member->default_value)
        write_default(output, name, member->type, member->default_value);
    output_printf(output, "static const struct member_extra %s_extra = { %s%s, %s%s };\n", name,
                  member->constraints ? arena_printf(output->arena, "&%s", name) : "0",
                  member->constraints ? "_limits" : "",
                  member->default_value ? arena_printf(output->arena, "&%s", name) : "0",
                  member->default_value ? "_default" : "");
    output_endif(output, member->condition);
}

static bool is_special(const struct member *member)
{
    return has_extra(member) || member->secret || features_contain(&member->features, "deprecated") ||
           features_contain(&member->features, "unstable");
}

static void write_special(struct output *output, const struct tables *tables, const struct type *owner,
                          const struct member *member)
{
    const char *part = c_part(output->arena, member->name);
    output_printf(output, "    { .name = \"%s\", .type = T(%s), .name_length = sizeof(\"%s\") - 1,\n", member->name,
                  table_stem(output, tables, member->type), member->name);
    if (has_extra(member))
        output_printf(output, "      .extra = &%s_extra,\n", extra_name(output, owner, member));
    output_printf(output, "      .flags = %s%s%s%s,\n", member->optional ? "MEMBER_OPTIONAL" : "0",
                  features_contain(&member->features, "deprecated") ? " | MEMBER_DEPRECATED" : "",
                  features_contain(&member->features, "unstable") ? " | MEMBER_UNSTABLE" : "",
                  member->secret ? " | MEMBER_SECRET" : "");
    output_printf(output, "      .offset = AT(%s),\n", member->c_name);
    if (member->optional && type_needs_has(member->type))
        output_printf(output, "      .has_offset = AT(has_%s),", part);
    else
        output_text(output, "      .has_offset = NONE,");
    if (member->type->kind == TYPE_ARRAY)
        output_printf(output, " .count_offset = AT(%s_count) },\n", part);
    else
        output_text(output, " .count_offset = NONE },\n");
}

static void write_member(struct output *output, const struct tables *tables, const struct type *owner,
                         const struct member *member)
{
    const char *part = c_part(output->arena, member->name);
    const char *type = table_stem(output, tables, member->type);
    bool array = member->type->kind == TYPE_ARRAY;
    bool has = member->optional && type_needs_has(member->type);
    output_if(output, member->condition);
    if (is_special(member) || ((array || has) && strcmp(part, member->c_name) != 0))
        write_special(output, tables, owner, member);
    else
        output_printf(output, "    %s(\"%s\", %s, %s),\n",
                      array && has       ? "MAYBE_ARRAY"
                      : array            ? "ARRAY"
                      : has              ? "MAYBE"
                      : member->optional ? "OPTIONAL"
                                         : "REQUIRED",
                      member->name, member->c_name, type);
    output_endif(output, member->condition);
}

/* Types ------------------------------------------------------------------------------------------------------------ */

static bool has_union(const struct type *type)
{
    for (size_t i = 0; i < type->branches.count; i++)
        if (!type_is_empty(type->branches.items[i].type))
            return true;
    return false;
}

static void write_branches(struct output *output, const struct type *type)
{
    const struct type *tag = type->members.items[type->tag].type;
    output_text(output, "BRANCHES {\n");
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        if (type_is_empty(branch->type))
            continue;
        const struct enum_value *value = &tag->values.items[branch->enum_index];
        output_if(output, value->condition);
        output_if(output, branch->condition);
        output_printf(output, "    [%s] = T(%s),\n", value->c_name, branch->type->c_name);
        output_endif(output, branch->condition);
        output_endif(output, value->condition);
    }
    output_printf(output, "    [%s] = 0,\n};\n", c_constant(output->arena, tag->constant_prefix, "_MAX"));
}

/* What stands in front of an object's descriptor. */
static void write_object_tables(struct output *output, const struct tables *tables, const struct type *type)
{
    for (size_t i = 0; i < type->members.count; i++)
        write_extra(output, type, &type->members.items[i]);
    if (type->members.count) {
        output_printf(output, "#define OF %s\nMEMBERS {\n", type->c_name);
        for (size_t i = 0; i < type->members.count; i++)
            write_member(output, tables, type, &type->members.items[i]);
        output_text(output, "};\n");
    }
    if (has_union(type))
        write_branches(output, type);
}

/* The place of the discriminator, which conditions on earlier members can move: an enum constant says it. */
static bool tag_moves(const struct type *type)
{
    for (size_t i = 0; i < type->tag; i++)
        if (type->members.items[i].condition)
            return true;
    return false;
}

static void write_tag(struct output *output, const struct type *type)
{
    if (!tag_moves(type))
        return;
    output_printf(output, "enum {\n    %s_tag = 0", type->c_name);
    for (size_t i = 0; i < type->tag; i++) {
        const struct condition *condition = type->members.items[i].condition;
        if (condition)
            output_printf(output, "\n#if %s\n    + 1\n#endif\n   ", condition_expression(output->arena, condition));
        else
            output_text(output, " + 1");
    }
    output_text(output, "\n};\n");
}

static bool has_defaults(const struct type *type)
{
    for (size_t i = 0; i < type->members.count; i++)
        if (type->members.items[i].default_value)
            return true;
    return false;
}

static void write_object(struct output *output, const struct type *type)
{
    const char *flags = has_defaults(type) ? "TYPE_HAS_DEFAULTS" : "0";
    if (!type->members.count) {
        output_printf(output, "EMPTY(%s, \"%s\");\n", type->c_name, type->name);
    } else if (has_union(type)) {
        const char *tag = tag_moves(type) ? arena_printf(output->arena, "%s_tag", type->c_name)
                                          : arena_printf(output->arena, "%zu", type->tag);
        write_tag(output, type);
        output_printf(output, "UNION(\"%s\", %s, %s);\n#undef OF\n", type->name, flags, tag);
    } else {
        output_printf(output, "STRUCT(\"%s\", %s);\n#undef OF\n", type->name, flags);
    }
}

static void write_alternate_table(struct output *output, const struct tables *tables, const struct type *type)
{
    const char *kind = arena_printf(output->arena, "%s_kind", type->c_name);
    output_printf(output, "ALTERNATIVES(%s) {\n", type->c_name);
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        output_if(output, branch->condition);
        output_printf(output, "    [%s] = { \"%s\", T(%s) },\n", c_constant(output->arena, kind, branch->name),
                      branch->name, table_stem(output, tables, branch->type));
        output_endif(output, branch->condition);
    }
    output_text(output, "};\n");
}

/* The words by which errors call a built-in type. */
static const char *name_in_errors(const struct type *type)
{
    switch (without_name(type)->builtin->kind) {
    case BUILTIN_STR:
        return "string";
    case BUILTIN_BOOL:
        return "boolean";
    case BUILTIN_INT:
    case BUILTIN_SIZE:
        return "integer";
    case BUILTIN_NUMBER:
        return "number";
    default:
        return "value";
    }
}

static void write_scalar(struct output *output, const struct type *type)
{
    static const char *const kinds[] = {
        [BUILTIN_STR] = "STRING", [BUILTIN_NUMBER] = "NUMBER", [BUILTIN_INT] = "SIGNED", [BUILTIN_SIZE] = "SIZE",
        [BUILTIN_BOOL] = "BOOL",  [BUILTIN_NULL] = "NULL",     [BUILTIN_ANY] = "ANY",
    };
    enum builtin_kind kind = without_name(type)->builtin->kind;
    bool is_unsigned_int = kind == BUILTIN_INT && is_unsigned(type);
    const char *c_type = type->builtin->c_type;
    size_t length = strlen(c_type);
    while (length && c_type[length - 1] == ' ')
        length--;
    output_printf(output, "TABLE(%s) = {\n    .name = \"%s\",\n    .kind = VALUE_%s,\n    .size = sizeof(%.*s),\n",
                  type->c_name, name_in_errors(type), is_unsigned_int ? "UNSIGNED" : kinds[kind], (int)length, c_type);
    if (type->constraints)
        output_printf(output, "    .limits = &%s_limits,\n", type->c_name);
    output_text(output, "};\n");
}

static void write_tables(struct output *output, const struct tables *tables, const struct type *type)
{
    if (type->kind == TYPE_OBJECT)
        write_object_tables(output, tables, type);
    else if (type->kind == TYPE_ALTERNATE)
        write_alternate_table(output, tables, type);
    else if (type->kind == TYPE_BUILTIN && type->constraints)
        write_limits(output, type->c_name, type, type->constraints);
}

static void write_descriptor(struct output *output, const struct tables *tables, const struct type *type)
{
    output_if(output, type->condition);
    write_tables(output, tables, type);
    if (type->kind == TYPE_ENUM)
        output_printf(output, "ENUM(%s, \"%s\", %s);\n", type->c_name, type->name,
                      c_constant(output->arena, type->constant_prefix, "_MAX"));
    else if (type->kind == TYPE_OBJECT)
        write_object(output, type);
    else if (type->kind == TYPE_ALTERNATE)
        output_printf(output, "ALTERNATE(%s, \"%s\");\n", type->c_name, type->name);
    else if (type->kind == TYPE_BUILTIN)
        write_scalar(output, type);
    else
        output_printf(output, "LIST(%s%s, %s);\n", is_shared(type) ? tables->prefix : "", type->c_name,
                      table_stem(output, tables, type->element));
    output_endif(output, type->condition);
}

static void write_list_of_tables(struct output *output, const struct model *model,
                                 const struct backend_options *options)
{
    output_text(output, "static const struct type_descriptor *const types[] = {\n");
    for (size_t i = 0; i < model->types.count; i++) {
        const struct type *type = model->types.items[i];
        if (!has_descriptor(model, type) || type->kind == TYPE_ARRAY)
            continue;
        output_if(output, type->condition);
        output_printf(output, "    T(%s),\n", type->c_name);
        output_endif(output, type->condition);
    }
    output_printf(output, "    0,\n};\n\nconst struct descriptor_table %sdescriptors = { types, LENGTH(types) - 1 };\n",
                  options->prefix);
}

void write_descriptors_source(struct output *output, const struct model *model, const struct backend_options *options)
{
    output_printf(output,
                  "/* Written by schemac from %s: change that instead. */\n#include \"%sdescriptors.h\"\n"
                  "#include \"%stypes.h\"\n\n%s",
                  options->schema, options->prefix, options->prefix, macros);
    const struct tables tables = { .model = model, .prefix = options->prefix };
    for (size_t i = 0; i < model->types.count; i++)
        if (has_descriptor(model, model->types.items[i]))
            write_descriptor(output, &tables, model->types.items[i]);
    write_list_of_tables(output, model, options);
    indent_by_tabs(output);
}
