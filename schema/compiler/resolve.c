/* Resolution: what names in types, commands and events stand for, and whether they may stand there. */
#include "schema/compiler/model_private.h"
#include "schema/compiler/naming.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

static bool resolve_type(struct builder *builder, struct type *type);

static const char *describe(struct builder *builder, const struct type *type)
{
    static const char *const kinds[] = { "built-in", "enum", "array", "object", "alternate" };
    const char *kind = type->kind == TYPE_OBJECT ? (type->discriminator ? "union" : "struct") : kinds[type->kind];
    if (type->kind == TYPE_ARRAY)
        return arena_printf(builder->compilation->arena, "array type ['%s']", type->element->name);
    return arena_printf(builder->compilation->arena, "%s type '%s'", kind, type->name);
}

static PRINTF_LIKE(3, 4) bool wrong(struct builder *builder, const struct type *type, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    compilation_error(builder->compilation, type->at, "%s", text);
    compilation_note(builder->compilation, type->at, "in %s", describe(builder, type));
    return false;
}

/* Adds a member unless its name is taken. @role says where it comes from, for the message. */
static bool add_member(struct builder *builder, struct type *type, struct names *taken, const struct member *member,
                       const char *role)
{
    const char *owner = arena_printf(builder->compilation->arena, "%s '%s'", role, member->name);
    const char *other = names_add(taken, builder->compilation->arena, member->c_name, (void *)(size_t)owner);
    if (other)
        return wrong(builder, type, "%s collides with %s", owner, other);
    if (member->type->kind == TYPE_ARRAY) {
        const char *count =
            arena_printf(builder->compilation->arena, "%s_count", c_part(builder->compilation->arena, member->name));
        other = names_add(taken, builder->compilation->arena, count, (void *)(size_t)owner);
        if (other)
            return wrong(builder, type, "the count of %s collides with %s", owner, other);
    }
    if (type->members.count == MEMBERS_MAX)
        return wrong(builder, type, "more than %d members", MEMBERS_MAX);
    VECTOR_PUSH(builder->compilation->arena, &type->members, *member);
    return true;
}

static bool resolve_members(struct builder *builder, struct type *type, struct names *taken, const struct syntax *data,
                            const char *role)
{
    struct arena *arena = builder->compilation->arena;
    for (size_t i = 0; i < data->pairs.count; i++) {
        const struct syntax_pair *pair = &data->pairs.items[i];
        bool optional = pair->key[0] == '*';
        const struct syntax *type_name =
            pair->value->kind == SYNTAX_OBJECT ? syntax_get(pair->value, "type") : pair->value;
        struct member member = {
            .name = pair->key + optional,
            .c_name = c_identifier(arena, pair->key + optional),
            .at = pair->at,
            .optional = optional,
            .condition = builder_condition(builder, pair->value),
        };
        builder_features(builder, pair->value, &member.features);
        member.type = builder_type(builder, type->at, type_name, arena_printf(arena, "member '%s'", member.name));
        if (!member.type || !add_member(builder, type, taken, &member, role))
            return false;
    }
    return true;
}

static bool inherit(struct builder *builder, struct type *type, struct names *taken)
{
    struct type *base = type->base;
    if (base->kind != TYPE_OBJECT || base->body == NULL)
        return wrong(builder, type, "'base' requires a struct type, %s isn't", describe(builder, base));
    if (!resolve_type(builder, base))
        return false;
    if (base->discriminator)
        return wrong(builder, type, "'base' requires a struct type, %s isn't", describe(builder, base));
    for (size_t i = 0; i < base->members.count; i++)
        if (!add_member(builder, type, taken, &base->members.items[i], "base member"))
            return false;
    return true;
}

static bool resolve_base(struct builder *builder, struct type *type, struct names *taken)
{
    const struct syntax *base = syntax_get(type->body, "base");
    if (!base)
        return true;
    if (base->kind == SYNTAX_OBJECT)
        return resolve_members(builder, type, taken, base, "base member");
    type->base = builder_type(builder, type->at, base, "'base'");
    return type->base && inherit(builder, type, taken);
}

static struct member *find_member(struct type *type, const char *name)
{
    for (size_t i = 0; i < type->members.count; i++)
        if (strcmp(type->members.items[i].name, name) == 0)
            return &type->members.items[i];
    return NULL;
}

static bool resolve_discriminator(struct builder *builder, struct type *type)
{
    const char *name = syntax_get(type->body, "discriminator")->string;
    const struct member *member = find_member(type, name);
    type->discriminator = name;
    if (!member)
        return wrong(builder, type, "discriminator '%s' is not a member of 'base'", name);
    if (member->type->kind != TYPE_ENUM)
        return wrong(builder, type, "discriminator member '%s' must be of enum type, not of %s", name,
                     describe(builder, member->type));
    if (member->optional)
        return wrong(builder, type, "discriminator member '%s' must not be optional", name);
    if (member->condition)
        return wrong(builder, type, "discriminator member '%s' must not be conditional", name);
    type->tag = (size_t)(member - type->members.items);
    return true;
}

static bool find_value(const struct type *enumeration, const char *name, size_t *index)
{
    for (size_t i = 0; i < enumeration->values.count; i++) {
        if (strcmp(enumeration->values.items[i].name, name) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

/* A branch's members stand beside those of the union. */
static bool check_branch_members(struct builder *builder, struct type *type, struct names *taken,
                                 const struct branch *branch)
{
    for (size_t i = 0; i < branch->type->members.count; i++) {
        const struct member *member = &branch->type->members.items[i];
        const char *other = names_get(taken, member->c_name);
        if (other)
            return wrong(builder, type, "member '%s' of branch '%s' collides with %s", member->name, branch->name,
                         other);
    }
    return true;
}

static bool resolve_branch(struct builder *builder, struct type *type, struct names *taken,
                           const struct syntax_pair *pair)
{
    struct arena *arena = builder->compilation->arena;
    const struct type *enumeration = type->members.items[type->tag].type;
    const struct syntax *type_name = pair->value->kind == SYNTAX_OBJECT ? syntax_get(pair->value, "type") : pair->value;
    struct branch branch = {
        .name = pair->key,
        .c_name = c_identifier(arena, pair->key),
        .at = pair->at,
        .condition = builder_condition(builder, pair->value),
    };
    if (!find_value(enumeration, pair->key, &branch.enum_index))
        return wrong(builder, type, "branch '%s' is not a value of %s", pair->key, describe(builder, enumeration));
    branch.type = builder_type(builder, type->at, type_name, arena_printf(arena, "branch '%s'", pair->key));
    if (!branch.type)
        return false;
    if (branch.type->kind != TYPE_OBJECT)
        return wrong(builder, type, "branch '%s' cannot use %s", pair->key, describe(builder, branch.type));
    if (!resolve_type(builder, branch.type) || !check_branch_members(builder, type, taken, &branch))
        return false;
    VECTOR_PUSH(arena, &type->branches, branch);
    return true;
}

/* Values without a branch of their own add nothing. */
static void add_empty_branches(struct builder *builder, struct type *type)
{
    const struct type *enumeration = type->members.items[type->tag].type;
    size_t explicit_count = type->branches.count;
    for (size_t i = 0; i < enumeration->values.count; i++) {
        const struct enum_value *value = &enumeration->values.items[i];
        bool found = false;
        for (size_t j = 0; j < explicit_count && !found; j++)
            found = type->branches.items[j].enum_index == i;
        if (found)
            continue;
        struct branch branch = {
            .name = value->name,
            .at = type->at,
            .type = builder->model->empty,
            .condition = value->condition,
            .enum_index = i,
        };
        VECTOR_PUSH(builder->compilation->arena, &type->branches, branch);
    }
}

static unsigned union_depth(const struct type *type)
{
    unsigned depth = 0;
    for (size_t i = 0; i < type->branches.count; i++) {
        unsigned below =
            type->branches.items[i].type->kind == TYPE_OBJECT ? union_depth(type->branches.items[i].type) : 0;
        depth = below > depth ? below : depth;
    }
    return type->discriminator ? depth + 1 : 0;
}

static bool resolve_union(struct builder *builder, struct type *type, struct names *taken)
{
    const struct syntax *data = syntax_get(type->body, "data");
    if (!resolve_discriminator(builder, type))
        return false;
    if (data->pairs.count == 0)
        return wrong(builder, type, "union has no branches");
    for (size_t i = 0; i < data->pairs.count; i++)
        if (!resolve_branch(builder, type, taken, &data->pairs.items[i]))
            return false;
    add_empty_branches(builder, type);
    if (union_depth(type) > UNION_DEPTH_MAX)
        return wrong(builder, type, "unions are branches of unions deeper than %d", UNION_DEPTH_MAX);
    return true;
}

static bool resolve_object(struct builder *builder, struct type *type)
{
    struct names taken = { 0 };
    if (type->implicit)
        return resolve_members(builder, type, &taken, type->body, "member");
    if (!resolve_base(builder, type, &taken))
        return false;
    if (syntax_get(type->body, "discriminator"))
        return resolve_union(builder, type, &taken);
    return resolve_members(builder, type, &taken, syntax_get(type->body, "data"), "member");
}

/* Whether text of a branch could be meant as a boolean, where text is all there is (key=value). */
static bool looks_boolean(const struct type *type)
{
    if (type->kind == TYPE_BUILTIN)
        return type->builtin->kind == BUILTIN_STR;
    for (size_t i = 0; i < type->values.count; i++)
        if (strcmp(type->values.items[i].name, "on") == 0 || strcmp(type->values.items[i].name, "off") == 0)
            return true;
    return false;
}

static bool looks_numeric(const struct type *type)
{
    if (type->kind == TYPE_BUILTIN)
        return type->builtin->kind == BUILTIN_STR;
    for (size_t i = 0; i < type->values.count; i++)
        if (isdigit((unsigned char)type->values.items[i].name[0]))
            return true;
    return false;
}

static bool check_ambiguous_strings(struct builder *builder, struct type *type)
{
    const struct branch *boolean = NULL, *number = NULL;
    for (size_t i = 0; i < type->branches.count; i++) {
        const char *json_type = type_json_type(type->branches.items[i].type);
        if (strcmp(json_type, "boolean") == 0)
            boolean = &type->branches.items[i];
        if (strcmp(json_type, "int") == 0 || strcmp(json_type, "number") == 0)
            number = &type->branches.items[i];
    }
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        const struct branch *other = boolean && looks_boolean(branch->type)  ? boolean
                                     : number && looks_numeric(branch->type) ? number
                                                                             : NULL;
        if (other)
            return wrong(builder, type, "branch '%s' can't be distinguished from '%s'", branch->name, other->name);
    }
    return true;
}

static bool resolve_alternate_branch(struct builder *builder, struct type *type, const struct syntax_pair *pair)
{
    struct arena *arena = builder->compilation->arena;
    const struct syntax *type_name = pair->value->kind == SYNTAX_OBJECT ? syntax_get(pair->value, "type") : pair->value;
    struct branch branch = {
        .name = pair->key,
        .c_name = c_identifier(arena, pair->key),
        .at = pair->at,
        .condition = builder_condition(builder, pair->value),
    };
    branch.type = builder_type(builder, type->at, type_name, arena_printf(arena, "branch '%s'", pair->key));
    if (!branch.type)
        return false;
    const char *json_type = type_json_type(branch.type);
    if (strcmp(json_type, "value") == 0)
        return wrong(builder, type, "branch '%s' cannot use %s", pair->key, describe(builder, branch.type));
    if (branch.type->kind == TYPE_ARRAY)
        branch.type->needs_list = true;

    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *other = &type->branches.items[i];
        const char *other_type = type_json_type(other->type);
        bool numbers = (strcmp(json_type, "int") == 0 || strcmp(json_type, "number") == 0) &&
                       (strcmp(other_type, "int") == 0 || strcmp(other_type, "number") == 0);
        if (numbers || strcmp(json_type, other_type) == 0)
            return wrong(builder, type, "branch '%s' can't be distinguished from '%s'", pair->key, other->name);
        if (strcmp(branch.c_name, other->c_name) == 0)
            return wrong(builder, type, "branch '%s' collides with '%s'", pair->key, other->name);
    }
    VECTOR_PUSH(arena, &type->branches, branch);
    return true;
}

static bool resolve_alternate(struct builder *builder, struct type *type)
{
    const struct syntax *data = syntax_get(type->body, "data");
    for (size_t i = 0; i < data->pairs.count; i++)
        if (!resolve_alternate_branch(builder, type, &data->pairs.items[i]))
            return false;
    return check_ambiguous_strings(builder, type);
}

static bool resolve_type(struct builder *builder, struct type *type)
{
    if (type->state == TYPE_RESOLVED)
        return true;
    if (type->state == TYPE_RESOLVING)
        return wrong(builder, type, "object %s contains itself", type->name);
    if (builder->nesting == NESTING_MAX)
        return wrong(builder, type, "bases and branches nested deeper than %d", NESTING_MAX);
    builder->nesting++;
    type->state = TYPE_RESOLVING;
    bool ok = type->kind == TYPE_ALTERNATE ? resolve_alternate(builder, type) : resolve_object(builder, type);
    type->state = TYPE_RESOLVED;
    builder->nesting--;
    return ok;
}

bool builder_resolve_types(struct builder *builder)
{
    /* The list grows while arrays come into use. */
    for (size_t i = 0; i < builder->model->types.count; i++)
        if (!resolve_type(builder, builder->model->types.items[i]))
            return false;
    return true;
}

/* The object that a command or event takes; *type stays NULL if it takes none. */
static bool resolve_payload(struct builder *builder, const struct definition *definition, const char *suffix,
                            bool boxed, struct type **type)
{
    struct arena *arena = builder->compilation->arena;
    const struct syntax *data = syntax_get(definition->body, "data");
    if (!data)
        return true;
    if (data->kind == SYNTAX_OBJECT) {
        if (data->pairs.count)
            *type = builder_implicit_object(builder, data, arena_printf(arena, "q_obj_%s-arg", definition->name),
                                            arena_printf(arena, "%s_%s", c_snake(arena, definition->name), suffix),
                                            definition);
        return true;
    }
    *type = builder_type(builder, definition->body->at, data, "'data'");
    if (!*type)
        return false;
    if ((*type)->kind != TYPE_OBJECT)
        return compilation_error(builder->compilation, definition->body->at, "%s's 'data' cannot take %s",
                                 definition->meta, describe(builder, *type));
    if ((*type)->discriminator && !boxed)
        return compilation_error(builder->compilation, definition->body->at,
                                 "%s's 'data' can take %s only with 'boxed': true", definition->meta,
                                 describe(builder, *type));
    return true;
}

bool builder_resolve_command(struct builder *builder, struct command *command, const struct definition *definition)
{
    const struct pragmas *pragmas = &builder->program->pragmas;
    const struct syntax *returns = syntax_get(definition->body, "returns");
    if (!resolve_payload(builder, definition, "arguments", command->boxed, &command->arguments))
        return false;
    if (!returns)
        return true;
    command->returns = builder_type(builder, command->at, returns, "'returns'");
    if (!command->returns)
        return false;
    if (command->returns->kind == TYPE_ARRAY)
        command->returns->needs_list = true;
    const struct type *type = command->returns->kind == TYPE_ARRAY ? command->returns->element : command->returns;
    bool exception = names_contain(pragmas->command_returns_exceptions.items, pragmas->command_returns_exceptions.count,
                                   command->name);
    if (type->kind != TYPE_OBJECT && !exception)
        return compilation_error(builder->compilation, command->at, "command's 'returns' cannot take %s",
                                 describe(builder, command->returns));
    return true;
}

bool builder_resolve_event(struct builder *builder, struct event *event, const struct definition *definition)
{
    return resolve_payload(builder, definition, "event", event->boxed, &event->data);
}
