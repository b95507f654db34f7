/* The resolved model as JSON: the interface for generators outside of this program.
 *
 *     { "format": 1, "schema": "cairn.json",
 *       "modules": [ "common.json", ... ],              as reached from the main file
 *       "definitions": [ DEFINITION, ... ],             in the order in which generators visit them
 *       "types": [ DEFINITION, ... ] }                  built in, or built from what stands inside commands
 *
 * A DEFINITION has "kind" (builtin, scalar, enum, object, alternate, command, event), "name", and, where they say
 * something, "module", "line", "if" (the condition as the schema writes it), "features" and "doc". A type is named by a
 * string; an array is { "array": TYPE }. Members that a base brings are listed with the others and say so with
 * "inherited". What is false, empty or absent in the schema is left out. */
#include "schema/compiler/json_text.h"
#include "schema/compiler/markup.h"
#include "schema/compiler/printers.h"

#include <string.h>

static void put_condition(struct json_text *json, const char *key, const struct condition *condition)
{
    if (!condition)
        return;
    if (condition->kind == CONDITION_NAME) {
        json_string(json, key, condition->name);
        return;
    }
    json_open(json, key, '{');
    if (condition->kind == CONDITION_NOT) {
        put_condition(json, "not", condition->operands.items[0]);
    } else {
        json_open(json, condition->kind == CONDITION_ALL ? "all" : "any", '[');
        for (size_t i = 0; i < condition->operands.count; i++)
            put_condition(json, NULL, condition->operands.items[i]);
        json_close(json, ']');
    }
    json_close(json, '}');
}

static void put_features(struct json_text *json, const struct features *features)
{
    if (!features->list.count)
        return;
    json_open(json, "features", '[');
    for (size_t i = 0; i < features->list.count; i++) {
        json_open(json, NULL, '{');
        json_string(json, "name", features->list.items[i].name);
        put_condition(json, "if", features->list.items[i].condition);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_type_name(struct json_text *json, const char *key, const struct type *type)
{
    if (!type)
        return;
    if (type->kind != TYPE_ARRAY) {
        json_string(json, key, type->name);
        return;
    }
    json_open(json, key, '{');
    put_type_name(json, "array", type->element);
    json_close(json, '}');
}

static void put_constraints(struct json_text *json, const struct constraints *constraints)
{
    if (!constraints)
        return;
    if (constraints->has_minimum)
        json_number(json, "min", &constraints->minimum);
    if (constraints->has_maximum)
        json_number(json, "max", &constraints->maximum);
    if (constraints->multiple_of)
        json_unsigned(json, "multiple-of", constraints->multiple_of);
    if (constraints->min_length)
        json_unsigned(json, "min-length", constraints->min_length);
    if (constraints->max_length && constraints->max_length != UINT32_MAX)
        json_unsigned(json, "max-length", constraints->max_length);
    if (constraints->pattern)
        json_string(json, "pattern", constraints->pattern->text);
}

static void put_flag(struct json_text *json, const char *key, bool value)
{
    if (value)
        json_bool(json, key, true);
}

static void put_entries(struct json_text *json, const char *key, const struct doc_entry *entries, size_t count)
{
    if (!count)
        return;
    json_open(json, key, '[');
    for (size_t i = 0; i < count; i++) {
        json_open(json, NULL, '{');
        if (entries[i].name)
            json_string(json, "name", entries[i].name);
        json_string(json, "text", entries[i].text);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_doc(struct json_text *json, const struct doc *doc)
{
    if (!doc)
        return;
    struct blocks examples = { 0 };
    markup_examples(json->output->arena, doc, &examples);
    json_open(json, "doc", '{');
    json_string(json, "text", doc->text);
    put_entries(json, "members", doc->members.items, doc->members.count);
    put_entries(json, "features", doc->features.items, doc->features.count);
    put_entries(json, "sections", doc->sections.items, doc->sections.count);
    if (examples.list.count) {
        json_open(json, "examples", '[');
        for (size_t i = 0; i < examples.list.count; i++) {
            json_open(json, NULL, '{');
            json_string(json, "title", examples.list.items[i].title);
            json_string(json, "text", examples.list.items[i].text);
            json_close(json, '}');
        }
        json_close(json, ']');
    }
    json_close(json, '}');
}

static void begin_definition(struct json_text *json, const char *kind, const char *name, const struct module *module,
                             struct location at)
{
    json_open(json, NULL, '{');
    json_string(json, "kind", kind);
    json_string(json, "name", name);
    if (module && at.source) {
        json_unsigned(json, "module", module->number);
        json_unsigned(json, "line", at.line);
    }
}

static void end_definition(struct json_text *json, const struct condition *condition, const struct features *features,
                           const struct doc *doc)
{
    put_condition(json, "if", condition);
    put_features(json, features);
    put_doc(json, doc);
    json_close(json, '}');
}

static void put_values(struct json_text *json, const struct type *type)
{
    json_open(json, "values", '[');
    for (size_t i = 0; i < type->values.count; i++) {
        json_open(json, NULL, '{');
        json_string(json, "name", type->values.items[i].name);
        put_condition(json, "if", type->values.items[i].condition);
        put_features(json, &type->values.items[i].features);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_member(struct json_text *json, const struct member *member, bool inherited)
{
    json_open(json, NULL, '{');
    json_string(json, "name", member->name);
    put_type_name(json, "type", member->type);
    put_flag(json, "optional", member->optional);
    put_flag(json, "inherited", inherited);
    put_flag(json, "nullable", member->nullable);
    put_flag(json, "secret", member->secret);
    put_constraints(json, member->constraints);
    if (member->default_value) {
        struct output text = { .arena = json->output->arena };
        output_json_literal(&text, member->type, member->default_value);
        json_raw(json, "default", arena_strndup(json->output->arena, text.text.items, text.text.count));
    }
    put_condition(json, "if", member->condition);
    put_features(json, &member->features);
    json_close(json, '}');
}

static void put_branches(struct json_text *json, const struct type *type)
{
    json_open(json, "branches", '[');
    for (size_t i = 0; i < type->branches.count; i++) {
        json_open(json, NULL, '{');
        json_string(json, "name", type->branches.items[i].name);
        put_type_name(json, "type", type->branches.items[i].type);
        put_condition(json, "if", type->branches.items[i].condition);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static void put_object(struct json_text *json, const struct type *type)
{
    size_t inherited = type->base ? type->base->members.count : 0;
    put_flag(json, "implicit", type->implicit);
    put_type_name(json, "base", type->base);
    json_open(json, "members", '[');
    for (size_t i = 0; i < type->members.count; i++)
        put_member(json, &type->members.items[i], i < inherited);
    json_close(json, ']');
    if (!type->discriminator)
        return;
    json_string(json, "discriminator", type->discriminator);
    put_branches(json, type);
}

static void put_type(struct json_text *json, const struct type *type)
{
    static const char *const kinds[] = {
        [TYPE_BUILTIN] = "builtin", [TYPE_ENUM] = "enum",           [TYPE_ARRAY] = "array",
        [TYPE_OBJECT] = "object",   [TYPE_ALTERNATE] = "alternate",
    };
    begin_definition(json, type->plain ? "scalar" : kinds[type->kind], type->name, type->module, type->at);
    switch (type->kind) {
    case TYPE_BUILTIN:
        put_type_name(json, "plain", type->plain);
        put_constraints(json, type->constraints);
        if (type->builtin)
            json_string(json, "json-type", type->builtin->json_type);
        break;
    case TYPE_ENUM:
        put_values(json, type);
        break;
    case TYPE_OBJECT:
        put_object(json, type);
        break;
    case TYPE_ALTERNATE:
        put_flag(json, "implicit", type->implicit);
        put_branches(json, type);
        break;
    case TYPE_ARRAY:
        break;
    }
    end_definition(json, type->condition, &type->features, type->doc);
}

static void put_command(struct json_text *json, const struct command *command)
{
    static const char *const roles[] = { [ROLE_READ] = "read", [ROLE_OPERATE] = "operate", [ROLE_ADMIN] = "admin" };
    begin_definition(json, "command", command->name, command->module, command->at);
    put_type_name(json, "arguments", command->arguments);
    put_type_name(json, "returns", command->returns);
    put_flag(json, "boxed", command->boxed);
    put_flag(json, "raw", command->raw);
    put_flag(json, "no-success-response", !command->success_response);
    put_flag(json, "allow-oob", command->allow_oob);
    put_flag(json, "allow-preconfig", command->allow_preconfig);
    put_flag(json, "coroutine", command->coroutine);
    json_string(json, "role", roles[command->role]);
    if (command->errors_declared) {
        json_open(json, "errors", '[');
        for (size_t i = 0; i < command->errors.count; i++)
            json_string(json, NULL, command->errors.items[i].name);
        json_close(json, ']');
    }
    end_definition(json, command->condition, &command->features, command->doc);
}

static void put_event(struct json_text *json, const struct event *event)
{
    begin_definition(json, "event", event->name, event->module, event->at);
    put_type_name(json, "data", event->data);
    put_flag(json, "boxed", event->boxed);
    if (event->rate_limit_ms)
        json_unsigned(json, "rate-limit-ms", event->rate_limit_ms);
    if (event->rate_limit_keys.count) {
        json_open(json, "rate-limit-keys", '[');
        for (size_t i = 0; i < event->rate_limit_keys.count; i++)
            json_string(json, NULL, event->data->members.items[event->rate_limit_keys.items[i]].name);
        json_close(json, ']');
    }
    end_definition(json, event->condition, &event->features, event->doc);
}

static bool is_entity(const struct model *model, const struct type *type)
{
    for (size_t i = 0; i < model->entities.count; i++)
        if (model->entities.items[i].type == type)
            return true;
    return false;
}

/* The module's path without the directory of the main file, so that the output is the same wherever that stands. */
static const char *module_name(const struct model *model, const struct module *module)
{
    const char *main_path = model->program->sources.items[0]->path;
    const char *slash = strrchr(main_path, '/');
    size_t directory = slash ? (size_t)(slash + 1 - main_path) : 0;
    return strncmp(module->path, main_path, directory) == 0 ? module->path + directory : module->path;
}

void write_model_json(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct json_text json = { .output = output };
    json_open(&json, NULL, '{');
    json_unsigned(&json, "format", 1);
    json_string(&json, "schema", options->schema);
    json_open(&json, "modules", '[');
    for (size_t i = 0; i < model->program->modules.count; i++) {
        json_open(&json, NULL, '{');
        json_unsigned(&json, "number", model->program->modules.items[i]->number);
        json_string(&json, "path", module_name(model, model->program->modules.items[i]));
        json_close(&json, '}');
    }
    json_close(&json, ']');
    json_open(&json, "definitions", '[');
    for (size_t i = 0; i < model->entities.count; i++) {
        const struct entity *entity = &model->entities.items[i];
        if (entity->command)
            put_command(&json, entity->command);
        else if (entity->event)
            put_event(&json, entity->event);
        else
            put_type(&json, entity->type);
    }
    json_close(&json, ']');
    json_open(&json, "types", '[');
    for (size_t i = 0; i < model->types.count; i++)
        if (model->types.items[i]->kind != TYPE_ARRAY && !is_entity(model, model->types.items[i]))
            put_type(&json, model->types.items[i]);
    json_close(&json, ']');
    json_close(&json, '}');
}
