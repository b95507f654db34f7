/* Keys, names, conditions, features and members: what all kinds of definitions are made of. */
#include "schema/codec/suggest.h"
#include "schema/compiler/check_private.h"
#include "schema/compiler/model.h"
#include "schema/compiler/naming.h"

#include <ctype.h>
#include <string.h>

const struct keys member_keys = { { "type" },
                                  { "if", "features" },
                                  { "default", "min", "max", "multiple-of", "min-length", "max-length", "pattern",
                                    "secret", "nullable" } };
static const struct keys feature_keys = { { "name" }, { "if" }, { NULL } };
static const struct keys condition_keys = { { NULL }, { "all", "any", "not" }, { NULL } };

bool check_failed(struct checker *checker, struct location at, const char *format, ...)
{
    const struct definition *definition = checker->definition;
    va_list args;
    va_start(args, format);
    compilation_verror(checker->compilation, definition->body->at, format, args);
    va_end(args);
    if (definition->meta && definition->name)
        compilation_note(checker->compilation, at, "in %s '%s'", definition->meta, definition->name);
    return false;
}

static size_t list_length(const char *const *list)
{
    size_t length = 0;
    while (list[length])
        length++;
    return length;
}

static bool is_listed(const char *const *list, const char *key)
{
    return names_contain(list, list_length(list), key);
}

static const char *quote_all(struct arena *arena, const char *so_far, const char *const *list)
{
    for (size_t i = 0; list[i]; i++)
        so_far = arena_printf(arena, "%s%s'%s'", so_far, *so_far ? ", " : "", list[i]);
    return so_far;
}

static bool check_required(struct checker *checker, const struct syntax *object, const char *what,
                           const struct keys *keys)
{
    const char *missing[ARRAY_SIZE(keys->required) + 1] = { NULL };
    size_t count = 0;
    for (size_t i = 0; keys->required[i]; i++)
        if (!syntax_find(object, keys->required[i]))
            missing[count++] = keys->required[i];
    if (count == 0)
        return true;
    return check_failed(checker, object->at, "%s misses key%s %s", what, count > 1 ? "s" : "",
                        quote_all(checker->compilation->arena, "", missing));
}

static bool refuse_key(struct checker *checker, const struct syntax_pair *pair, const char *what,
                       const struct keys *keys)
{
    struct compilation *compilation = checker->compilation;
    bool extended = checker->program->pragmas.language > 0;
    check_failed(checker, pair->at, "%s has unknown key '%s'", what, pair->key);
    if (!extended && is_listed(keys->extended, pair->key)) {
        compilation_note(compilation, pair->at, "'%s' is there only after { 'pragma': { 'language': 1 } }", pair->key);
        return false;
    }
    const char *const *lists[] = { keys->required, keys->optional, keys->extended };
    struct suggestion suggestion = { 0 };
    const char *valid = "";
    for (size_t i = 0; i < (extended ? 3 : 2); i++) {
        valid = quote_all(compilation->arena, valid, lists[i]);
        for (size_t j = 0; lists[i][j]; j++)
            suggestion_consider(&suggestion, pair->key, lists[i][j]);
    }
    compilation_suggest(compilation, pair->at, &suggestion);
    compilation_note(compilation, pair->at, "valid keys are %s", valid);
    return false;
}

bool check_keys(struct checker *checker, const struct syntax *object, const char *what, const struct keys *keys)
{
    if (!check_required(checker, object, what, keys))
        return false;
    for (size_t i = 0; i < object->pairs.count; i++) {
        const struct syntax_pair *pair = &object->pairs.items[i];
        if (!is_listed(keys->required, pair->key) && !is_listed(keys->optional, pair->key) &&
            !(checker->program->pragmas.language && is_listed(keys->extended, pair->key)))
            return refuse_key(checker, pair, what, keys);
    }
    return true;
}

bool check_name_form(struct checker *checker, struct location at, const char *name, const char *what)
{
    if (name_is_valid(name))
        return true;
    check_failed(checker, at, "%s has an invalid name '%s'", what, name);
    if (name_is_kept(name))
        compilation_note(checker->compilation, at, "names that begin with 'q_' are kept for what is generated");
    else
        compilation_note(checker->compilation, at,
                         "a name is letters, digits, '-' and '_', a letter first; '__RFQDN_' and 'x-' may precede it");
    return false;
}

static bool has_between(const char *name, char from, char to)
{
    for (; *name; name++)
        if (*name >= from && *name <= to)
            return true;
    return false;
}

/* Says what the name would be with other letters, the prefixes as they are. */
static bool refuse_letters(struct checker *checker, struct location at, const char *name, const char *what,
                           const char *rule, int (*convert)(int), char from, char to)
{
    char *better = arena_strdup(checker->compilation->arena, name);
    for (char *p = better + (name_stem(name) - name); *p; p++)
        *p = *p == from ? to : (char)convert((unsigned char)*p);
    check_failed(checker, at, "name of %s '%s' must not use %s", what, name, rule);
    compilation_note(checker->compilation, at, "did you mean '%s'?", better);
    return false;
}

bool check_name_lower(struct checker *checker, struct location at, const char *name, const char *what, bool upper_ok,
                      bool score_ok)
{
    if (!check_name_form(checker, at, name, what))
        return false;
    const char *stem = name_stem(name);
    if ((!upper_ok && has_between(stem, 'A', 'Z')) || (!score_ok && strchr(stem, '_')))
        return refuse_letters(checker, at, name, what, "uppercase or '_'", tolower, '_', '-');
    return true;
}

bool check_name_upper(struct checker *checker, struct location at, const char *name, const char *what)
{
    if (!check_name_form(checker, at, name, what))
        return false;
    const char *stem = name_stem(name);
    if (has_between(stem, 'a', 'z') || strchr(stem, '-'))
        return refuse_letters(checker, at, name, what, "lowercase or '-'", toupper, '-', '_');
    return true;
}

static bool is_camel(const char *name)
{
    const char *stem = name_stem(name);
    return isupper((unsigned char)*stem) && !strpbrk(stem, "-_") && has_between(stem, 'a', 'z');
}

bool check_name_camel(struct checker *checker, struct location at, const char *name, const char *what)
{
    if (!check_name_form(checker, at, name, what))
        return false;
    if (is_camel(name))
        return true;
    char *better = arena_strdup(checker->compilation->arena, name);
    char *out = better + (name_stem(name) - name);
    for (const char *p = name_stem(name); *p; p++) {
        bool first = p == name_stem(name) || p[-1] == '-' || p[-1] == '_';
        if (*p != '-' && *p != '_')
            *out++ = first ? (char)toupper((unsigned char)*p) : *p;
    }
    *out = '\0';
    check_failed(checker, at, "name of %s '%s' must use CamelCase", what, name);
    if (is_camel(better))
        compilation_note(checker->compilation, at, "did you mean '%s'?", better);
    return false;
}

static bool is_condition_name(const char *name)
{
    for (const char *p = name; *p; p++)
        if (!isupper((unsigned char)*p) && (p == name || (!isdigit((unsigned char)*p) && *p != '_')))
            return false;
    return *name != '\0';
}

static bool check_condition(struct checker *checker, const struct syntax *condition, const char *what)
{
    if (condition->kind == SYNTAX_STRING) {
        if (is_condition_name(condition->string))
            return true;
        return check_failed(checker, condition->at, "'if' condition '%s' of %s is not a valid identifier",
                            condition->string, what);
    }
    if (condition->kind != SYNTAX_OBJECT)
        return check_failed(checker, condition->at, "'if' condition of %s must be a string or an object", what);
    if (!check_keys(checker, condition, arena_printf(checker->compilation->arena, "'if' condition of %s", what),
                    &condition_keys))
        return false;
    if (condition->pairs.count != 1)
        return check_failed(checker, condition->at, "'if' condition of %s has conflicting keys", what);

    const struct syntax_pair *pair = &condition->pairs.items[0];
    if (strcmp(pair->key, "not") == 0)
        return check_condition(checker, pair->value, what);
    if (pair->value->kind != SYNTAX_ARRAY)
        return check_failed(checker, pair->at, "'%s' condition of %s must be an array", pair->key, what);
    if (pair->value->items.count == 0)
        return check_failed(checker, pair->at, "'if' condition [] of %s is useless", what);
    for (size_t i = 0; i < pair->value->items.count; i++)
        if (!check_condition(checker, pair->value->items.items[i], what))
            return false;
    return true;
}

bool check_if(struct checker *checker, const struct syntax *object, const char *what)
{
    const struct syntax *condition = syntax_get(object, "if");
    return !condition || check_condition(checker, condition, what);
}

static bool check_feature(struct checker *checker, const struct syntax *feature)
{
    const char *what = "'features' member";
    const struct syntax *name = feature;
    if (feature->kind == SYNTAX_OBJECT) {
        if (!check_keys(checker, feature, what, &feature_keys))
            return false;
        name = syntax_get(feature, "name");
    }
    if (name->kind != SYNTAX_STRING)
        return check_failed(checker, name->at, "%s requires a string name", what);
    return check_name_lower(checker, name->at, name->string, what, false, false) &&
           (feature == name || check_if(checker, feature, what));
}

bool check_features(struct checker *checker, const struct syntax *object)
{
    const struct syntax *features = syntax_get(object, "features");
    if (!features)
        return true;
    if (features->kind != SYNTAX_ARRAY)
        return check_failed(checker, features->at, "'features' must be an array");
    for (size_t i = 0; i < features->items.count; i++)
        if (!check_feature(checker, features->items.items[i]))
            return false;
    return true;
}

bool check_type(struct checker *checker, const struct syntax *type, const char *what, bool array_ok)
{
    if (!type || type->kind == SYNTAX_STRING)
        return true;
    if (type->kind != SYNTAX_ARRAY)
        return check_failed(checker, type->at, "%s should be a type name%s", what, array_ok ? " or array" : "");
    if (!array_ok)
        return check_failed(checker, type->at, "%s cannot be an array", what);
    if (type->items.count != 1 || type->items.items[0]->kind != SYNTAX_STRING)
        return check_failed(checker, type->at, "%s: array type must contain single type name", what);
    return true;
}

const struct syntax *member_type(const struct syntax *value)
{
    return value->kind == SYNTAX_OBJECT ? syntax_get(value, "type") : value;
}

static bool is_reserved(const char *name)
{
    return strcmp(name, "u") == 0 || strncmp(name, "has-", 4) == 0 || strncmp(name, "has_", 4) == 0;
}

static bool check_member(struct checker *checker, const struct syntax_pair *member, const char *in, bool permissive)
{
    const char *name = member->key + (member->key[0] == '*');
    if (!check_name_lower(checker, member->at, name, "member", permissive, permissive))
        return false;
    if (is_reserved(name)) {
        check_failed(checker, member->at, "%s member '%s' uses reserved name", in, name);
        compilation_note(checker->compilation, member->at,
                         "'u' and names that begin with 'has-' or 'has_' are kept for what is generated");
        return false;
    }
    if (member->value->kind == SYNTAX_STRING)
        return true;
    const char *what = arena_printf(checker->compilation->arena, "%s member '%s'", in, name);
    if (member->value->kind == SYNTAX_OBJECT &&
        (!check_keys(checker, member->value, what, &member_keys) || !check_if(checker, member->value, what) ||
         !check_features(checker, member->value)))
        return false;
    return check_type(checker, member_type(member->value), what, true) &&
           (member->value->kind != SYNTAX_OBJECT || check_constraints(checker, member->value, what));
}

bool check_members(struct checker *checker, const struct syntax *data, const char *what)
{
    const struct name_list *exceptions = &checker->program->pragmas.member_name_exceptions;
    bool permissive = names_contain(exceptions->items, exceptions->count, checker->definition->name);
    if (data->kind == SYNTAX_ARRAY)
        return check_failed(checker, data->at, "%s cannot be an array", what);
    if (data->kind != SYNTAX_OBJECT)
        return check_failed(checker, data->at, "%s should be an object%s", what,
                            data->kind == SYNTAX_STRING ? "" : " or type name");
    if (data->pairs.count > MEMBERS_MAX)
        return check_failed(checker, data->at, "%s has more than %d members", what, MEMBERS_MAX);
    for (size_t i = 0; i < data->pairs.count; i++)
        if (!check_member(checker, &data->pairs.items[i], what, permissive))
            return false;
    return true;
}
