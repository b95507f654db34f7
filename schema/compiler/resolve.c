/* Resolution: what names in types, commands and events stand for, and whether they may stand there. */
#include "schema/codec/suggest.h"
#include "schema/compiler/model_private.h"
#include "schema/compiler/naming.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

const char *builder_describe(struct builder *builder, const struct type *type)
{
    static const char *const kinds[] = { "built-in", "enum", "array", "object", "alternate" };
    if (type->plain)
        return arena_printf(builder->compilation->arena, "scalar '%s'", type->name);
    const char *kind = type->kind == TYPE_OBJECT ? (type->discriminator ? "union" : "struct") : kinds[type->kind];
    if (type->kind == TYPE_ARRAY)
        return arena_printf(builder->compilation->arena, "array type ['%s']", type->element->name);
    return arena_printf(builder->compilation->arena, "%s type '%s'", kind, type->name);
}

/* An error about a type: at its definition; the note says where in it. */
static PRINTF_LIKE(4, 5) bool wrong(struct builder *builder, const struct type *type, struct location at,
                                    const char *format, ...)
{
    va_list args;
    va_start(args, format);
    compilation_verror(builder->compilation, type->at, format, args);
    va_end(args);
    compilation_note(builder->compilation, at, "in %s", builder_describe(builder, type));
    return false;
}

/* Adds a member unless its name is taken. @role says where it comes from, for the message. */
static bool add_member(struct builder *builder, struct type *type, struct names *taken, const struct member *member,
                       const char *role)
{
    struct arena *arena = builder->compilation->arena;
    struct subject *owner = arena_alloc(arena, sizeof(*owner));
    *owner = (struct subject){ role, member->name };
    const struct subject *other = names_add(taken, arena, member->c_name, owner);
    if (other)
        return wrong(builder, type, member->at, "%s collides with %s", builder_subject(builder, *owner),
                     builder_subject(builder, *other));
    if (member->type->kind == TYPE_ARRAY) {
        other = names_add(taken, arena, arena_printf(arena, "%s_count", c_part(arena, member->name)), owner);
        if (other)
            return wrong(builder, type, member->at, "the count of %s collides with %s",
                         builder_subject(builder, *owner), builder_subject(builder, *other));
    }
    if (type->members.count == MEMBERS_MAX)
        return wrong(builder, type, member->at, "more than %d members", MEMBERS_MAX);
    VECTOR_PUSH(arena, &type->members, *member);
    return true;
}

static bool resolve_member(struct builder *builder, struct type *type, struct names *taken,
                           const struct syntax_pair *pair, const char *role)
{
    struct arena *arena = builder->compilation->arena;
    bool optional = pair->key[0] == '*';
    bool object = pair->value->kind == SYNTAX_OBJECT;
    struct member member = {
        .name = pair->key + optional,
        .c_name = c_identifier(arena, pair->key + optional),
        .at = pair->at,
        .optional = optional,
        .condition = builder_condition(builder, pair->value),
    };
    struct subject subject = { role, member.name };
    builder_features(builder, pair->value, &member.features);
    member.type = builder_type(builder, type->at, object ? syntax_get(pair->value, "type") : pair->value, subject);
    if (!member.type || !builder_check_features(builder, type->at, &member.features, subject))
        return false;
    struct extended extended = {
        .builder = builder,
        .definition_at = type->at,
        .subject = subject,
        .syntax = pair->value,
        .type = member.type,
        .module = type->module,
    };
    return builder_extend_member(&extended, &member) && add_member(builder, type, taken, &member, role);
}

static bool resolve_members(struct builder *builder, struct type *type, struct names *taken, const struct syntax *data,
                            const char *role)
{
    for (size_t i = 0; i < data->pairs.count; i++)
        if (!resolve_member(builder, type, taken, &data->pairs.items[i], role))
            return false;
    return true;
}

static bool inherit(struct builder *builder, struct type *type, struct names *taken)
{
    struct type *base = type->base;
    if (base->kind != TYPE_OBJECT || base->body == NULL)
        return wrong(builder, type, syntax_get(type->body, "base")->at, "'base' requires a struct type, %s isn't",
                     builder_describe(builder, base));
    if (!builder_resolve_type(builder, base))
        return false;
    if (base->discriminator)
        return wrong(builder, type, syntax_get(type->body, "base")->at, "'base' requires a struct type, %s isn't",
                     builder_describe(builder, base));
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
    type->base = builder_type(builder, type->at, base, (struct subject){ "'base'", NULL });
    return type->base && inherit(builder, type, taken);
}

static struct member *find_member(struct type *type, const char *name)
{
    for (size_t i = 0; i < type->members.count; i++)
        if (strcmp(type->members.items[i].name, name) == 0)
            return &type->members.items[i];
    return NULL;
}

static void suggest_member(struct builder *builder, struct location at, const struct type *type, const char *name)
{
    struct suggestion suggestion = { 0 };
    for (size_t i = 0; i < type->members.count; i++)
        suggestion_consider(&suggestion, name, type->members.items[i].name);
    compilation_suggest(builder->compilation, at, &suggestion);
}

static bool resolve_discriminator(struct builder *builder, struct type *type)
{
    const struct syntax *syntax = syntax_get(type->body, "discriminator");
    const char *name = syntax->string;
    const struct member *member = find_member(type, name);
    type->discriminator = name;
    if (!member) {
        wrong(builder, type, syntax->at, "discriminator '%s' is not a member of 'base'", name);
        suggest_member(builder, syntax->at, type, name);
        return false;
    }
    if (member->type->kind != TYPE_ENUM)
        return wrong(builder, type, member->at, "discriminator member '%s' must be of enum type, not of %s", name,
                     builder_describe(builder, member->type));
    if (member->optional && !member->default_value) {
        wrong(builder, type, member->at, "discriminator member '%s' must not be optional", name);
        if (builder->program->pragmas.language)
            compilation_note(builder->compilation, member->at, "it may be if it has a default");
        return false;
    }
    if (member->condition)
        return wrong(builder, type, member->at, "discriminator member '%s' must not be conditional", name);
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

static bool check_branch_member(struct builder *builder, struct type *type, const struct names *taken,
                                const struct branch *branch, const struct member *member)
{
    const struct subject *other = names_get(taken, member->c_name);
    if (!other)
        return true;
    wrong(builder, type, branch->at, "member '%s' of branch '%s' collides with %s", member->name, branch->name,
          builder_subject(builder, *other));
    compilation_note(builder->compilation, member->at, "member '%s' is here", member->name);
    return false;
}

/* A branch's members stand beside those of the union; so do those of its own branches. */
static bool check_branch_members(struct builder *builder, struct type *type, const struct names *taken,
                                 const struct branch *branch)
{
    const struct type *added = branch->type;
    for (size_t i = 0; i < added->members.count; i++)
        if (!check_branch_member(builder, type, taken, branch, &added->members.items[i]))
            return false;
    for (size_t i = 0; i < added->reachable.count; i++)
        if (!check_branch_member(builder, type, taken, branch, added->reachable.items[i]))
            return false;
    return true;
}

static void reach(struct builder *builder, struct type *type, struct names *known, const struct member *member)
{
    struct arena *arena = builder->compilation->arena;
    if (!names_add(known, arena, member->c_name, (void *)(size_t)member))
        VECTOR_PUSH(arena, &type->reachable, member);
}

/* Checks the branches against the members, and notes what they add for unions of which this one is a branch. */
static bool check_clashes(struct builder *builder, struct type *type, const struct names *taken)
{
    struct names known = { 0 };
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        if (!check_branch_members(builder, type, taken, branch))
            return false;
        for (size_t j = 0; j < branch->type->members.count; j++)
            reach(builder, type, &known, &branch->type->members.items[j]);
        for (size_t j = 0; j < branch->type->reachable.count; j++)
            reach(builder, type, &known, branch->type->reachable.items[j]);
    }
    return true;
}

static void suggest_value(struct builder *builder, struct location at, const struct type *enumeration, const char *name)
{
    struct suggestion suggestion = { 0 };
    for (size_t i = 0; i < enumeration->values.count; i++)
        suggestion_consider(&suggestion, name, enumeration->values.items[i].name);
    compilation_suggest(builder->compilation, at, &suggestion);
}

/* What branches of unions and alternates have in common. */
static bool begin_branch(struct builder *builder, struct type *type, const struct syntax_pair *pair,
                         struct branch *branch)
{
    struct arena *arena = builder->compilation->arena;
    const struct syntax *name = pair->value->kind == SYNTAX_OBJECT ? syntax_get(pair->value, "type") : pair->value;
    *branch = (struct branch){
        .name = pair->key,
        .c_name = c_identifier(arena, pair->key),
        .at = pair->at,
        .condition = builder_condition(builder, pair->value),
    };
    branch->type = builder_type(builder, type->at, name, (struct subject){ "branch", pair->key });
    return branch->type != NULL;
}

static bool resolve_branch(struct builder *builder, struct type *type, const struct syntax_pair *pair)
{
    const struct type *enumeration = type->members.items[type->tag].type;
    struct branch branch;
    if (!begin_branch(builder, type, pair, &branch))
        return false;
    if (!find_value(enumeration, pair->key, &branch.enum_index)) {
        wrong(builder, type, pair->at, "branch '%s' is not a value of %s", pair->key,
              builder_describe(builder, enumeration));
        suggest_value(builder, pair->at, enumeration, pair->key);
        return false;
    }
    if (branch.type->kind != TYPE_OBJECT)
        return wrong(builder, type, pair->at, "branch '%s' cannot use %s", pair->key,
                     builder_describe(builder, branch.type));
    if (!builder_resolve_type(builder, branch.type))
        return false;
    if (branch.type->union_depth + 1 > type->union_depth)
        type->union_depth = branch.type->union_depth + 1;
    VECTOR_PUSH(builder->compilation->arena, &type->branches, branch);
    return true;
}

/* Values without a branch of their own add nothing. */
static void add_empty_branches(struct builder *builder, struct type *type)
{
    const struct type *enumeration = type->members.items[type->tag].type;
    bool *has_branch = arena_array(builder->compilation->arena, enumeration->values.count + 1, sizeof(*has_branch));
    for (size_t i = 0; i < type->branches.count; i++)
        has_branch[type->branches.items[i].enum_index] = true;
    for (size_t i = 0; i < enumeration->values.count; i++) {
        const struct enum_value *value = &enumeration->values.items[i];
        if (has_branch[i])
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

static bool resolve_union(struct builder *builder, struct type *type, struct names *taken)
{
    const struct syntax *data = syntax_get(type->body, "data");
    if (!resolve_discriminator(builder, type))
        return false;
    type->union_depth = 1;
    for (size_t i = 0; i < data->pairs.count; i++)
        if (!resolve_branch(builder, type, &data->pairs.items[i]))
            return false;
    add_empty_branches(builder, type);
    if (type->branches.count == 0)
        return wrong(builder, type, data->at, "union has no branches");
    if (type->union_depth > UNION_DEPTH_MAX)
        return wrong(builder, type, type->at, "unions are branches of unions deeper than %d", UNION_DEPTH_MAX);
    return check_clashes(builder, type, taken);
}

static bool resolve_object(struct builder *builder, struct type *type)
{
    struct names taken = { 0 };
    if (type->implicit)
        return resolve_members(builder, type, &taken, type->body, "parameter");
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
            return wrong(builder, type, branch->at, "branch '%s' can't be distinguished from '%s'", branch->name,
                         other->name);
    }
    return true;
}

static bool is_number(const char *json_type)
{
    return strcmp(json_type, "int") == 0 || strcmp(json_type, "number") == 0;
}

static bool resolve_alternate_branch(struct builder *builder, struct type *type, const struct syntax_pair *pair)
{
    struct branch branch;
    if (!begin_branch(builder, type, pair, &branch))
        return false;
    const char *json_type = type_json_type(branch.type);
    if (strcmp(json_type, "value") == 0)
        return wrong(builder, type, pair->at, "branch '%s' cannot use %s", pair->key,
                     builder_describe(builder, branch.type));
    if (branch.type->kind == TYPE_ARRAY)
        branch.type->needs_list = true;

    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *other = &type->branches.items[i];
        const char *other_type = type_json_type(other->type);
        if (strcmp(branch.c_name, other->c_name) == 0)
            return wrong(builder, type, pair->at, "branch '%s' collides with branch '%s'", pair->key, other->name);
        if ((is_number(json_type) && is_number(other_type)) || strcmp(json_type, other_type) == 0)
            return wrong(builder, type, pair->at, "branch '%s' can't be distinguished from '%s'", pair->key,
                         other->name);
    }
    VECTOR_PUSH(builder->compilation->arena, &type->branches, branch);
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

static bool resolve_enum(struct builder *builder, struct type *type)
{
    struct arena *arena = builder->compilation->arena;
    struct names taken = { 0 };
    for (size_t i = 0; i < type->values.count; i++) {
        const struct enum_value *value = &type->values.items[i];
        const struct enum_value *other = names_add(&taken, arena, c_part(arena, value->name), (void *)(size_t)value);
        if (other)
            return wrong(builder, type, value->at, "value '%s' collides with value '%s'", value->name, other->name);
        if (value->features.list.count &&
            !builder_check_features(builder, type->at, &value->features, (struct subject){ "value", value->name }))
            return false;
    }
    return true;
}

static bool resolve_scalar(struct builder *builder, struct type *type)
{
    const struct syntax *name = syntax_get(type->body, "type");
    struct type *plain = builder_type(builder, type->at, name, (struct subject){ "scalar", NULL });
    if (!plain)
        return false;
    bool fits = plain->kind == TYPE_BUILTIN && !plain->plain && plain->builtin->kind != BUILTIN_BOOL &&
                plain->builtin->kind != BUILTIN_NULL && plain->builtin->kind != BUILTIN_ANY;
    if (!fits)
        return wrong(builder, type, name->at, "a scalar restricts strings, integers or numbers, not %s",
                     builder_describe(builder, plain));
    struct extended extended = { .builder = builder,
                                 .definition_at = type->at,
                                 .subject = { "scalar", NULL },
                                 .syntax = type->body,
                                 .type = plain };
    return builder_constraints(&extended, &type->constraints);
}

static bool resolve_by_kind(struct builder *builder, struct type *type)
{
    switch (type->kind) {
    case TYPE_ENUM:
        return resolve_enum(builder, type);
    case TYPE_ALTERNATE:
        return resolve_alternate(builder, type);
    case TYPE_OBJECT:
        return resolve_object(builder, type);
    case TYPE_BUILTIN:
        return resolve_scalar(builder, type);
    case TYPE_ARRAY:
        break;
    }
    return true;
}

bool builder_resolve_type(struct builder *builder, struct type *type)
{
    if (type->state == TYPE_RESOLVED)
        return true;
    if (type->state == TYPE_RESOLVING)
        return wrong(builder, type, type->at, "object %s contains itself", type->name);
    if (builder->nesting == NESTING_MAX)
        return wrong(builder, type, type->at, "bases and branches nested deeper than %d", NESTING_MAX);
    builder->nesting++;
    type->state = TYPE_RESOLVING;
    bool ok = builder_check_type_features(builder, type) && resolve_by_kind(builder, type);
    type->state = TYPE_RESOLVED;
    builder->nesting--;
    return ok;
}

static PRINTF_LIKE(4, 5) bool wrong_payload(struct builder *builder, const struct definition *definition,
                                            struct location at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    compilation_verror(builder->compilation, definition->body->at, format, args);
    va_end(args);
    compilation_note(builder->compilation, at, "in %s '%s'", definition->meta, definition->name);
    return false;
}

static struct type *implicit_payload(struct builder *builder, const struct definition *definition,
                                     const struct syntax *data, const char *suffix)
{
    struct arena *arena = builder->compilation->arena;
    return builder_implicit_object(builder, data, arena_printf(arena, "q_obj_%s-arg", definition->name),
                                   arena_printf(arena, "%s_%s", c_snake(arena, definition->name), suffix), definition);
}

/* The object that a command or event takes; *type stays NULL if it takes none. */
static bool resolve_payload(struct builder *builder, const struct definition *definition, const char *suffix,
                            bool boxed, struct type **type)
{
    const struct syntax *data = syntax_get(definition->body, "data");
    bool command = strcmp(definition->meta, "command") == 0;
    if (!data || (data->kind == SYNTAX_OBJECT && data->pairs.count == 0))
        return true;
    *type = data->kind == SYNTAX_OBJECT
                ? implicit_payload(builder, definition, data, suffix)
                : builder_type(builder, definition->body->at, data,
                               (struct subject){ command ? "command's 'data'" : "event's 'data'", NULL });
    if (!*type)
        return false;
    if ((*type)->kind != TYPE_OBJECT)
        return wrong_payload(builder, definition, data->at, "%s's 'data' cannot take %s", definition->meta,
                             builder_describe(builder, *type));
    if (!boxed && (*type)->body && !(*type)->implicit && syntax_get((*type)->body, "discriminator"))
        return wrong_payload(builder, definition, data->at,
                             "%s's 'data' can take union type '%s' only with 'boxed': true", definition->meta,
                             (*type)->name);
    if (!builder_resolve_type(builder, *type))
        return false;
    for (size_t i = 0; i < (*type)->members.count && !boxed; i++)
        if ((*type)->members.items[i].condition)
            return wrong_payload(builder, definition, (*type)->members.items[i].at,
                                 "conditional %s arguments require 'boxed': true", definition->meta);
    return true;
}

static bool resolve_returns(struct builder *builder, struct command *command, const struct definition *definition)
{
    const struct name_list *exceptions = &builder->program->pragmas.command_returns_exceptions;
    const struct syntax *returns = syntax_get(definition->body, "returns");
    if (!returns)
        return true;
    command->returns = builder_type(builder, command->at, returns, (struct subject){ "command's 'returns'", NULL });
    if (!command->returns)
        return false;
    if (command->returns->kind == TYPE_ARRAY)
        command->returns->needs_list = true;
    if (names_contain(exceptions->items, exceptions->count, command->name))
        return true;
    const struct type *type = command->returns->kind == TYPE_ARRAY ? command->returns->element : command->returns;
    if (type != command->returns && builder_array_is_later(builder, command->returns)) {
        wrong_payload(builder, definition, returns->at,
                      "command's 'returns' names '%s' before [ '%s' ] stands anywhere", returns->string, type->name);
        compilation_note(builder->compilation, returns->at, "write [ '%s' ]", type->name);
        return false;
    }
    if (type->kind == TYPE_OBJECT)
        return true;
    wrong_payload(builder, definition, returns->at, "command's 'returns' cannot take %s",
                  builder_describe(builder, command->returns));
    compilation_note(builder->compilation, returns->at, "it takes objects and arrays of them, which can grow later");
    return false;
}

bool builder_resolve_command(struct builder *builder, struct command *command, const struct definition *definition)
{
    return resolve_payload(builder, definition, "arguments", command->boxed, &command->arguments) &&
           resolve_returns(builder, command, definition) && builder_declare_errors(builder, command, definition);
}

bool builder_resolve_event(struct builder *builder, struct event *event, const struct definition *definition)
{
    return resolve_payload(builder, definition, "event", event->boxed, &event->data) &&
           builder_limit_rate(builder, event, definition);
}
