/* What a change of an interface breaks. What clients send may only widen: everything that was accepted still is. What
 * they receive may only grow: everything they rely on is still there. Names of types are not part of the interface; two
 * types are compared by what they look like on the wire. What was marked as unstable may change in any way. */
#include "schema/compiler/json_text.h"
#include "schema/compiler/printers.h"

#include <string.h>

enum direction {
    SENT,     /* by clients */
    RECEIVED, /* by clients */
};

struct compared {
    const struct type *old, *now;
    enum direction direction;
};

struct comparison {
    struct output *output;
    size_t breaks;
    VECTOR(struct compared) seen; /* types refer to themselves */
    unsigned depth;
};

enum {
    DIFF_DEPTH_MAX = 200,
};

static PRINTF_LIKE(3, 4) void report(struct comparison *comparison, const char *path, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    output_printf(comparison->output, "%s: %s\n", path, text);
    comparison->breaks++;
}

static const char *below(struct comparison *comparison, const char *path, const char *name)
{
    return arena_printf(comparison->output->arena, "%s.%s", path, name);
}

static const char *words(struct comparison *comparison, const struct type *type)
{
    if (type->kind == TYPE_ARRAY)
        return arena_printf(comparison->output->arena, "array of %s", words(comparison, type->element));
    return type->implicit ? "object" : type->name;
}

static const char *condition_words(struct comparison *comparison, const struct condition *condition)
{
    return condition ? condition_expression(comparison->output->arena, condition) : "";
}

static void compare_conditions(struct comparison *comparison, const char *path, const struct condition *old,
                               const struct condition *now)
{
    const char *before = condition_words(comparison, old), *after = condition_words(comparison, now);
    if (now && strcmp(before, after) != 0)
        report(comparison, path, "is there only if %s now", after);
}

/* Clients look for features to learn what they may do. */
static void compare_features(struct comparison *comparison, const char *path, const struct features *old,
                             const struct features *now)
{
    for (size_t i = 0; i < old->list.count; i++) {
        const char *name = old->list.items[i].name;
        if (strcmp(name, "deprecated") != 0 && strcmp(name, "unstable") != 0 && !features_contain(now, name))
            report(comparison, path, "feature '%s' is gone", name);
    }
}

static const struct member *find_member(const struct type *type, const char *name)
{
    for (size_t i = 0; type && i < type->members.count; i++)
        if (strcmp(type->members.items[i].name, name) == 0)
            return &type->members.items[i];
    return NULL;
}

static const struct branch *find_branch(const struct type *type, const char *name)
{
    for (size_t i = 0; i < type->branches.count; i++)
        if (strcmp(type->branches.items[i].name, name) == 0)
            return &type->branches.items[i];
    return NULL;
}

static const struct enum_value *find_value(const struct type *type, const char *name)
{
    for (size_t i = 0; i < type->values.count; i++)
        if (strcmp(type->values.items[i].name, name) == 0)
            return &type->values.items[i];
    return NULL;
}

static bool number_below(const struct number *one, const struct number *other)
{
    if (!one->integer || !other->integer || one->negative != other->negative)
        return one->real < other->real;
    return one->negative ? one->magnitude > other->magnitude : one->magnitude < other->magnitude;
}

/* Limits of what is sent: new ones, or tighter ones, refuse what was accepted. */
static void compare_limits(struct comparison *comparison, const char *path, const struct constraints *old,
                           const struct constraints *now)
{
    static const struct constraints none = { .max_length = UINT32_MAX };
    old = old ? old : &none;
    now = now ? now : &none;
    if (now->has_minimum && (!old->has_minimum || number_below(&old->minimum, &now->minimum)))
        report(comparison, path, "has a higher minimum");
    if (now->has_maximum && (!old->has_maximum || number_below(&now->maximum, &old->maximum)))
        report(comparison, path, "has a lower maximum");
    if (now->multiple_of && (!old->multiple_of || old->multiple_of % now->multiple_of))
        report(comparison, path, "must be a multiple of another number");
    if (now->min_length > old->min_length || now->max_length < old->max_length)
        report(comparison, path, "has tighter limits of its length");
    if (now->pattern && (!old->pattern || strcmp(old->pattern->text, now->pattern->text) != 0))
        report(comparison, path, "has another pattern");
}

static void compare_types(struct comparison *comparison, const char *path, const struct type *old,
                          const struct type *now, enum direction direction);

/* How many values an integer type has: bits, one less for the sign. */
static unsigned integer_bits(const struct type *type)
{
    const char *name = type->builtin->name;
    const char *digits = name + strcspn(name, "0123456789");
    unsigned bits = *digits == '8' ? 8 : *digits == '1' ? 16 : *digits == '3' ? 32 : 64;
    return bits;
}

static bool is_unsigned(const struct type *type)
{
    return type->builtin->kind == BUILTIN_SIZE || type->builtin->name[0] == 'u';
}

static bool integer_widens(const struct type *old, const struct type *now)
{
    if (is_unsigned(old) == is_unsigned(now))
        return integer_bits(now) >= integer_bits(old);
    return is_unsigned(old) && integer_bits(now) > integer_bits(old);
}

static bool is_integer(const struct type *type)
{
    return type->kind == TYPE_BUILTIN && (type->builtin->kind == BUILTIN_INT || type->builtin->kind == BUILTIN_SIZE);
}

static bool is_string(const struct type *type)
{
    return type->kind == TYPE_BUILTIN && type->builtin->kind == BUILTIN_STR;
}

static bool is_any(const struct type *type)
{
    return type->kind == TYPE_BUILTIN && type->builtin->kind == BUILTIN_ANY;
}

static bool is_number(const struct type *type)
{
    return type->kind == TYPE_BUILTIN && type->builtin->kind == BUILTIN_NUMBER;
}

/* Whether every value of @narrow is one of @wide, where the two are of different kinds. */
static bool covers(const struct type *wide, const struct type *narrow)
{
    return is_any(wide) || (is_string(wide) && narrow->kind == TYPE_ENUM) || (is_number(wide) && is_integer(narrow));
}

static void compare_scalars(struct comparison *comparison, const char *path, const struct type *old,
                            const struct type *now, enum direction direction)
{
    if (is_integer(old) && is_integer(now)) {
        if (direction == SENT && !integer_widens(old, now))
            report(comparison, path, "was %s, is %s: takes fewer numbers", old->name, now->name);
    } else if (old->builtin->kind != now->builtin->kind && !(direction == SENT ? covers(now, old) : covers(old, now))) {
        report(comparison, path, "was %s, is %s", old->name, now->name);
    }
    if (direction == SENT)
        compare_limits(comparison, path, old->constraints, now->constraints);
}

/* Clients pass over values that they do not know, as over members. */
static void compare_enums(struct comparison *comparison, const char *path, const struct type *old,
                          const struct type *now, enum direction direction)
{
    for (size_t i = 0; i < old->values.count; i++) {
        const struct enum_value *value = &old->values.items[i];
        const struct enum_value *same = find_value(now, value->name);
        const char *place =
            arena_printf(comparison->output->arena, "%s: value '%s' of %s", path, value->name, words(comparison, old));
        if (features_contain(&value->features, "unstable") || (!same && direction == RECEIVED))
            continue;
        if (!same) {
            report(comparison, place, "is gone");
            continue;
        }
        compare_conditions(comparison, place, value->condition, same->condition);
        compare_features(comparison, place, &value->features, &same->features);
    }
}

static const char *default_text(struct comparison *comparison, const struct member *member)
{
    struct output output = { .arena = comparison->output->arena };
    output_json_literal(&output, member->type, member->default_value);
    return arena_strndup(output.arena, output.text.items, output.text.count);
}

/* Who leaves a member out relies on what it stands for then. A default that is new says only what was so before; one
 * that is gone, or another, is another meaning. Where clients receive, a default stands for what is not sent. */
static void compare_defaults(struct comparison *comparison, const char *path, const struct member *old,
                             const struct member *now)
{
    if (!old->default_value || !now->optional)
        return;
    const char *before = default_text(comparison, old);
    if (!now->default_value)
        report(comparison, path, "no longer stands for %s where it is left out", before);
    else if (strcmp(before, default_text(comparison, now)) != 0)
        report(comparison, path, "stood for %s where it is left out, stands for %s", before,
               default_text(comparison, now));
}

static void compare_member(struct comparison *comparison, const char *path, const struct member *old,
                           const struct member *now, const struct type *owner, enum direction direction)
{
    if (features_contain(&old->features, "unstable"))
        return;
    if (!now) {
        report(comparison, path, "member '%s' of %s is gone", old->name, words(comparison, owner));
        return;
    }
    if (direction == SENT && old->optional && !now->optional)
        report(comparison, path, "member '%s' of %s is mandatory now", old->name, words(comparison, owner));
    if (direction == RECEIVED && !old->optional && now->optional)
        report(comparison, path, "member '%s' of %s may be absent now", old->name, words(comparison, owner));
    compare_conditions(comparison, path, old->condition, now->condition);
    compare_features(comparison, path, &old->features, &now->features);
    compare_defaults(comparison, path, old, now);
    if (direction == SENT)
        compare_limits(comparison, path, old->constraints, now->constraints);
    compare_types(comparison, path, old->type, now->type, direction);
}

/* Every member that was there, and, where clients send it, that no new one is demanded. */
static void compare_members(struct comparison *comparison, const char *path, const struct type *old,
                            const struct type *now, enum direction direction)
{
    for (size_t i = 0; i < old->members.count; i++) {
        const struct member *member = &old->members.items[i];
        compare_member(comparison, below(comparison, path, member->name), member, find_member(now, member->name), old,
                       direction);
    }
    for (size_t i = 0; direction == SENT && i < now->members.count; i++) {
        const struct member *member = &now->members.items[i];
        if (!member->optional && !find_member(old, member->name))
            report(comparison, below(comparison, path, member->name), "new member '%s' of %s is mandatory",
                   member->name, words(comparison, now));
    }
}

static const struct type *branch_of(const struct type *type, const char *value, const struct type *none)
{
    const struct branch *branch = find_branch(type, value);
    return branch ? branch->type : none;
}

/* Value by value of the discriminator: a value may get its first members, or lose its last. */
static void compare_unions(struct comparison *comparison, const char *path, const struct type *old,
                           const struct type *now, enum direction direction)
{
    static const struct type nothing = { .kind = TYPE_OBJECT, .name = "nothing", .implicit = true };
    const struct type *values = old->members.items[old->tag].type;
    for (size_t i = 0; i < values->values.count; i++) {
        const char *value = values->values.items[i].name;
        const char *place = arena_printf(comparison->output->arena, "%s[%s=%s]", path, old->discriminator, value);
        if (features_contain(&values->values.items[i].features, "unstable"))
            continue;
        if (find_value(now->members.items[now->tag].type, value))
            compare_types(comparison, place, branch_of(old, value, &nothing), branch_of(now, value, &nothing),
                          direction);
    }
}

static void compare_objects(struct comparison *comparison, const char *path, const struct type *old,
                            const struct type *now, enum direction direction)
{
    compare_members(comparison, path, old, now, direction);
    compare_features(comparison, path, &old->features, &now->features);
    if (old->discriminator && now->discriminator && strcmp(old->discriminator, now->discriminator) == 0)
        compare_unions(comparison, path, old, now, direction);
    else if (old->discriminator)
        report(comparison, path, "'%s' of %s no longer selects members", old->discriminator, words(comparison, old));
}

static const struct type *branch_by_json_type(const struct type *alternate, const struct type *type)
{
    const char *wanted = type_json_type(type);
    for (size_t i = 0; i < alternate->branches.count; i++)
        if (strcmp(type_json_type(alternate->branches.items[i].type), wanted) == 0)
            return alternate->branches.items[i].type;
    return NULL;
}

/* @part is one of the types that an alternate on the other side consists of. */
static void compare_part(struct comparison *comparison, const char *path, const struct type *old_part,
                         const struct type *new_part, const struct type *missing, enum direction direction)
{
    if (old_part && new_part)
        compare_types(comparison, path, old_part, new_part, direction);
    else
        report(comparison, path, direction == SENT ? "no longer takes %s" : "may be %s now",
               words(comparison, missing));
}

static void compare_alternates(struct comparison *comparison, const char *path, const struct type *old,
                               const struct type *now, enum direction direction)
{
    const struct type *parts = direction == SENT ? old : now;
    size_t count = parts->kind == TYPE_ALTERNATE ? parts->branches.count : 1;
    const struct type *whole = direction == SENT ? now : old;
    for (size_t i = 0; i < count; i++) {
        const struct type *part = parts->kind == TYPE_ALTERNATE ? parts->branches.items[i].type : parts;
        const struct type *other = whole;
        if (whole->kind == TYPE_ALTERNATE)
            other = branch_by_json_type(whole, part);
        else if (strcmp(type_json_type(whole), type_json_type(part)) != 0 && !covers(whole, part))
            other = NULL;
        compare_part(comparison, path, direction == SENT ? part : other, direction == SENT ? other : part, part,
                     direction);
    }
}

static bool seen(struct comparison *comparison, const struct type *old, const struct type *now,
                 enum direction direction)
{
    for (size_t i = 0; i < comparison->seen.count; i++) {
        const struct compared *pair = &comparison->seen.items[i];
        if (pair->old == old && pair->now == now && pair->direction == direction)
            return true;
    }
    struct compared pair = { .old = old, .now = now, .direction = direction };
    VECTOR_PUSH(comparison->output->arena, &comparison->seen, pair);
    return false;
}

static void compare_kinds(struct comparison *comparison, const char *path, const struct type *old,
                          const struct type *now, enum direction direction)
{
    if (old->kind == TYPE_ALTERNATE || now->kind == TYPE_ALTERNATE)
        compare_alternates(comparison, path, old, now, direction);
    else if (old->kind != now->kind) {
        if (!(direction == SENT ? covers(now, old) : covers(old, now)))
            report(comparison, path, "was %s, is %s", words(comparison, old), words(comparison, now));
    } else if (old->kind == TYPE_ARRAY)
        compare_types(comparison, arena_printf(comparison->output->arena, "%s[]", path), old->element, now->element,
                      direction);
    else if (old->kind == TYPE_ENUM)
        compare_enums(comparison, path, old, now, direction);
    else if (old->kind == TYPE_OBJECT)
        compare_objects(comparison, path, old, now, direction);
    else
        compare_scalars(comparison, path, old, now, direction);
}

static void compare_types(struct comparison *comparison, const char *path, const struct type *old,
                          const struct type *now, enum direction direction)
{
    if (seen(comparison, old, now, direction) || comparison->depth == DIFF_DEPTH_MAX)
        return;
    comparison->depth++;
    compare_kinds(comparison, path, old, now, direction);
    comparison->depth--;
}

static const struct type *or_empty(const struct model *model, const struct type *type)
{
    return type ? type : model->empty;
}

static void compare_commands(struct comparison *comparison, const struct command *old, const struct model *old_model,
                             const struct command *now, const struct model *new_model)
{
    const char *path = old->name;
    if (!now) {
        report(comparison, path, "command is gone");
        return;
    }
    if (old->allow_oob && !now->allow_oob)
        report(comparison, path, "cannot be executed out of band any more");
    if (old->allow_preconfig && !now->allow_preconfig)
        report(comparison, path, "is not allowed before the machine is configured any more");
    if (old->success_response && !now->success_response)
        report(comparison, path, "does not answer any more");
    if (now->role > old->role)
        report(comparison, path, "needs a higher role");
    compare_conditions(comparison, path, old->condition, now->condition);
    compare_features(comparison, path, &old->features, &now->features);
    compare_types(comparison, below(comparison, path, "arguments"), or_empty(old_model, old->arguments),
                  or_empty(new_model, now->arguments), SENT);
    if (!old->returns && now->returns && now->returns->kind != TYPE_OBJECT)
        report(comparison, below(comparison, path, "return"), "was an empty object, is %s",
               words(comparison, now->returns));
    else if (old->returns || now->returns)
        compare_types(comparison, below(comparison, path, "return"), or_empty(old_model, old->returns),
                      or_empty(new_model, now->returns), RECEIVED);
}

/* Whether events that did not count together do now: @old tells them apart by a member, @now does not. */
static bool counts_together(const struct event *old, const struct event *now)
{
    for (size_t i = 0; now->rate_limit_ms && i < old->rate_limit_keys.count; i++) {
        const char *key = old->data->members.items[old->rate_limit_keys.items[i]].name;
        bool told_apart = false;
        for (size_t j = 0; j < now->rate_limit_keys.count; j++)
            told_apart |= strcmp(now->data->members.items[now->rate_limit_keys.items[j]].name, key) == 0;
        if (!told_apart)
            return true;
    }
    return false;
}

/* Events that a limit holds back never come: the limit may only become weaker. */
static void compare_rates(struct comparison *comparison, const struct event *old, const struct event *now)
{
    if (now->rate_limit_ms > old->rate_limit_ms && !old->rate_limit_ms)
        report(comparison, old->name, "comes at most once in %u ms now", now->rate_limit_ms);
    else if (now->rate_limit_ms > old->rate_limit_ms)
        report(comparison, old->name, "came at most once in %u ms, comes at most once in %u ms", old->rate_limit_ms,
               now->rate_limit_ms);
    else if (counts_together(old, now))
        report(comparison, old->name, "is limited for more events together");
}

static void compare_events(struct comparison *comparison, const struct event *old, const struct model *old_model,
                           const struct event *now, const struct model *new_model)
{
    if (!now) {
        report(comparison, old->name, "event is gone");
        return;
    }
    compare_conditions(comparison, old->name, old->condition, now->condition);
    compare_features(comparison, old->name, &old->features, &now->features);
    compare_rates(comparison, old, now);
    compare_types(comparison, below(comparison, old->name, "data"), or_empty(old_model, old->data),
                  or_empty(new_model, now->data), RECEIVED);
}

static const struct entity *find_entity(const struct model *model, const char *name)
{
    for (size_t i = 0; i < model->entities.count; i++) {
        const struct entity *entity = &model->entities.items[i];
        if ((entity->command && strcmp(entity->command->name, name) == 0) ||
            (entity->event && strcmp(entity->event->name, name) == 0))
            return entity;
    }
    return NULL;
}

size_t write_diff(struct output *output, const struct model *old, const struct model *new_model)
{
    struct comparison comparison = { .output = output };
    for (size_t i = 0; i < old->entities.count; i++) {
        const struct command *command = old->entities.items[i].command;
        const struct event *event = old->entities.items[i].event;
        if (command && !features_contain(&command->features, "unstable")) {
            const struct entity *same = find_entity(new_model, command->name);
            compare_commands(&comparison, command, old, same ? same->command : NULL, new_model);
        } else if (event && !features_contain(&event->features, "unstable")) {
            const struct entity *same = find_entity(new_model, event->name);
            compare_events(&comparison, event, old, same ? same->event : NULL, new_model);
        }
    }
    return comparison.breaks;
}
