/* What language 1 adds: whether it is of the right form. What it means for a type is seen when the type is known. */
#include "schema/codec/suggest.h"
#include "schema/compiler/check_private.h"
#include "schema/compiler/model.h"
#include "schema/compiler/pattern.h"

#include <string.h>

static const struct keys rate_keys = { { "ms" }, { "by" }, { NULL } };

static bool is_whole(const struct syntax *value, uint64_t least, uint64_t most)
{
    return value->kind == SYNTAX_NUMBER && value->number.integer && !value->number.negative &&
           value->number.magnitude >= least && value->number.magnitude <= most;
}

static bool check_whole(struct checker *checker, const struct syntax *object, const char *key, const char *what,
                        uint64_t least, uint64_t most)
{
    const struct syntax *value = syntax_get(object, key);
    if (!value || is_whole(value, least, most))
        return true;
    return check_failed(checker, value->at, "'%s' of %s must be a whole number from %llu to %llu", key, what,
                        (unsigned long long)least, (unsigned long long)most);
}

static bool check_only_true(struct checker *checker, const struct syntax *object, const char *key, const char *what)
{
    const struct syntax *value = syntax_get(object, key);
    if (!value || (value->kind == SYNTAX_BOOL && value->boolean))
        return true;
    return check_failed(checker, value->at, "'%s' of %s may only be true", key, what);
}

static bool check_number(struct checker *checker, const struct syntax *object, const char *key, const char *what)
{
    const struct syntax *value = syntax_get(object, key);
    if (!value || value->kind == SYNTAX_NUMBER)
        return true;
    return check_failed(checker, value->at, "'%s' of %s must be a number", key, what);
}

static bool check_pattern(struct checker *checker, const struct syntax *object, const char *what)
{
    const struct syntax *pattern = syntax_get(object, "pattern");
    const char *wrong = NULL;
    if (!pattern)
        return true;
    if (pattern->kind != SYNTAX_STRING)
        return check_failed(checker, pattern->at, "'pattern' of %s must be a string", what);
    if (pattern_parse(checker->compilation->arena, pattern->string, &wrong))
        return true;
    check_failed(checker, pattern->at, "'pattern' of %s is none: '%s'", what, pattern->string);
    compilation_note(checker->compilation, pattern->at, "%s", wrong);
    return false;
}

bool check_constraints(struct checker *checker, const struct syntax *object, const char *what)
{
    if (!checker->program->pragmas.language)
        return true;
    const struct syntax *value = syntax_get(object, "default");
    if (value && value->kind != SYNTAX_STRING && value->kind != SYNTAX_BOOL && value->kind != SYNTAX_NUMBER)
        return check_failed(checker, value->at, "'default' of %s must be a string, boolean or number", what);
    return check_number(checker, object, "min", what) && check_number(checker, object, "max", what) &&
           check_whole(checker, object, "multiple-of", what, 1, INT64_MAX) &&
           check_whole(checker, object, "min-length", what, 1, UINT32_MAX - 1) &&
           check_whole(checker, object, "max-length", what, 0, UINT32_MAX - 1) &&
           check_pattern(checker, object, what) && check_only_true(checker, object, "secret", what) &&
           check_only_true(checker, object, "nullable", what);
}

static bool check_names(struct checker *checker, const struct syntax *names, const char *key)
{
    bool strings = names->kind == SYNTAX_ARRAY && names->items.count;
    for (size_t i = 0; strings && i < names->items.count; i++)
        strings = names->items.items[i]->kind == SYNTAX_STRING;
    return strings || check_failed(checker, names->at, "'%s' must be an array of names, at least one", key);
}

static bool check_role(struct checker *checker, const struct syntax *role)
{
    static const char *const roles[] = { "read", "operate", "admin" };
    struct suggestion suggestion = { 0 };
    if (!role)
        return true;
    if (role->kind == SYNTAX_STRING && names_contain(roles, ARRAY_SIZE(roles), role->string))
        return true;
    check_failed(checker, role->at, "'role' must be 'read', 'operate' or 'admin'");
    for (size_t i = 0; i < ARRAY_SIZE(roles) && role->kind == SYNTAX_STRING; i++)
        suggestion_consider(&suggestion, role->string, roles[i]);
    compilation_suggest(checker->compilation, role->at, &suggestion);
    return false;
}

bool check_command_extensions(struct checker *checker)
{
    const struct syntax *body = checker->definition->body;
    const struct syntax *errors = syntax_get(body, "errors");
    if (!checker->program->pragmas.language)
        return true;
    return check_role(checker, syntax_get(body, "role")) && (!errors || check_names(checker, errors, "errors"));
}

bool check_event_extensions(struct checker *checker)
{
    const struct syntax *limit = syntax_get(checker->definition->body, "rate-limit");
    if (!checker->program->pragmas.language || !limit)
        return true;
    if (limit->kind == SYNTAX_NUMBER)
        return check_whole(checker, checker->definition->body, "rate-limit", "event", 1, UINT32_MAX);
    if (limit->kind != SYNTAX_OBJECT)
        return check_failed(checker, limit->at, "'rate-limit' must be a number of milliseconds or an object");
    const struct syntax *by = syntax_get(limit, "by");
    return check_keys(checker, limit, "'rate-limit'", &rate_keys) &&
           check_whole(checker, limit, "ms", "'rate-limit'", 1, UINT32_MAX) && (!by || check_names(checker, by, "by"));
}
