#include "schema/compiler/backend_private.h"
#include "schema/compiler/naming.h"

#include <string.h>

/* "const struct x *", "enum x ", "int64_t ": what stands in front of a member's name. */
static const char *member_declarator(struct arena *arena, const struct type *type)
{
    switch (type->kind) {
    case TYPE_BUILTIN:
        return type->builtin->c_type;
    case TYPE_ENUM:
        return arena_printf(arena, "enum %s ", type->c_name);
    case TYPE_OBJECT:
    case TYPE_ALTERNATE:
        return arena_printf(arena, "const struct %s *", type->c_name);
    case TYPE_ARRAY:
        break;
    }
    return arena_printf(arena, "struct %s ", type->c_name);
}

/* The type of an array's elements, which lie by value. */
static const char *element_declarator(struct arena *arena, const struct type *type)
{
    if (type->kind == TYPE_OBJECT || type->kind == TYPE_ALTERNATE)
        return arena_printf(arena, "struct %s ", type->c_name);
    return member_declarator(arena, type);
}

static const char *const_pointer(struct arena *arena, const struct type *element)
{
    const char *declarator = element_declarator(arena, element);
    bool pointer = declarator[strlen(declarator) - 1] == '*';
    return pointer ? arena_printf(arena, "%sconst *", declarator) : arena_printf(arena, "const %s*", declarator);
}

static void write_enum(struct output *output, const struct type *type)
{
    output_if(output, type->condition);
    output_printf(output, "enum %s {\n", type->c_name);
    for (size_t i = 0; i < type->values.count; i++) {
        output_if(output, type->values.items[i].condition);
        output_printf(output, "    %s,\n", type->values.items[i].c_name);
        output_endif(output, type->values.items[i].condition);
    }
    const char *max = c_constant(output->arena, type->constant_prefix, "_MAX");
    output_printf(output, "    %s\n};\n", max);
    output_printf(output, "extern const char *const %s_names[%s + 1];\n", type->c_name, max);
    output_printf(output, "const char *%s_name(enum %s value);\n", type->c_name, type->c_name);
    output_endif(output, type->condition);
    output_text(output, "\n");
}

static void write_member(struct output *output, const struct member *member)
{
    const struct type *type = member->type;
    output_if(output, member->condition);
    if (member->optional && type_needs_has(type))
        output_printf(output, "    bool has_%s;\n", c_part(output->arena, member->name));
    if (type->kind == TYPE_ARRAY) {
        output_printf(output, "    %s%s;\n", const_pointer(output->arena, type->element), member->c_name);
        output_printf(output, "    size_t %s_count;\n", c_part(output->arena, member->name));
    } else {
        output_printf(output, "    %s%s;\n", member_declarator(output->arena, type), member->c_name);
    }
    output_endif(output, member->condition);
}

static bool has_union(const struct type *type)
{
    for (size_t i = 0; i < type->branches.count; i++)
        if (!type_is_empty(type->branches.items[i].type))
            return true;
    return false;
}

/* Whether conditions can leave out all branches: C and C++ disagree about the size of what is empty. */
static bool may_be_empty(const struct type *type)
{
    for (size_t i = 0; i < type->branches.count; i++)
        if (!type_is_empty(type->branches.items[i].type) && !type->branches.items[i].condition)
            return false;
    return true;
}

static bool all_members_conditional(const struct type *type)
{
    for (size_t i = 0; i < type->members.count; i++)
        if (!type->members.items[i].condition)
            return false;
    return true;
}

static void write_branches(struct output *output, const struct type *type)
{
    if (!has_union(type))
        return;
    output_text(output, "    union {\n");
    if (may_be_empty(type))
        output_text(output, "        uint8_t nothing_;\n");
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        if (type_is_empty(branch->type))
            continue;
        output_if(output, branch->condition);
        output_printf(output, "        struct %s %s;\n", branch->type->c_name, branch->c_name);
        output_endif(output, branch->condition);
    }
    output_text(output, "    } u;\n");
}

static void write_object(struct output *output, struct type *type)
{
    if (type->emitted || type_is_empty(type))
        return;
    type->emitted = true;
    for (size_t i = 0; i < type->branches.count; i++)
        write_object(output, type->branches.items[i].type);

    output_if(output, type->condition);
    output_printf(output, "struct %s {\n", type->c_name);
    if (all_members_conditional(type))
        output_text(output, "    uint8_t nothing_;\n");
    for (size_t i = 0; i < type->members.count; i++)
        write_member(output, &type->members.items[i]);
    write_branches(output, type);
    output_text(output, "};\n");
    output_endif(output, type->condition);
    output_text(output, "\n");
}

static void write_alternate(struct output *output, const struct type *type)
{
    const char *kind = arena_printf(output->arena, "%s_kind", type->c_name);
    output_if(output, type->condition);
    output_printf(output, "enum %s {\n", kind);
    for (size_t i = 0; i < type->branches.count; i++) {
        output_if(output, type->branches.items[i].condition);
        output_printf(output, "    %s,\n", c_constant(output->arena, kind, type->branches.items[i].name));
        output_endif(output, type->branches.items[i].condition);
    }
    output_text(output, "};\n\n");
    output_printf(output, "struct %s {\n    enum %s kind;\n    union {\n", type->c_name, kind);
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        output_if(output, branch->condition);
        output_printf(output, "        %s%s;\n", member_declarator(output->arena, branch->type), branch->c_name);
        output_endif(output, branch->condition);
    }
    output_text(output, "    } u;\n};\n");
    output_endif(output, type->condition);
    output_text(output, "\n");
}

static void write_list(struct output *output, const struct type *type)
{
    output_if(output, type->condition);
    output_printf(output, "struct %s {\n    %s*items;\n    size_t count;\n};\n", type->c_name,
                  element_declarator(output->arena, type->element));
    output_endif(output, type->condition);
    output_text(output, "\n");
}

static void write_kind(struct output *output, const struct model *model, enum type_kind kind)
{
    for (size_t i = 0; i < model->types.count; i++) {
        struct type *type = model->types.items[i];
        if (type->kind != kind)
            continue;
        if (kind == TYPE_ENUM)
            write_enum(output, type);
        else if (kind == TYPE_ALTERNATE)
            write_alternate(output, type);
        else if (kind == TYPE_OBJECT)
            write_object(output, type);
        else if (type->needs_list)
            write_list(output, type);
    }
}

/* An object without members still may be pointed at. */
static void write_empty_objects(struct output *output, const struct model *model)
{
    for (size_t i = 0; i < model->types.count; i++) {
        const struct type *type = model->types.items[i];
        if (type_is_empty(type) && type != model->empty)
            output_printf(output, "struct %s {\n    uint8_t nothing_;\n};\n\n", type->c_name);
    }
}

void write_types_header(struct output *output, const struct model *model, const struct backend_options *options)
{
    output_header_begin(output, arena_printf(output->arena, "%stypes.h", options->prefix), options->schema);
    output_text(output, "#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n\n"
                        "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
                        "#ifndef SCHEMA_JSON_TEXT\n#define SCHEMA_JSON_TEXT\n"
                        "/* A JSON value of any form, as text that is known to be valid. */\n"
                        "struct json_text {\n    const char *text;\n    size_t length;\n};\n#endif\n\n"
                        "/* Of each enum: ENUM_names[] ends with NULL; ENUM_name() answers the name on the wire, and\n"
                        " * \"(invalid)\" for what is no value of the enum. */\n\n");
    for (size_t i = 0; i < model->types.count; i++)
        model->types.items[i]->emitted = false;
    write_kind(output, model, TYPE_ENUM);
    write_empty_objects(output, model);
    write_kind(output, model, TYPE_ARRAY);
    write_kind(output, model, TYPE_ALTERNATE);
    write_kind(output, model, TYPE_OBJECT);
    output_header_end(output);
    indent_by_tabs(output);
}

static void write_names(struct output *output, const struct type *type)
{
    const char *max = c_constant(output->arena, type->constant_prefix, "_MAX");
    output_if(output, type->condition);
    output_printf(output, "const char *const %s_names[%s + 1] = {\n", type->c_name, max);
    for (size_t i = 0; i < type->values.count; i++) {
        const struct enum_value *value = &type->values.items[i];
        output_if(output, value->condition);
        output_printf(output, "    \"%s\",\n", value->name);
        output_endif(output, value->condition);
    }
    output_printf(output, "    0,\n};\nNAME(%s, %s)\n", type->c_name, max);
    output_endif(output, type->condition);
}

static const char name_macro[] = "#define NAME(c, max) \\\n"
                                 "    const char *c##_name(enum c value) \\\n"
                                 "    { \\\n        return (size_t)value <= (size_t)max && c##_names[value] ? "
                                 "c##_names[value] : \"(invalid)\"; \\\n    }\n\n";

void write_types_source(struct output *output, const struct model *model, const struct backend_options *options)
{
    output_printf(output, "/* Written by schemac from %s: change that instead. */\n#include \"%stypes.h\"\n\n%s",
                  options->schema, options->prefix, name_macro);
    for (size_t i = 0; i < model->types.count; i++)
        if (model->types.items[i]->kind == TYPE_ENUM)
            write_names(output, model->types.items[i]);
    indent_by_tabs(output);
}
