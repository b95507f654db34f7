#include "schema/compiler/backend.h"
#include "schema/compiler/naming.h"

static bool has_descriptor(const struct model *model, const struct type *type)
{
    return type->kind != TYPE_BUILTIN && type != model->empty;
}

/* "&codec_str", "&blockdev_options_descriptor". */
static const char *descriptor_of(struct output *output, const struct model *model, const struct type *type)
{
    if (type->kind == TYPE_BUILTIN)
        return arena_printf(output->arena, "&%s", type->builtin->descriptor);
    return type == model->empty ? "&codec_empty" : arena_printf(output->arena, "&%s_descriptor", type->c_name);
}

void write_descriptors_header(struct output *output, const struct model *model, const struct backend_options *options)
{
    output_header_begin(output, arena_printf(output->arena, "%sdescriptors.h", options->prefix), options->schema);
    output_text(output, "#include \"schema/codec/descriptor.h\"\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    for (size_t i = 0; i < model->types.count; i++) {
        const struct type *type = model->types.items[i];
        if (!has_descriptor(model, type))
            continue;
        output_if(output, type->condition);
        output_printf(output, "extern const struct type_descriptor %s_descriptor;\n", type->c_name);
        output_endif(output, type->condition);
    }
    output_header_end(output);
}

static void write_enum(struct output *output, const struct type *type)
{
    output_printf(output, "    .kind = VALUE_ENUM,\n    .size = sizeof(enum %s),\n", type->c_name);
    output_printf(output, "    .enumeration = { %s_names, %s },\n", type->c_name,
                  c_constant(output->arena, type->constant_prefix, "_MAX"));
}

static const char *member_flags(struct output *output, const struct member *member)
{
    return arena_printf(output->arena, "%s%s%s", member->optional ? "MEMBER_OPTIONAL" : "0",
                        features_contain(&member->features, "deprecated") ? " | MEMBER_DEPRECATED" : "",
                        features_contain(&member->features, "unstable") ? " | MEMBER_UNSTABLE" : "");
}

static const char *member_offset(struct output *output, const struct type *owner, const char *before, const char *name,
                                 const char *behind)
{
    return arena_printf(output->arena, "offsetof(struct %s, %s%s%s)", owner->c_name, before, name, behind);
}

static void write_member(struct output *output, const struct model *model, const struct type *owner,
                         const struct member *member)
{
    const char *part = c_part(output->arena, member->name);
    const char *has = "DESCRIPTOR_NO_OFFSET";
    const char *count = "DESCRIPTOR_NO_OFFSET";
    if (member->optional && type_needs_has(member->type))
        has = member_offset(output, owner, "has_", part, "");
    if (member->type->kind == TYPE_ARRAY)
        count = member_offset(output, owner, "", part, "_count");

    output_if(output, member->condition);
    output_printf(output, "    { \"%s\", %s, sizeof(\"%s\") - 1, %s,\n      %s, %s, %s },\n", member->name,
                  descriptor_of(output, model, member->type), member->name, member_flags(output, member),
                  member_offset(output, owner, "", member->c_name, ""), has, count);
    output_endif(output, member->condition);
}

static bool has_union(const struct type *type)
{
    for (size_t i = 0; i < type->branches.count; i++)
        if (!type_is_empty(type->branches.items[i].type))
            return true;
    return false;
}

static void write_branches(struct output *output, const struct model *model, const struct type *type)
{
    const struct type *tag = type->members.items[type->tag].type;
    output_printf(output, "static const struct type_descriptor *const %s_branches[] = {\n", type->c_name);
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        if (type_is_empty(branch->type))
            continue;
        const struct enum_value *value = &tag->values.items[branch->enum_index];
        output_if(output, value->condition);
        output_if(output, branch->condition);
        output_printf(output, "    [%s] = %s,\n", value->c_name, descriptor_of(output, model, branch->type));
        output_endif(output, branch->condition);
        output_endif(output, value->condition);
    }
    output_printf(output, "    [%s] = 0,\n};\n\n", c_constant(output->arena, tag->constant_prefix, "_MAX"));
}

/* What stands in front of an object's descriptor. */
static void write_object_tables(struct output *output, const struct model *model, const struct type *type)
{
    if (type->members.count) {
        output_printf(output, "static const struct member_descriptor %s_members[] = {\n", type->c_name);
        for (size_t i = 0; i < type->members.count; i++)
            write_member(output, model, type, &type->members.items[i]);
        output_text(output, "};\n\n");
    }
    if (has_union(type))
        write_branches(output, model, type);
}

/* The place of the discriminator, which conditions on earlier members can move. */
static void write_tag(struct output *output, const struct type *type)
{
    output_text(output, "        .tag = 0");
    for (size_t i = 0; i < type->tag; i++) {
        const struct condition *condition = type->members.items[i].condition;
        if (condition)
            output_printf(output, "\n#if %s\n               + 1\n#endif\n              ",
                          condition_expression(output->arena, condition));
        else
            output_text(output, " + 1");
    }
    output_text(output, ",\n");
}

static void write_object(struct output *output, const struct type *type)
{
    output_printf(output, "    .kind = VALUE_OBJECT,\n    .size = sizeof(struct %s),\n    .object = {\n", type->c_name);
    if (type->members.count)
        output_printf(output,
                      "        .members = %s_members,\n"
                      "        .count = sizeof(%s_members) / sizeof(%s_members[0]),\n",
                      type->c_name, type->c_name, type->c_name);
    if (has_union(type)) {
        write_tag(output, type);
        output_printf(output,
                      "        .branches = %s_branches,\n"
                      "        .branch_count = sizeof(%s_branches) / sizeof(%s_branches[0]),\n"
                      "        .branch_offset = offsetof(struct %s, u),\n",
                      type->c_name, type->c_name, type->c_name, type->c_name);
    }
    output_text(output, "    },\n");
}

static void write_alternate_table(struct output *output, const struct model *model, const struct type *type)
{
    const char *kind = arena_printf(output->arena, "%s_kind", type->c_name);
    output_printf(output, "static const struct alternate_branch %s_branches[] = {\n", type->c_name);
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        output_if(output, branch->condition);
        output_printf(output, "    [%s] = { \"%s\", %s },\n", c_constant(output->arena, kind, branch->name),
                      branch->name, descriptor_of(output, model, branch->type));
        output_endif(output, branch->condition);
    }
    output_text(output, "};\n\n");
}

static void write_alternate(struct output *output, const struct type *type)
{
    output_printf(output,
                  "    .kind = VALUE_ALTERNATE,\n    .size = sizeof(struct %s),\n"
                  "    .alternate = { %s_branches, sizeof(%s_branches) / sizeof(%s_branches[0]), "
                  "offsetof(struct %s, u) },\n",
                  type->c_name, type->c_name, type->c_name, type->c_name, type->c_name);
}

static void write_descriptor(struct output *output, const struct model *model, const struct type *type)
{
    output_if(output, type->condition);
    if (type->kind == TYPE_OBJECT)
        write_object_tables(output, model, type);
    if (type->kind == TYPE_ALTERNATE)
        write_alternate_table(output, model, type);

    output_printf(output, "const struct type_descriptor %s_descriptor = {\n    .name = \"%s\",\n", type->c_name,
                  type->kind == TYPE_ARRAY ? "array" : type->name);
    if (type->kind == TYPE_ENUM)
        write_enum(output, type);
    else if (type->kind == TYPE_OBJECT)
        write_object(output, type);
    else if (type->kind == TYPE_ALTERNATE)
        write_alternate(output, type);
    else
        output_printf(output,
                      "    .kind = VALUE_ARRAY,\n    .size = sizeof(struct descriptor_list),\n"
                      "    .array = { %s },\n",
                      descriptor_of(output, model, type->element));
    output_text(output, "};\n");
    output_endif(output, type->condition);
    output_text(output, "\n");
}

void write_descriptors_source(struct output *output, const struct model *model, const struct backend_options *options)
{
    output_printf(output,
                  "/* Written by schemac from %s: change that instead. */\n#include \"%sdescriptors.h\"\n"
                  "#include \"%stypes.h\"\n\n",
                  options->schema, options->prefix, options->prefix);
    for (size_t i = 0; i < model->types.count; i++)
        if (has_descriptor(model, model->types.items[i]))
            write_descriptor(output, model, model->types.items[i]);
}
