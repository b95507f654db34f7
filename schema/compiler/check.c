#include "schema/compiler/check.h"

#include "schema/codec/suggest.h"
#include "schema/compiler/check_private.h"
#include "schema/compiler/model.h"

#include <ctype.h>
#include <string.h>

struct meta {
    const char *name;
    struct keys keys;
    bool (*check)(struct checker *checker);
    bool extended; /* only under language 1 */
};

static const struct keys branch_keys = { { "type" }, { "if" }, { NULL } };
static const struct keys value_keys = { { "name" }, { "if", "features" }, { NULL } };

static const struct syntax *part(struct checker *checker, const char *key)
{
    return syntax_get(checker->definition->body, key);
}

static bool check_value(struct checker *checker, const struct syntax *value, bool permissive)
{
    const char *what = "'data' member";
    const struct syntax *name = value;
    if (value->kind == SYNTAX_OBJECT) {
        if (!check_keys(checker, value, what, &value_keys))
            return false;
        name = syntax_get(value, "name");
    }
    if (name->kind != SYNTAX_STRING)
        return check_failed(checker, name->at, "%s requires a string name", what);
    /* A value may begin with a digit, unlike any other name. */
    const char *form = isdigit((unsigned char)name->string[0])
                           ? arena_printf(checker->compilation->arena, "d%s", name->string)
                           : name->string;
    return check_name_lower(checker, name->at, form, what, permissive, permissive) &&
           (value == name || (check_if(checker, value, what) && check_features(checker, value)));
}

static bool check_enum(struct checker *checker)
{
    const struct name_list *exceptions = &checker->program->pragmas.member_name_exceptions;
    const struct syntax *values = part(checker, "data"), *prefix = part(checker, "prefix");
    if (values->kind != SYNTAX_ARRAY)
        return check_failed(checker, values->at, "'data' must be an array");
    if (prefix && prefix->kind != SYNTAX_STRING)
        return check_failed(checker, prefix->at, "'prefix' must be a string");
    bool permissive = names_contain(exceptions->items, exceptions->count, checker->definition->name);
    for (size_t i = 0; i < values->items.count; i++)
        if (!check_value(checker, values->items.items[i], permissive))
            return false;
    return true;
}

static bool check_struct(struct checker *checker)
{
    return check_members(checker, part(checker, "data"), "'data'") &&
           check_type(checker, part(checker, "base"), "'base'", false);
}

static bool check_branch(struct checker *checker, const struct syntax_pair *branch, bool array_ok)
{
    if (branch->value->kind == SYNTAX_STRING)
        return true;
    const char *what = arena_printf(checker->compilation->arena, "'data' member '%s'", branch->key);
    if (branch->value->kind == SYNTAX_OBJECT &&
        (!check_keys(checker, branch->value, what, &branch_keys) || !check_if(checker, branch->value, what)))
        return false;
    return check_type(checker, member_type(branch->value), what, array_ok);
}

static bool check_union(struct checker *checker)
{
    const struct syntax *base = part(checker, "base"), *data = part(checker, "data");
    const struct syntax *discriminator = part(checker, "discriminator");
    if (base->kind != SYNTAX_STRING && !check_members(checker, base, "'base'"))
        return false;
    if (discriminator->kind != SYNTAX_STRING)
        return check_failed(checker, discriminator->at, "'discriminator' requires a string name");
    if (data->kind != SYNTAX_OBJECT)
        return check_failed(checker, data->at, "'data' must be an object");
    /* Names of branches are those of the discriminator's values, which are checked there. */
    for (size_t i = 0; i < data->pairs.count; i++)
        if (!check_branch(checker, &data->pairs.items[i], false))
            return false;
    return true;
}

static bool check_alternate(struct checker *checker)
{
    const struct syntax *data = part(checker, "data");
    if (data->kind != SYNTAX_OBJECT)
        return check_failed(checker, data->at, "'data' must be an object");
    if (data->pairs.count == 0)
        return check_failed(checker, data->at, "'data' must not be empty");
    for (size_t i = 0; i < data->pairs.count; i++) {
        const struct syntax_pair *branch = &data->pairs.items[i];
        if (!check_name_lower(checker, branch->at, branch->key, "'data' member", false, false) ||
            !check_branch(checker, branch, true))
            return false;
    }
    return true;
}

/* 'data' of a command or event: members, or the name of a type; the latter with 'boxed'. */
static bool check_payload(struct checker *checker)
{
    const struct syntax *data = part(checker, "data"), *boxed = part(checker, "boxed");
    bool is_boxed = boxed && !(boxed->kind == SYNTAX_BOOL && !boxed->boolean);
    if (is_boxed && !data)
        return check_failed(checker, boxed->at, "'boxed': true requires 'data'");
    if (!data || data->kind == SYNTAX_STRING)
        return true;
    return is_boxed ? check_type(checker, data, "'data'", false) : check_members(checker, data, "'data'");
}

static bool check_command(struct checker *checker)
{
    return check_payload(checker) && check_type(checker, part(checker, "returns"), "'returns'", true) &&
           check_command_extensions(checker);
}

static bool check_event(struct checker *checker)
{
    return check_payload(checker) && check_event_extensions(checker);
}

static bool check_scalar(struct checker *checker)
{
    const struct syntax *type = part(checker, "type");
    if (type->kind != SYNTAX_STRING)
        return check_failed(checker, type->at, "'type' of a scalar should be the name of a built-in type");
    return check_constraints(checker, checker->definition->body, "scalar");
}

static const struct meta metas[] = {
    { "enum", { { "enum", "data" }, { "if", "features", "prefix" }, { NULL } }, check_enum, false },
    { "struct", { { "struct", "data" }, { "base", "if", "features" }, { NULL } }, check_struct, false },
    { "union", { { "union", "base", "discriminator", "data" }, { "if", "features" }, { NULL } }, check_union, false },
    { "alternate", { { "alternate", "data" }, { "if", "features" }, { NULL } }, check_alternate, false },
    { "command",
      { { "command" },
        { "data", "returns", "boxed", "if", "features", "gen", "success-response", "allow-oob", "allow-preconfig",
          "coroutine" },
        { "role", "errors" } },
      check_command,
      false },
    { "event", { { "event" }, { "data", "boxed", "if", "features" }, { "rate-limit" } }, check_event, false },
    { "scalar",
      { { "scalar", "type" },
        { "if", "features", "min", "max", "multiple-of", "min-length", "max-length", "pattern" },
        { NULL } },
      check_scalar,
      true },
};

static bool is_available(struct checker *checker, const struct meta *meta)
{
    return !meta->extended || checker->program->pragmas.language > 0;
}

static const struct meta *find_meta(struct checker *checker)
{
    const struct syntax *body = checker->definition->body;
    const struct meta *found = NULL;
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(metas); i++) {
        if (is_available(checker, &metas[i]) && syntax_find(body, metas[i].name)) {
            found = &metas[i];
            count++;
        }
    }
    if (count == 1)
        return found;
    check_failed(checker, body->at,
                 "expression must have exactly one key 'enum', 'struct', 'union', 'alternate', 'command', 'event'%s",
                 checker->program->pragmas.language ? ", 'scalar'" : "");
    struct suggestion suggestion = { 0 };
    for (size_t i = 0; i < body->pairs.count && count == 0; i++) {
        for (size_t j = 0; j < ARRAY_SIZE(metas); j++)
            if (is_available(checker, &metas[j]))
                suggestion_consider(&suggestion, body->pairs.items[i].key, metas[j].name);
        if (suggestion.name) {
            compilation_suggest(checker->compilation, body->pairs.items[i].at, &suggestion);
            break;
        }
    }
    return NULL;
}

static bool check_type_definition_name(struct checker *checker, struct location at, const char *meta)
{
    const char *name = checker->definition->name;
    size_t length = strlen(name);
    if (!check_name_camel(checker, at, name, meta))
        return false;
    if (length >= 4 && strcmp(name + length - 4, "List") == 0) {
        check_failed(checker, at, "%s name should not end in 'List'", meta);
        compilation_note(checker->compilation, at, "such names are kept for arrays");
        return false;
    }
    return true;
}

static bool check_definition_name(struct checker *checker, const char *meta)
{
    struct location at = part(checker, meta)->at;
    const char *name = checker->definition->name;
    const struct name_list *exceptions = &checker->program->pragmas.command_name_exceptions;
    if (strcmp(meta, "event") == 0)
        return check_name_upper(checker, at, name, meta);
    if (strcmp(meta, "command") == 0)
        return check_name_lower(checker, at, name, meta, false,
                                names_contain(exceptions->items, exceptions->count, name));
    return check_type_definition_name(checker, at, meta);
}

/* Sections that only commands have. */
static bool check_doc_sections(struct checker *checker)
{
    const struct doc_entries *sections = &checker->definition->doc->sections;
    const struct doc_entry *returns = doc_find(sections->items, sections->count, "Returns");
    const struct doc_entry *errors = doc_find(sections->items, sections->count, "Errors");
    bool command = strcmp(checker->definition->meta, "command") == 0;
    const char *valid = command ? "'Returns' section, but command doesn't return anything"
                                : "'Returns' section is only valid for commands";
    if (returns && !(command && part(checker, "returns")))
        return compilation_error(checker->compilation, returns->at, "%s", valid);
    if (errors && !command)
        return compilation_error(checker->compilation, errors->at, "'Errors' section is only valid for commands");
    return true;
}

static bool check_doc(struct checker *checker)
{
    const struct definition *definition = checker->definition;
    if (definition->doc && strcmp(definition->doc->symbol, definition->name) != 0)
        return check_failed(checker, definition->doc->at, "documentation comment is for '%s'", definition->doc->symbol);
    if (!definition->doc && checker->program->pragmas.doc_required)
        return check_failed(checker, definition->body->at, "documentation comment required");
    return !definition->doc || check_doc_sections(checker);
}

static bool check_flag(struct checker *checker, const char *name, bool allowed)
{
    const struct syntax *flag = part(checker, name);
    if (!flag || (flag->kind == SYNTAX_BOOL && flag->boolean == allowed))
        return true;
    check_failed(checker, flag->at, "flag '%s' may only use %s value", name, allowed ? "true" : "false");
    compilation_note(checker->compilation, flag->at, "leave it out for the other value");
    return false;
}

static bool check_flags(struct checker *checker)
{
    static const char *const only_true[] = { "boxed", "allow-oob", "allow-preconfig", "coroutine" };
    if (!check_flag(checker, "gen", false) || !check_flag(checker, "success-response", false))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(only_true); i++)
        if (!check_flag(checker, only_true[i], true))
            return false;
    if (part(checker, "allow-oob") && part(checker, "coroutine"))
        return check_failed(checker, part(checker, "coroutine")->at,
                            "flags 'allow-oob' and 'coroutine' are incompatible");
    return true;
}

static bool check_definition(struct checker *checker, struct definition *definition)
{
    checker->definition = definition;
    const struct meta *meta = find_meta(checker);
    if (!meta)
        return false;
    const struct syntax *name = syntax_get(definition->body, meta->name);
    definition->meta = meta->name;
    if (name->kind != SYNTAX_STRING)
        return check_failed(checker, name->at, "'%s' requires a string name", meta->name);
    definition->name = name->string;
    return check_definition_name(checker, meta->name) && check_doc(checker) &&
           check_keys(checker, definition->body, meta->name, &meta->keys) && meta->check(checker) &&
           check_if(checker, definition->body, meta->name) && check_features(checker, definition->body) &&
           check_flags(checker);
}

bool program_check(struct program *program, struct compilation *compilation)
{
    struct checker checker = { .compilation = compilation, .program = program };
    for (size_t i = 0; i < program->definitions.count; i++)
        if (!check_definition(&checker, program->definitions.items[i]))
            return false;
    return true;
}
