/* What language 1 adds, once types are known: whether it fits the type that it is about. */
#include "schema/codec/suggest.h"
#include "schema/compiler/model_private.h"
#include "schema/compiler/naming.h"
#include "schema/compiler/pattern.h"

#include <ctype.h>
#include <string.h>

/* An error about a member or scalar, at the definition; the note says where. */
static PRINTF_LIKE(3, 4) bool wrong(const struct extended *extended, struct location at, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    compilation_verror(extended->builder->compilation, extended->definition_at, format, args);
    va_end(args);
    compilation_note(extended->builder->compilation, at, "in %s",
                     builder_subject(extended->builder, extended->subject));
    return false;
}

enum number_family {
    NOT_A_NUMBER,
    FAMILY_SIGNED,
    FAMILY_UNSIGNED,
    FAMILY_REAL,
};

struct number_range {
    enum number_family family;
    unsigned bits;
};

static struct number_range range_of(const struct type *type)
{
    static const struct {
        const char *name;
        struct number_range range;
    } ranges[] = {
        { "int", { FAMILY_SIGNED, 64 } },      { "int8", { FAMILY_SIGNED, 8 } },
        { "int16", { FAMILY_SIGNED, 16 } },    { "int32", { FAMILY_SIGNED, 32 } },
        { "int64", { FAMILY_SIGNED, 64 } },    { "uint8", { FAMILY_UNSIGNED, 8 } },
        { "uint16", { FAMILY_UNSIGNED, 16 } }, { "uint32", { FAMILY_UNSIGNED, 32 } },
        { "uint64", { FAMILY_UNSIGNED, 64 } }, { "size", { FAMILY_UNSIGNED, 64 } },
        { "number", { FAMILY_REAL, 64 } },
    };
    for (size_t i = 0; type->kind == TYPE_BUILTIN && i < ARRAY_SIZE(ranges); i++)
        if (strcmp(type->builtin->name, ranges[i].name) == 0)
            return ranges[i].range;
    return (struct number_range){ 0 };
}

static bool is_string(const struct type *type)
{
    return type->kind == TYPE_BUILTIN && type->builtin->kind == BUILTIN_STR;
}

static bool number_fits(const struct number *number, struct number_range range)
{
    if (range.family == FAMILY_REAL)
        return true;
    if (!number->integer || (number->negative && range.family == FAMILY_UNSIGNED))
        return false;
    uint64_t most = range.family == FAMILY_UNSIGNED ? UINT64_MAX >> (64 - range.bits)
                                                    : (UINT64_MAX >> (65 - range.bits)) + number->negative;
    return number->magnitude <= most;
}

static int number_compare(const struct number *one, const struct number *other)
{
    if (!one->integer || !other->integer)
        return (one->real > other->real) - (one->real < other->real);
    if (one->negative != other->negative)
        return one->negative ? -1 : 1;
    int order = (one->magnitude > other->magnitude) - (one->magnitude < other->magnitude);
    return one->negative ? -order : order;
}

static bool take_number(const struct extended *extended, const char *key, bool *has, struct number *number)
{
    const struct syntax *value = syntax_get(extended->syntax, key);
    struct number_range range = range_of(extended->type);
    if (!value)
        return true;
    if (range.family == NOT_A_NUMBER)
        return wrong(extended, value->at, "'%s' is for integers and numbers, not for %s", key,
                     builder_describe(extended->builder, extended->type));
    if (!number_fits(&value->number, range))
        return wrong(extended, value->at, "'%s' is no value of %s", key,
                     builder_describe(extended->builder, extended->type));
    *has = true;
    *number = value->number;
    return true;
}

static bool take_multiple(const struct extended *extended, struct constraints *constraints)
{
    const struct syntax *value = syntax_get(extended->syntax, "multiple-of");
    enum number_family family = range_of(extended->type).family;
    if (!value)
        return true;
    if (family != FAMILY_SIGNED && family != FAMILY_UNSIGNED)
        return wrong(extended, value->at, "'multiple-of' is for integers, not for %s",
                     builder_describe(extended->builder, extended->type));
    constraints->multiple_of = value->number.magnitude;
    return true;
}

static bool take_string_limits(const struct extended *extended, struct constraints *constraints)
{
    static const char *const keys[] = { "min-length", "max-length", "pattern" };
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const struct syntax *value = syntax_get(extended->syntax, keys[i]);
        const char *ignored;
        if (!value)
            continue;
        if (!is_string(extended->type))
            return wrong(extended, value->at, "'%s' is for strings, not for %s", keys[i],
                         builder_describe(extended->builder, extended->type));
        if (value->kind == SYNTAX_STRING)
            constraints->pattern = pattern_parse(extended->builder->compilation->arena, value->string, &ignored);
        else
            *(i ? &constraints->max_length : &constraints->min_length) = (uint32_t)value->number.magnitude;
    }
    return true;
}

bool builder_constraints(const struct extended *extended, const struct constraints **result)
{
    struct constraints *constraints = arena_alloc(extended->builder->compilation->arena, sizeof(*constraints));
    constraints->max_length = UINT32_MAX;
    if (!take_number(extended, "min", &constraints->has_minimum, &constraints->minimum) ||
        !take_number(extended, "max", &constraints->has_maximum, &constraints->maximum) ||
        !take_multiple(extended, constraints) || !take_string_limits(extended, constraints))
        return false;
    if (constraints->has_minimum && constraints->has_maximum &&
        number_compare(&constraints->minimum, &constraints->maximum) > 0)
        return wrong(extended, syntax_get(extended->syntax, "min")->at, "'min' is larger than 'max'");
    if (constraints->min_length > constraints->max_length)
        return wrong(extended, syntax_get(extended->syntax, "min-length")->at,
                     "'min-length' is larger than 'max-length'");
    bool any = constraints->has_minimum || constraints->has_maximum || constraints->multiple_of ||
               constraints->min_length || constraints->max_length != UINT32_MAX || constraints->pattern;
    *result = any ? constraints : NULL;
    return true;
}

static bool number_obeys(const struct number *number, const struct constraints *constraints)
{
    return !(constraints->has_minimum && number_compare(number, &constraints->minimum) < 0) &&
           !(constraints->has_maximum && number_compare(number, &constraints->maximum) > 0) &&
           !(constraints->multiple_of && number->magnitude % constraints->multiple_of);
}

static bool string_obeys(const char *string, const struct constraints *constraints)
{
    size_t length = strlen(string);
    return length >= constraints->min_length && length <= constraints->max_length &&
           (!constraints->pattern || pattern_matches(constraints->pattern, string));
}

static bool obeys(const struct literal *literal, const struct type *type, const struct constraints *constraints)
{
    if (!constraints)
        return true;
    return is_string(type) ? string_obeys(literal->string, constraints)
                           : range_of(type).family == NOT_A_NUMBER || number_obeys(&literal->number, constraints);
}

static bool take_enum_value(const struct extended *extended, const struct syntax *value, struct literal *literal)
{
    struct suggestion suggestion = { 0 };
    const struct type *type = extended->type;
    for (size_t i = 0; i < type->values.count; i++) {
        suggestion_consider(&suggestion, literal->string, type->values.items[i].name);
        if (strcmp(type->values.items[i].name, literal->string) != 0)
            continue;
        literal->enum_index = i;
        return !type->values.items[i].condition ||
               wrong(extended, value->at, "'default' '%s' must not be conditional", literal->string);
    }
    wrong(extended, value->at, "'default' '%s' is not a value of %s", literal->string,
          builder_describe(extended->builder, type));
    compilation_suggest(extended->builder->compilation, value->at, &suggestion);
    return false;
}

static bool take_literal(const struct extended *extended, const struct syntax *value, struct literal *literal)
{
    const struct type *type = extended->type;
    bool boolean = type->kind == TYPE_BUILTIN && type->builtin->kind == BUILTIN_BOOL;
    bool number = range_of(type).family != NOT_A_NUMBER;
    bool text = is_string(type) || type->kind == TYPE_ENUM;
    if (!boolean && !number && !text)
        return wrong(extended, value->at, "there are no defaults for %s", builder_describe(extended->builder, type));
    if (value->kind != (boolean  ? SYNTAX_BOOL
                        : number ? SYNTAX_NUMBER
                                 : SYNTAX_STRING) ||
        (number && !number_fits(&value->number, range_of(type))))
        return wrong(extended, value->at, "'default' is no value of %s", builder_describe(extended->builder, type));
    *literal = (struct literal){ .string = value->string, .boolean = value->boolean, .number = value->number };
    return type->kind != TYPE_ENUM || take_enum_value(extended, value, literal);
}

static bool take_default(const struct extended *extended, struct member *member)
{
    const struct syntax *value = syntax_get(extended->syntax, "default");
    struct literal *literal = arena_alloc(extended->builder->compilation->arena, sizeof(*literal));
    if (!value)
        return true;
    if (!member->optional) {
        wrong(extended, value->at, "'default' is for optional members");
        compilation_note(extended->builder->compilation, value->at, "did you mean '*%s'?", member->name);
        return false;
    }
    if ((member->type->plain && !builder_resolve_type(extended->builder, member->type)) ||
        !take_literal(extended, value, literal))
        return false;
    if (!obeys(literal, member->type, member->constraints) || !obeys(literal, member->type, member->type->constraints))
        return wrong(extended, value->at, "'default' is outside of what the member may be");
    member->default_value = literal;
    return true;
}

static bool make_nullable(const struct extended *extended, struct member *member)
{
    const struct syntax *nullable = syntax_get(extended->syntax, "nullable");
    if (!nullable)
        return true;
    if (member->constraints || syntax_get(extended->syntax, "default")) {
        wrong(extended, nullable->at, "'nullable' stands with neither limits nor default");
        compilation_note(extended->builder->compilation, nullable->at, "limits can stand in a scalar");
        return false;
    }
    member->nullable = true;
    member->type = builder_nullable(extended, member->type);
    return member->type != NULL;
}

bool builder_extend_member(const struct extended *extended, struct member *member)
{
    if (extended->syntax->kind != SYNTAX_OBJECT || !extended->builder->program->pragmas.language)
        return true;
    member->secret = syntax_get(extended->syntax, "secret") != NULL;
    return builder_constraints(extended, &member->constraints) && take_default(extended, member) &&
           make_nullable(extended, member);
}

/* "str" becomes "StrOrNull", ['int'] becomes "IntListOrNull". */
static const char *nullable_name(struct arena *arena, const struct type *type)
{
    char *name = arena_printf(arena, "%sOrNull", type->name);
    *name = (char)toupper((unsigned char)*name);
    return name;
}

static void add_alternative(struct arena *arena, struct type *alternate, const char *name, struct type *type)
{
    struct branch branch = { .name = name, .c_name = c_identifier(arena, name), .at = alternate->at, .type = type };
    if (type->kind == TYPE_ARRAY)
        type->needs_list = true;
    VECTOR_PUSH(arena, &alternate->branches, branch);
}

struct type *builder_nullable(const struct extended *extended, struct type *type)
{
    struct builder *builder = extended->builder;
    struct arena *arena = builder->compilation->arena;
    const char *name = nullable_name(arena, type);
    struct type *known = names_get(&builder->types, name);
    bool fits =
        type->kind != TYPE_ALTERNATE &&
        !(type->kind == TYPE_BUILTIN && (type->builtin->kind == BUILTIN_NULL || type->builtin->kind == BUILTIN_ANY));
    if (!fits)
        wrong(extended, extended->syntax->at, "'nullable' cannot take %s", builder_describe(builder, type));
    else if (known && !known->implicit)
        wrong(extended, extended->syntax->at, "'nullable' makes a type '%s', which is defined already", name);
    if (!fits || (known && !known->implicit))
        return NULL;
    if (known)
        return known;

    struct type *alternate = builder_new_type(builder, TYPE_ALTERNATE, name, c_snake(arena, name));
    alternate->at = extended->definition_at;
    alternate->implicit = true;
    alternate->module = type->module ? type->module : extended->module;
    alternate->condition = type->condition;
    alternate->state = TYPE_RESOLVED;
    add_alternative(arena, alternate, "value", type);
    add_alternative(arena, alternate, "null", names_get(&builder->types, "null"));
    names_add(&builder->types, arena, name, alternate);
    return alternate;
}

/* The classes that a command says it fails with are values of the enum of all classes. */
bool builder_declare_errors(struct builder *builder, struct command *command, const struct definition *definition)
{
    const struct syntax *errors = syntax_get(definition->body, "errors");
    const struct type *classes = names_get(&builder->types, "QapiErrorClass");
    if (!errors || !builder->program->pragmas.language)
        return true;
    struct extended extended = { .builder = builder,
                                 .definition_at = command->at,
                                 .subject = { "'errors'", NULL },
                                 .type = (struct type *)(size_t)classes };
    if (!classes || classes->kind != TYPE_ENUM)
        return wrong(&extended, errors->at,
                     "'errors' needs the enum 'QapiErrorClass', which the schema does not define");
    command->errors_declared = true;
    for (size_t i = 0; i < errors->items.count; i++) {
        const struct syntax *name = errors->items.items[i];
        struct suggestion suggestion = { 0 };
        struct declared_error error = { .name = name->string, .at = name->at, .enum_index = classes->values.count };
        for (size_t j = 0; j < classes->values.count; j++) {
            suggestion_consider(&suggestion, name->string, classes->values.items[j].name);
            if (strcmp(name->string, classes->values.items[j].name) == 0)
                error.enum_index = j;
        }
        if (error.enum_index == classes->values.count) {
            wrong(&extended, name->at, "error '%s' is not a value of enum type 'QapiErrorClass'", name->string);
            compilation_suggest(builder->compilation, name->at, &suggestion);
            return false;
        }
        VECTOR_PUSH(builder->compilation->arena, &command->errors, error);
    }
    return true;
}

bool builder_limit_rate(struct builder *builder, struct event *event, const struct definition *definition)
{
    const struct syntax *limit = syntax_get(definition->body, "rate-limit");
    struct extended extended = { .builder = builder, .definition_at = event->at, .subject = { "'rate-limit'", NULL } };
    if (!limit || !builder->program->pragmas.language)
        return true;
    const struct syntax *ms = limit->kind == SYNTAX_OBJECT ? syntax_get(limit, "ms") : limit;
    const struct syntax *by = limit->kind == SYNTAX_OBJECT ? syntax_get(limit, "by") : NULL;
    event->rate_limit_ms = (uint32_t)ms->number.magnitude;
    for (size_t i = 0; by && i < by->items.count; i++) {
        const struct syntax *name = by->items.items[i];
        size_t j = 0, count = event->data ? event->data->members.count : 0;
        struct suggestion suggestion = { 0 };
        while (j < count && strcmp(event->data->members.items[j].name, name->string) != 0)
            suggestion_consider(&suggestion, name->string, event->data->members.items[j++].name);
        if (j == count) {
            wrong(&extended, name->at, "'by' names '%s', which is not a member of 'data'", name->string);
            compilation_suggest(builder->compilation, name->at, &suggestion);
            return false;
        }
        VECTOR_PUSH(builder->compilation->arena, &event->rate_limit_keys, j);
    }
    return true;
}
