#include "schema/compiler/check.h"

#include "schema/compiler/model.h"
#include "schema/compiler/naming.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

struct checker {
    struct compilation *compilation;
    const struct program *program;
    const struct definition *definition; /* the one being checked */
};

/* Keys of an object; both lists end with NULL. */
struct keys {
    const char *required[5];
    const char *optional[11];
};

struct meta {
    const char *name;
    struct keys keys;
};

static const struct meta metas[] = {
    { "enum", { { "enum", "data" }, { "if", "features", "prefix" } } },
    { "union", { { "union", "base", "discriminator", "data" }, { "if", "features" } } },
    { "alternate", { { "alternate", "data" }, { "if", "features" } } },
    { "struct", { { "struct", "data" }, { "base", "if", "features" } } },
    { "command",
      { { "command" },
        { "data", "returns", "boxed", "if", "features", "gen", "success-response", "allow-oob", "allow-preconfig",
          "coroutine" } } },
    { "event", { { "event" }, { "data", "boxed", "if", "features" } } },
};

static const struct keys member_keys = { { "type" }, { "if", "features" } };
static const struct keys branch_keys = { { "type" }, { "if" } };
static const struct keys value_keys = { { "name" }, { "if", "features" } };
static const struct keys feature_keys = { { "name" }, { "if" } };

/* An error of the definition as a whole: at the line where it begins, as QEMU's tools say it. */
static PRINTF_LIKE(2, 3) bool wrong(struct checker *checker, const char *format, ...)
{
    const struct definition *definition = checker->definition;
    va_list args;
    char text[1024];
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    compilation_error(checker->compilation, definition->body->at, "%s", text);
    if (definition->meta && definition->name)
        compilation_note(checker->compilation, definition->body->at, "in %s '%s'", definition->meta, definition->name);
    return false;
}

static size_t list_length(const char *const *list)
{
    size_t length = 0;
    while (list[length])
        length++;
    return length;
}

static void note_keys(struct checker *checker, struct location at, const struct keys *keys)
{
    const char *list = "";
    for (size_t i = 0; keys->required[i]; i++)
        list = arena_printf(checker->compilation->arena, "%s%s'%s'", list, *list ? ", " : "", keys->required[i]);
    for (size_t i = 0; keys->optional[i]; i++)
        list = arena_printf(checker->compilation->arena, "%s%s'%s'", list, *list ? ", " : "", keys->optional[i]);
    compilation_note(checker->compilation, at, "valid keys are %s", list);
}

/* All required keys, and none but those listed. */
static bool check_keys(struct checker *checker, const struct syntax *object, const char *what, const struct keys *keys)
{
    for (size_t i = 0; keys->required[i]; i++)
        if (!syntax_get(object, keys->required[i]))
            return wrong(checker, "%s misses key '%s'", what, keys->required[i]);
    for (size_t i = 0; i < object->pairs.count; i++) {
        const struct syntax_pair *pair = &object->pairs.items[i];
        if (names_contain(keys->required, list_length(keys->required), pair->key) ||
            names_contain(keys->optional, list_length(keys->optional), pair->key))
            continue;
        wrong(checker, "%s has unknown key '%s'", what, pair->key);
        note_keys(checker, pair->at, keys);
        return false;
    }
    return true;
}

static bool check_name_form(struct checker *checker, const char *name, const char *what)
{
    if (name_is_valid(name))
        return true;
    return wrong(checker, "%s has an invalid name '%s'", what, name);
}

static const char *find_any(const char *name, const char *from, const char *to, char other)
{
    for (; *name; name++)
        if ((*name >= *from && *name <= *to) || *name == other)
            return name;
    return NULL;
}

/* Names of commands and members. */
static bool check_name_lower(struct checker *checker, const char *name, const char *what, bool upper_ok, bool score_ok)
{
    if (!check_name_form(checker, name, what))
        return false;
    const char *stem = name_stem(name);
    if ((!upper_ok && find_any(stem, "A", "Z", 'A')) || (!score_ok && strchr(stem, '_')))
        return wrong(checker, "name of %s '%s' must not use uppercase or '_'", what, name);
    return true;
}

static bool is_exception(struct checker *checker, const char *meta)
{
    const struct pragmas *pragmas = &checker->program->pragmas;
    bool command = strcmp(meta, "command") == 0;
    return command ? names_contain(pragmas->command_name_exceptions.items, pragmas->command_name_exceptions.count,
                                   checker->definition->name)
                   : names_contain(pragmas->member_name_exceptions.items, pragmas->member_name_exceptions.count,
                                   checker->definition->name);
}

static bool is_camel(const char *name)
{
    const char *stem = name_stem(name);
    if (!isupper((unsigned char)*stem))
        return false;
    bool lower = false;
    for (; *stem; stem++) {
        if (!isalnum((unsigned char)*stem))
            return false;
        lower |= islower((unsigned char)*stem) != 0;
    }
    return lower;
}

static bool check_definition_name(struct checker *checker, const char *meta)
{
    const char *name = checker->definition->name;
    if (strcmp(meta, "event") == 0) {
        if (!check_name_form(checker, name, meta))
            return false;
        if (find_any(name_stem(name), "a", "z", '-'))
            return wrong(checker, "name of %s must not use lowercase or '-'", meta);
        return true;
    }
    if (strcmp(meta, "command") == 0)
        return check_name_lower(checker, name, meta, false, is_exception(checker, meta));
    if (!check_name_form(checker, name, meta))
        return false;
    if (!is_camel(name))
        return wrong(checker, "name of %s must use CamelCase", meta);
    size_t length = strlen(name);
    if (length >= 4 && strcmp(name + length - 4, "List") == 0)
        return wrong(checker, "%s name should not end in 'List'", meta);
    return true;
}

static bool check_condition(struct checker *checker, const struct syntax *condition, const char *what)
{
    if (condition->kind == SYNTAX_STRING) {
        const char *p = condition->string;
        if (!isupper((unsigned char)*p))
            return wrong(checker, "'if' condition '%s' of %s is not a valid identifier", p, what);
        for (; *p; p++)
            if (!isupper((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '_')
                return wrong(checker, "'if' condition '%s' of %s is not a valid identifier", condition->string, what);
        return true;
    }
    if (condition->kind != SYNTAX_OBJECT)
        return wrong(checker, "'if' condition of %s must be a string or an object", what);
    if (condition->pairs.count != 1)
        return wrong(checker, "'if' condition object of %s must have one key: 'all', 'any' or 'not'", what);

    const struct syntax_pair *pair = &condition->pairs.items[0];
    if (strcmp(pair->key, "not") == 0)
        return check_condition(checker, pair->value, what);
    if (strcmp(pair->key, "all") != 0 && strcmp(pair->key, "any") != 0)
        return wrong(checker, "'if' condition of %s has unknown key '%s'", what, pair->key);
    if (pair->value->kind != SYNTAX_ARRAY)
        return wrong(checker, "'%s' condition of %s must be an array", pair->key, what);
    if (pair->value->items.count == 0)
        return wrong(checker, "'%s' condition of %s must not be empty", pair->key, what);
    for (size_t i = 0; i < pair->value->items.count; i++)
        if (!check_condition(checker, pair->value->items.items[i], what))
            return false;
    return true;
}

static bool check_if(struct checker *checker, const struct syntax *object, const char *what)
{
    const struct syntax *condition = syntax_get(object, "if");
    return !condition || check_condition(checker, condition, what);
}

static bool check_features(struct checker *checker, const struct syntax *object, const char *what)
{
    const struct syntax *features = syntax_get(object, "features");
    if (!features)
        return true;
    if (features->kind != SYNTAX_ARRAY)
        return wrong(checker, "'features' of %s must be an array", what);
    for (size_t i = 0; i < features->items.count; i++) {
        const struct syntax *feature = features->items.items[i];
        const struct syntax *name = feature;
        if (feature->kind == SYNTAX_OBJECT) {
            if (!check_keys(checker, feature, "'features' member", &feature_keys) ||
                !check_if(checker, feature, "'features' member"))
                return false;
            name = syntax_get(feature, "name");
        }
        if (name->kind != SYNTAX_STRING)
            return wrong(checker, "'features' member of %s requires a string name", what);
        if (!check_name_lower(checker, name->string, "'features' member", false, false))
            return false;
    }
    return true;
}

static bool check_type_name(struct checker *checker, const struct syntax *type, const char *what)
{
    if (!type || type->kind == SYNTAX_STRING)
        return true;
    return wrong(checker, "%s should be a type name", what);
}

static bool check_type_name_or_array(struct checker *checker, const struct syntax *type, const char *what)
{
    if (type->kind != SYNTAX_ARRAY) {
        if (type->kind == SYNTAX_STRING)
            return true;
        return wrong(checker, "%s should be a type name or array", what);
    }
    if (type->items.count != 1 || type->items.items[0]->kind != SYNTAX_STRING)
        return wrong(checker, "%s: array type must contain single type name", what);
    return true;
}

/* The type inside a member's value, which may be { 'type': ... }. */
static const struct syntax *member_type(const struct syntax *value)
{
    return value->kind == SYNTAX_OBJECT ? syntax_get(value, "type") : value;
}

static bool check_member(struct checker *checker, const struct syntax_pair *member, bool permit_all, bool branch)
{
    bool optional = member->key[0] == '*' && !branch;
    const char *name = member->key + optional;
    const char *what = arena_printf(checker->compilation->arena, "'data' member '%s'", name);

    if (!check_name_lower(checker, name, "member", permit_all, permit_all))
        return false;
    if (strcmp(name, "u") == 0 || strncmp(name, "has-", 4) == 0 || strncmp(name, "has_", 4) == 0)
        return wrong(checker, "%s uses reserved name", what);
    if (member->value->kind == SYNTAX_OBJECT) {
        if (!check_keys(checker, member->value, what, branch ? &branch_keys : &member_keys) ||
            !check_if(checker, member->value, what) || !check_features(checker, member->value, what))
            return false;
    }
    return check_type_name_or_array(checker, member_type(member->value), what);
}

static bool check_members(struct checker *checker, const struct syntax *data, const char *what)
{
    bool permit_all = is_exception(checker, "member");
    if (data->kind != SYNTAX_OBJECT)
        return wrong(checker, "%s should be an object or type name", what);
    if (data->pairs.count > MEMBERS_MAX)
        return wrong(checker, "%s has more than %d members", what, MEMBERS_MAX);
    for (size_t i = 0; i < data->pairs.count; i++)
        if (!check_member(checker, &data->pairs.items[i], permit_all, false))
            return false;
    return true;
}

static bool check_type_or_members(struct checker *checker, const struct syntax *type, const char *what)
{
    return !type || type->kind == SYNTAX_STRING || check_members(checker, type, what);
}

static bool check_enum(struct checker *checker)
{
    const struct syntax *body = checker->definition->body;
    const struct syntax *values = syntax_get(body, "data");
    const struct syntax *prefix = syntax_get(body, "prefix");
    bool permit_all = is_exception(checker, "enum");

    if (values->kind != SYNTAX_ARRAY)
        return wrong(checker, "'data' must be an array");
    if (prefix && prefix->kind != SYNTAX_STRING)
        return wrong(checker, "'prefix' must be a string");
    for (size_t i = 0; i < values->items.count; i++) {
        const struct syntax *value = values->items.items[i];
        const struct syntax *name = value;
        if (value->kind == SYNTAX_OBJECT) {
            if (!check_keys(checker, value, "'data' member", &value_keys) ||
                !check_if(checker, value, "'data' member") || !check_features(checker, value, "'data' member"))
                return false;
            name = syntax_get(value, "name");
        }
        if (name->kind != SYNTAX_STRING)
            return wrong(checker, "'data' member requires a string name");
        /* A value may begin with a digit, unlike any other name. */
        const char *form = isdigit((unsigned char)name->string[0])
                               ? arena_printf(checker->compilation->arena, "d%s", name->string)
                               : name->string;
        if (!check_name_lower(checker, form, "'data' member", permit_all, permit_all))
            return false;
    }
    return true;
}

static bool check_branches(struct checker *checker, const struct syntax *data)
{
    bool permit_all = true; /* names of branches are those of the discriminator's values, which are checked there */
    if (data->kind != SYNTAX_OBJECT)
        return wrong(checker, "'data' must be an object");
    for (size_t i = 0; i < data->pairs.count; i++)
        if (!check_member(checker, &data->pairs.items[i], permit_all, true))
            return false;
    return true;
}

static bool check_union(struct checker *checker)
{
    const struct syntax *body = checker->definition->body;
    const struct syntax *discriminator = syntax_get(body, "discriminator");
    if (!check_type_or_members(checker, syntax_get(body, "base"), "'base'"))
        return false;
    if (discriminator->kind != SYNTAX_STRING)
        return wrong(checker, "'discriminator' must be a string");
    if (!check_name_form(checker, discriminator->string, "'discriminator'"))
        return false;
    const struct syntax *data = syntax_get(body, "data");
    if (!check_branches(checker, data))
        return false;
    for (size_t i = 0; i < data->pairs.count; i++)
        if (!check_type_name(checker, member_type(data->pairs.items[i].value), "a branch"))
            return false;
    return true;
}

static bool check_alternate(struct checker *checker)
{
    const struct syntax *data = syntax_get(checker->definition->body, "data");
    if (!check_branches(checker, data))
        return false;
    if (data->pairs.count == 0)
        return wrong(checker, "'data' must not be empty");
    return true;
}

static bool check_struct(struct checker *checker)
{
    const struct syntax *body = checker->definition->body;
    return check_members(checker, syntax_get(body, "data"), "'data'") &&
           check_type_name(checker, syntax_get(body, "base"), "'base'");
}

static bool check_flags(struct checker *checker, const char *const *flags, size_t count, bool allowed)
{
    for (size_t i = 0; i < count; i++) {
        const struct syntax *flag = syntax_get(checker->definition->body, flags[i]);
        if (flag && (flag->kind != SYNTAX_BOOL || flag->boolean != allowed))
            return wrong(checker, "flag '%s' may only use %s value", flags[i], allowed ? "true" : "false");
    }
    return true;
}

static bool check_command(struct checker *checker)
{
    static const char *const only_false[] = { "gen", "success-response" };
    static const char *const only_true[] = { "boxed", "allow-oob", "allow-preconfig", "coroutine" };
    const struct syntax *body = checker->definition->body;
    const struct syntax *data = syntax_get(body, "data");
    const struct syntax *returns = syntax_get(body, "returns");

    if (!check_flags(checker, only_false, ARRAY_SIZE(only_false), false) ||
        !check_flags(checker, only_true, ARRAY_SIZE(only_true), true))
        return false;
    if (syntax_get(body, "boxed") && (!data || data->kind != SYNTAX_STRING))
        return wrong(checker, "'data' should be a type name with 'boxed': true");
    return check_type_or_members(checker, data, "'data'") &&
           (!returns || check_type_name_or_array(checker, returns, "'returns'"));
}

static bool check_event(struct checker *checker)
{
    static const char *const only_true[] = { "boxed" };
    const struct syntax *data = syntax_get(checker->definition->body, "data");
    if (!check_flags(checker, only_true, ARRAY_SIZE(only_true), true))
        return false;
    if (syntax_get(checker->definition->body, "boxed") && (!data || data->kind != SYNTAX_STRING))
        return wrong(checker, "'data' should be a type name with 'boxed': true");
    return check_type_or_members(checker, data, "'data'");
}

static const struct meta *find_meta(struct checker *checker, struct definition *definition)
{
    const struct meta *found = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(metas); i++) {
        if (!syntax_get(definition->body, metas[i].name))
            continue;
        if (found) {
            wrong(checker, "expression has both '%s' and '%s' as its kind", found->name, metas[i].name);
            return NULL;
        }
        found = &metas[i];
    }
    if (!found)
        wrong(checker, "expression is missing its kind: 'enum', 'union', 'alternate', 'struct', 'command' or 'event'");
    return found;
}

static bool check_doc_symbol(struct checker *checker)
{
    const struct definition *definition = checker->definition;
    if (definition->doc && strcmp(definition->doc->symbol, definition->name) != 0)
        return compilation_error(checker->compilation, definition->doc->at, "documentation comment is for '%s'",
                                 definition->doc->symbol);
    if (!definition->doc && checker->program->pragmas.doc_required)
        return wrong(checker, "documentation comment required");
    return true;
}

static bool check_body(struct checker *checker, const struct meta *meta)
{
    static bool (*const checks[])(struct checker *) = { check_enum,   check_union,   check_alternate,
                                                        check_struct, check_command, check_event };
    return check_keys(checker, checker->definition->body, meta->name, &meta->keys) && checks[meta - metas](checker) &&
           check_if(checker, checker->definition->body, meta->name) &&
           check_features(checker, checker->definition->body, meta->name);
}

static bool check_definition(struct checker *checker, struct definition *definition)
{
    checker->definition = definition;
    const struct meta *meta = find_meta(checker, definition);
    if (!meta)
        return false;
    const struct syntax *name = syntax_get(definition->body, meta->name);
    definition->meta = meta->name;
    if (name->kind != SYNTAX_STRING)
        return wrong(checker, "'%s' key must have a string value", meta->name);
    definition->name = name->string;
    return check_definition_name(checker, meta->name) && check_doc_symbol(checker) && check_body(checker, meta);
}

bool program_check(struct program *program, struct compilation *compilation)
{
    struct checker checker = { .compilation = compilation, .program = program };
    for (size_t i = 0; i < program->definitions.count; i++)
        if (!check_definition(&checker, program->definitions.items[i]))
            return false;
    return true;
}
