/* The schema as one file that QEMU's generator reads. What language 1 adds is translated: a named scalar becomes the
 * type that it restricts, a nullable member's type an alternate, an optional discriminator a mandatory one (see
 * docs/schema-language.md for what that means); limits, defaults, secrets, roles, errors and rates are left out, since
 * plain QAPI cannot say them. Comments of definitions are kept. */
#include "schema/compiler/printers.h"

#include <ctype.h>
#include <string.h>

struct qapi {
    struct output *output;
    const struct model *model;
};

static const char *quoted(struct arena *arena, const char *text)
{
    return arena_printf(arena, "'%s'", text);
}

static void put_condition_value(struct output *output, const struct condition *condition)
{
    if (condition->kind == CONDITION_NAME) {
        output_printf(output, "'%s'", condition->name);
        return;
    }
    bool negation = condition->kind == CONDITION_NOT;
    output_text(output, negation ? "{ 'not': " : condition->kind == CONDITION_ALL ? "{ 'all': [ " : "{ 'any': [ ");
    for (size_t i = 0; i < condition->operands.count; i++) {
        output_text(output, i ? ", " : "");
        put_condition_value(output, condition->operands.items[i]);
    }
    output_text(output, negation ? " }" : " ] }");
}

static void put_condition(struct qapi *qapi, const struct condition *condition)
{
    if (!condition)
        return;
    output_text(qapi->output, ", 'if': ");
    put_condition_value(qapi->output, condition);
}

static void put_features(struct qapi *qapi, const struct features *features)
{
    if (!features->list.count)
        return;
    output_text(qapi->output, ", 'features': [ ");
    for (size_t i = 0; i < features->list.count; i++) {
        const struct feature *feature = &features->list.items[i];
        output_text(qapi->output, i ? ", " : "");
        if (feature->condition)
            output_printf(qapi->output, "{ 'name': '%s'", feature->name);
        else
            output_printf(qapi->output, "'%s'", feature->name);
        put_condition(qapi, feature->condition);
        output_text(qapi->output, feature->condition ? " }" : "");
    }
    output_text(qapi->output, " ]");
}

static const char *type_name(const struct type *type)
{
    return type->plain ? type->plain->name : type->name;
}

static const char *reference(const struct qapi *qapi, const struct type *type)
{
    struct arena *arena = qapi->output->arena;
    if (type->kind == TYPE_ARRAY)
        return arena_printf(arena, "[ '%s' ]", type_name(type->element));
    return quoted(arena, type_name(type));
}

static void put_member(struct qapi *qapi, const struct member *member, bool optional)
{
    const char *type = reference(qapi, member->type);
    output_printf(qapi->output, "\n    '%s%s': ", optional ? "*" : "", member->name);
    if (!member->condition && !member->features.list.count) {
        output_text(qapi->output, type);
        return;
    }
    output_printf(qapi->output, "{ 'type': %s", type);
    put_condition(qapi, member->condition);
    put_features(qapi, &member->features);
    output_text(qapi->output, " }");
}

/* The members from @first on; those before belong to a base. */
static void put_members(struct qapi *qapi, const struct type *type, size_t first)
{
    output_text(qapi->output, "{");
    for (size_t i = first; i < type->members.count; i++) {
        bool is_tag = type->discriminator && i == type->tag;
        output_text(qapi->output, i > first ? "," : "");
        put_member(qapi, &type->members.items[i], type->members.items[i].optional && !is_tag);
    }
    output_text(qapi->output, " }");
}

static void put_branch(struct qapi *qapi, const struct branch *branch)
{
    const char *name = reference(qapi, branch->type);
    output_printf(qapi->output, "\n    '%s': ", branch->name);
    if (!branch->condition) {
        output_text(qapi->output, name);
        return;
    }
    output_printf(qapi->output, "{ 'type': %s", name);
    put_condition(qapi, branch->condition);
    output_text(qapi->output, " }");
}

/* Values without members need no branch. */
static void put_branches(struct qapi *qapi, const struct type *type)
{
    bool any = false;
    output_text(qapi->output, "{");
    for (size_t i = 0; i < type->branches.count; i++) {
        if (type->branches.items[i].type == qapi->model->empty)
            continue;
        output_text(qapi->output, any ? "," : "");
        put_branch(qapi, &type->branches.items[i]);
        any = true;
    }
    output_text(qapi->output, " }");
}

static void put_values(struct qapi *qapi, const struct type *type)
{
    output_text(qapi->output, "[");
    for (size_t i = 0; i < type->values.count; i++) {
        const struct enum_value *value = &type->values.items[i];
        output_text(qapi->output, i ? ",\n    " : "\n    ");
        if (!value->condition && !value->features.list.count) {
            output_printf(qapi->output, "'%s'", value->name);
            continue;
        }
        output_printf(qapi->output, "{ 'name': '%s'", value->name);
        put_condition(qapi, value->condition);
        put_features(qapi, &value->features);
        output_text(qapi->output, " }");
    }
    output_text(qapi->output, " ]");
}

/* A comment as it stands in the file. */
static void put_doc(struct qapi *qapi, const struct doc *doc)
{
    if (doc)
        output_printf(qapi->output, "%.*s\n", (int)doc->raw_length, doc->raw);
}

static void begin(struct qapi *qapi, const struct doc *doc, const char *meta, const char *name)
{
    output_text(qapi->output, "\n");
    put_doc(qapi, doc);
    output_printf(qapi->output, "{ '%s': '%s'", meta, name);
}

static void end(struct qapi *qapi, const struct condition *condition, const struct features *features)
{
    put_condition(qapi, condition);
    put_features(qapi, features);
    output_text(qapi->output, " }\n");
}

/* A base that has the discriminator with a default cannot be named: others may use it as it is. */
static bool names_base(const struct type *type)
{
    bool optional_tag = type->discriminator && type->members.items[type->tag].optional;
    return type->base && !type->base->implicit && !optional_tag;
}

static void put_object(struct qapi *qapi, const struct type *type)
{
    bool named_base = names_base(type);
    size_t inherited = named_base ? type->base->members.count : 0;
    if (named_base)
        output_printf(qapi->output, ",\n  'base': '%s'", type->base->name);
    if (!type->discriminator) {
        output_text(qapi->output, ",\n  'data': ");
        put_members(qapi, type, inherited);
        return;
    }
    if (!named_base) {
        output_text(qapi->output, ",\n  'base': ");
        put_members(qapi, type, 0);
    }
    output_printf(qapi->output, ",\n  'discriminator': '%s',\n  'data': ", type->discriminator);
    put_branches(qapi, type);
}

static void put_type(struct qapi *qapi, const struct type *type)
{
    static const char *const metas[] = { [TYPE_ENUM] = "enum", [TYPE_ALTERNATE] = "alternate" };
    if (type->kind == TYPE_BUILTIN)
        return;
    const char *object = type->discriminator ? "union" : "struct";
    begin(qapi, type->doc, type->kind == TYPE_OBJECT ? object : metas[type->kind], type->name);
    if (type->kind == TYPE_OBJECT) {
        put_object(qapi, type);
    } else if (type->kind == TYPE_ENUM) {
        if (strcmp(type->constant_prefix, type->c_name) != 0)
            output_printf(qapi->output, ",\n  'prefix': '%s'", type->constant_prefix);
        output_text(qapi->output, ",\n  'data': ");
        put_values(qapi, type);
    } else {
        output_text(qapi->output, ",\n  'data': ");
        put_branches(qapi, type);
    }
    end(qapi, type->condition, &type->features);
}

static void put_payload(struct qapi *qapi, const struct type *type)
{
    if (!type)
        return;
    output_text(qapi->output, ",\n  'data': ");
    if (type->implicit)
        put_members(qapi, type, 0);
    else
        output_text(qapi->output, reference(qapi, type));
}

static void put_command(struct qapi *qapi, const struct command *command)
{
    begin(qapi, command->doc, "command", command->name);
    put_payload(qapi, command->arguments);
    if (command->returns)
        output_printf(qapi->output, ",\n  'returns': %s", reference(qapi, command->returns));
    output_text(qapi->output, command->boxed ? ",\n  'boxed': true" : "");
    output_text(qapi->output, command->raw ? ",\n  'gen': false" : "");
    output_text(qapi->output, command->success_response ? "" : ",\n  'success-response': false");
    output_text(qapi->output, command->allow_oob ? ",\n  'allow-oob': true" : "");
    output_text(qapi->output, command->allow_preconfig ? ",\n  'allow-preconfig': true" : "");
    output_text(qapi->output, command->coroutine ? ",\n  'coroutine': true" : "");
    end(qapi, command->condition, &command->features);
}

static void put_event(struct qapi *qapi, const struct event *event)
{
    begin(qapi, event->doc, "event", event->name);
    put_payload(qapi, event->data);
    output_text(qapi->output, event->boxed ? ",\n  'boxed': true" : "");
    end(qapi, event->condition, &event->features);
}

static void put_names(struct qapi *qapi, const char *pragma, const struct name_list *names)
{
    if (!names->count)
        return;
    output_printf(qapi->output, "{ 'pragma': { '%s': [", pragma);
    for (size_t i = 0; i < names->count; i++)
        output_printf(qapi->output, "%s '%s'", i ? "," : "", names->items[i]);
    output_text(qapi->output, " ] } }\n");
}

/* Members of a base that is named no more are documented there, not with the union. */
static struct name_list documentation_exceptions(const struct qapi *qapi)
{
    struct arena *arena = qapi->output->arena;
    const struct name_list *known = &qapi->model->program->pragmas.documentation_exceptions;
    struct name_list names = { 0 };
    for (size_t i = 0; i < known->count; i++)
        VECTOR_PUSH(arena, &names, known->items[i]);
    for (size_t i = 0; i < qapi->model->types.count; i++) {
        const struct type *type = qapi->model->types.items[i];
        if (type->base && !type->base->implicit && !names_base(type) && type->doc)
            VECTOR_PUSH(arena, &names, type->name);
    }
    return names;
}

static void put_pragmas(struct qapi *qapi)
{
    const struct pragmas *pragmas = &qapi->model->program->pragmas;
    if (pragmas->doc_required)
        output_text(qapi->output, "{ 'pragma': { 'doc-required': true } }\n");
    struct name_list undocumented = documentation_exceptions(qapi);
    put_names(qapi, "command-name-exceptions", &pragmas->command_name_exceptions);
    put_names(qapi, "command-returns-exceptions", &pragmas->command_returns_exceptions);
    put_names(qapi, "documentation-exceptions", &undocumented);
    put_names(qapi, "member-name-exceptions", &pragmas->member_name_exceptions);
}

/* Alternates that no file defines: one for each type that a nullable member has. */
static void put_nullables(struct qapi *qapi)
{
    for (size_t i = 0; i < qapi->model->types.count; i++) {
        const struct type *type = qapi->model->types.items[i];
        if (type->kind != TYPE_ALTERNATE || !type->implicit)
            continue;
        output_printf(qapi->output, "\n##\n# @%s:\n#\n# A value, or null.\n", type->name);
        for (size_t k = 0; k < type->branches.count; k++)
            output_printf(qapi->output, "#\n# @%s: %s\n", type->branches.items[k].name,
                          type_name(type->branches.items[k].type));
        output_printf(qapi->output, "##\n{ 'alternate': '%s',\n  'data': ", type->name);
        put_branches(qapi, type);
        output_text(qapi->output, " }\n");
    }
}

void write_qapi(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct qapi qapi = { .output = output, .model = model };
    output_printf(output, "# Written by schemac from %s: change that instead.\n\n", options->schema);
    put_pragmas(&qapi);
    for (size_t i = 0; i < model->entities.count; i++) {
        const struct entity *entity = &model->entities.items[i];
        if (entity->command)
            put_command(&qapi, entity->command);
        else if (entity->event)
            put_event(&qapi, entity->event);
        else
            put_type(&qapi, entity->type);
    }
    put_nullables(&qapi);
}
