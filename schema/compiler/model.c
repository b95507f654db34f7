#include "schema/codec/suggest.h"
#include "schema/compiler/model_private.h"
#include "schema/compiler/naming.h"

#include <ctype.h>
#include <string.h>

static const char *const special_features[] = { "deprecated", "unstable" };

static const struct builtin builtins[] = {
    { "str", BUILTIN_STR, "string", "const char *", "codec_str" },
    { "number", BUILTIN_NUMBER, "number", "double ", "codec_number" },
    { "int", BUILTIN_INT, "int", "int64_t ", "codec_int" },
    { "int8", BUILTIN_INT, "int", "int8_t ", "codec_int8" },
    { "int16", BUILTIN_INT, "int", "int16_t ", "codec_int16" },
    { "int32", BUILTIN_INT, "int", "int32_t ", "codec_int32" },
    { "int64", BUILTIN_INT, "int", "int64_t ", "codec_int64" },
    { "uint8", BUILTIN_INT, "int", "uint8_t ", "codec_uint8" },
    { "uint16", BUILTIN_INT, "int", "uint16_t ", "codec_uint16" },
    { "uint32", BUILTIN_INT, "int", "uint32_t ", "codec_uint32" },
    { "uint64", BUILTIN_INT, "int", "uint64_t ", "codec_uint64" },
    { "size", BUILTIN_SIZE, "int", "uint64_t ", "codec_size" },
    { "bool", BUILTIN_BOOL, "boolean", "bool ", "codec_bool" },
    { "null", BUILTIN_NULL, "null", "uint8_t ", "codec_null" },
    { "any", BUILTIN_ANY, "value", "struct json_text ", "codec_any" },
};

const char *type_json_type(const struct type *type)
{
    switch (type->kind) {
    case TYPE_BUILTIN:
        return type->builtin->json_type;
    case TYPE_ENUM:
        return "string";
    case TYPE_ARRAY:
        return "array";
    case TYPE_OBJECT:
        return "object";
    case TYPE_ALTERNATE:
        break;
    }
    return "value";
}

bool type_is_empty(const struct type *type)
{
    return type->kind == TYPE_OBJECT && type->members.count == 0 && type->branches.count == 0;
}

bool type_needs_has(const struct type *type)
{
    if (type->kind == TYPE_OBJECT || type->kind == TYPE_ALTERNATE)
        return false;
    return type->kind != TYPE_BUILTIN || (type->builtin->kind != BUILTIN_STR && type->builtin->kind != BUILTIN_ANY);
}

bool features_contain(const struct features *features, const char *name)
{
    for (size_t i = 0; i < features->list.count; i++)
        if (strcmp(features->list.items[i].name, name) == 0)
            return true;
    return false;
}

struct type *builder_new_type(struct builder *builder, enum type_kind kind, const char *name, const char *c_name)
{
    struct type *type = arena_alloc(builder->compilation->arena, sizeof(*type));
    type->kind = kind;
    type->name = name;
    type->c_name = c_name;
    VECTOR_PUSH(builder->compilation->arena, &builder->model->types, type);
    return type;
}

const char *builder_subject(struct builder *builder, struct subject subject)
{
    return subject.name ? arena_printf(builder->compilation->arena, "%s '%s'", subject.role, subject.name)
                        : subject.role;
}

static void define_builtins(struct builder *builder)
{
    struct arena *arena = builder->compilation->arena;
    for (size_t i = 0; i < ARRAY_SIZE(special_features); i++)
        names_add(&builder->features, arena, special_features[i], builder);
    for (size_t i = 0; i < ARRAY_SIZE(builtins); i++) {
        struct type *type = builder_new_type(builder, TYPE_BUILTIN, builtins[i].name, builtins[i].name);
        type->builtin = &builtins[i];
        type->state = TYPE_RESOLVED;
        names_add(&builder->types, arena, type->name, type);
        if (strcmp(type->name, "int") == 0)
            builder->model->integer = type;
    }
    builder_array(builder, builder->model->integer);
    struct type *empty = builder_new_type(builder, TYPE_OBJECT, "q_empty", "q_empty");
    empty->state = TYPE_RESOLVED;
    empty->implicit = true;
    builder->model->empty = empty;
}

/* What QEMU predefines: the kinds of JSON values. */
static struct type *define_qtype(struct builder *builder)
{
    static const char *const names[] = { "none", "qnull", "qnum", "qstring", "qdict", "qlist", "qbool" };
    struct arena *arena = builder->compilation->arena;
    struct type *type = builder_new_type(builder, TYPE_ENUM, "QType", "q_type");
    type->constant_prefix = "qtype";
    type->state = TYPE_RESOLVED;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct enum_value value = { .name = names[i], .c_name = c_constant(arena, type->constant_prefix, names[i]) };
        VECTOR_PUSH(arena, &type->values, value);
    }
    names_add(&builder->types, arena, type->name, type);
    return type;
}

static const struct condition *build_condition(struct builder *builder, const struct syntax *syntax)
{
    struct condition *condition = arena_alloc(builder->compilation->arena, sizeof(*condition));
    if (syntax->kind == SYNTAX_STRING) {
        condition->kind = CONDITION_NAME;
        condition->name = syntax->string;
        return condition;
    }
    const struct syntax_pair *pair = &syntax->pairs.items[0];
    if (strcmp(pair->key, "not") == 0) {
        condition->kind = CONDITION_NOT;
        VECTOR_PUSH(builder->compilation->arena, &condition->operands, build_condition(builder, pair->value));
        return condition;
    }
    condition->kind = strcmp(pair->key, "all") == 0 ? CONDITION_ALL : CONDITION_ANY;
    for (size_t i = 0; i < pair->value->items.count; i++)
        VECTOR_PUSH(builder->compilation->arena, &condition->operands,
                    build_condition(builder, pair->value->items.items[i]));
    return condition;
}

const struct condition *builder_condition(struct builder *builder, const struct syntax *object)
{
    const struct syntax *syntax = object->kind == SYNTAX_OBJECT ? syntax_get(object, "if") : NULL;
    return syntax ? build_condition(builder, syntax) : NULL;
}

void builder_features(struct builder *builder, const struct syntax *object, struct features *features)
{
    const struct syntax *list = object->kind == SYNTAX_OBJECT ? syntax_get(object, "features") : NULL;
    for (size_t i = 0; list && i < list->items.count; i++) {
        const struct syntax *item = list->items.items[i];
        const struct syntax *name = item->kind == SYNTAX_OBJECT ? syntax_get(item, "name") : item;
        struct feature feature = { .name = name->string, .condition = builder_condition(builder, item) };
        VECTOR_PUSH(builder->compilation->arena, &features->list, feature);
        names_add(&builder->features, builder->compilation->arena, feature.name, (void *)(size_t)name);
        if (builder->features.count > FEATURES_MAX && !builder->one_feature_more.line)
            builder->one_feature_more = name->at;
    }
}

bool builder_check_features(struct builder *builder, struct location at, const struct features *features,
                            struct subject subject)
{
    struct names seen = { 0 };
    for (size_t i = 0; i < features->list.count; i++) {
        const struct feature *feature = &features->list.items[i];
        if (names_add(&seen, builder->compilation->arena, feature->name, (void *)(size_t)feature)) {
            compilation_error(builder->compilation, at, "feature '%s' collides with feature '%s'", feature->name,
                              feature->name);
            compilation_note(builder->compilation, at, "in %s", builder_subject(builder, subject));
            return false;
        }
    }
    return true;
}

struct type *builder_find_type(struct builder *builder, const char *name)
{
    struct type *type = names_get(&builder->types, name);
    return !type && strcmp(name, "QType") == 0 ? define_qtype(builder) : type;
}

static void suggest_type(struct builder *builder, struct location at, const char *name)
{
    struct suggestion suggestion = { 0 };
    for (size_t i = 0; i < builder->model->types.count; i++) {
        const struct type *type = builder->model->types.items[i];
        if (type->kind != TYPE_ARRAY && !type->implicit)
            suggestion_consider(&suggestion, name, type->name);
    }
    compilation_suggest(builder->compilation, at, &suggestion);
}

bool builder_unknown_type(struct builder *builder, struct location at, const struct syntax *name,
                          struct subject subject)
{
    const char *text = name->string;
    compilation_error(builder->compilation, at, "%s uses unknown type '%s'", builder_subject(builder, subject), text);
    compilation_note(builder->compilation, name->at, "'%s' is here", text);
    suggest_type(builder, name->at, text);
    return false;
}

struct type *builder_type(struct builder *builder, struct location at, const struct syntax *name,
                          struct subject subject)
{
    if (name->kind == SYNTAX_ARRAY)
        return builder_array_of(builder, name->items.items[0]->string);
    struct type *type = builder_find_type(builder, name->string);
    if (!type)
        type = builder_find_array(builder, name->string);
    if (!type && !builder_unknown_type(builder, at, name, subject))
        builder_note_array_form(builder, name->at, name->string);
    return type;
}

struct type *builder_implicit_object(struct builder *builder, const struct syntax *members, const char *name,
                                     const char *c_name, const struct definition *owner)
{
    struct type *type = builder_new_type(builder, TYPE_OBJECT, name, c_name);
    type->at = owner->body->at;
    type->implicit = true;
    type->module = owner->module;
    type->body = members;
    type->condition = builder_condition(builder, owner->body);
    return type;
}

static void define_values(struct builder *builder, struct type *type, const struct syntax *body)
{
    struct arena *arena = builder->compilation->arena;
    const struct syntax *prefix = syntax_get(body, "prefix");
    const struct syntax *data = syntax_get(body, "data");
    type->constant_prefix = prefix ? prefix->string : type->c_name;
    for (size_t i = 0; i < data->items.count; i++) {
        const struct syntax *item = data->items.items[i];
        const struct syntax *name = item->kind == SYNTAX_OBJECT ? syntax_get(item, "name") : item;
        struct enum_value value = {
            .name = name->string,
            .c_name = c_constant(arena, type->constant_prefix, name->string),
            .at = item->at,
            .condition = builder_condition(builder, item),
        };
        builder_features(builder, item, &value.features);
        VECTOR_PUSH(arena, &type->values, value);
    }
}

/* What is not a built-in type is refused when its turn comes; until then it passes for a string. */
static void define_scalar(struct builder *builder, struct type *type)
{
    struct type *plain = names_get(&builder->types, syntax_get(type->body, "type")->string);
    bool fits = plain && plain->kind == TYPE_BUILTIN && !plain->plain;
    type->plain = fits ? plain : names_get(&builder->types, "str");
    type->builtin = type->plain->builtin;
}

static struct type *define_type(struct builder *builder, const struct definition *definition)
{
    enum type_kind kind = strcmp(definition->meta, "enum") == 0        ? TYPE_ENUM
                          : strcmp(definition->meta, "scalar") == 0    ? TYPE_BUILTIN
                          : strcmp(definition->meta, "alternate") == 0 ? TYPE_ALTERNATE
                                                                       : TYPE_OBJECT;
    struct type *type =
        builder_new_type(builder, kind, definition->name, c_tag(builder->compilation->arena, definition->name));
    type->at = definition->body->at;
    type->module = definition->module;
    type->doc = definition->doc;
    type->body = definition->body;
    type->condition = builder_condition(builder, definition->body);
    builder_features(builder, definition->body, &type->features);
    if (kind == TYPE_ENUM)
        define_values(builder, type, definition->body);
    if (kind == TYPE_BUILTIN)
        define_scalar(builder, type);
    names_add(&builder->types, builder->compilation->arena, type->name, type);
    return type;
}

static bool flag(const struct syntax *body, const char *name, bool otherwise)
{
    const struct syntax *value = syntax_get(body, name);
    return value ? value->boolean : otherwise;
}

static enum command_role command_role(const struct syntax *body)
{
    const struct syntax *role = syntax_get(body, "role");
    if (role && strcmp(role->string, "read") == 0)
        return ROLE_READ;
    return role && strcmp(role->string, "operate") == 0 ? ROLE_OPERATE : ROLE_ADMIN;
}

static struct command *define_command(struct builder *builder, const struct definition *definition)
{
    const struct syntax *body = definition->body;
    struct command *command = arena_alloc(builder->compilation->arena, sizeof(*command));
    *command = (struct command){
        .name = definition->name,
        .c_name = c_snake(builder->compilation->arena, definition->name),
        .at = body->at,
        .boxed = flag(body, "boxed", false),
        .raw = !flag(body, "gen", true),
        .success_response = flag(body, "success-response", true),
        .allow_oob = flag(body, "allow-oob", false),
        .allow_preconfig = flag(body, "allow-preconfig", false),
        .coroutine = flag(body, "coroutine", false),
        .role = command_role(body),
        .condition = builder_condition(builder, body),
        .module = definition->module,
        .doc = definition->doc,
    };
    builder_features(builder, body, &command->features);
    return command;
}

static struct event *define_event(struct builder *builder, const struct definition *definition)
{
    const struct syntax *body = definition->body;
    struct event *event = arena_alloc(builder->compilation->arena, sizeof(*event));
    *event = (struct event){
        .name = definition->name,
        .c_name = c_snake(builder->compilation->arena, definition->name),
        .at = body->at,
        .boxed = flag(body, "boxed", false),
        .condition = builder_condition(builder, body),
        .module = definition->module,
        .doc = definition->doc,
    };
    builder_features(builder, body, &event->features);
    return event;
}

static bool claim_name(struct builder *builder, struct definition *definition)
{
    const char *name = definition->name;
    const struct type *predefined = names_get(&builder->types, name);
    const struct definition *other =
        names_add(&builder->defined, builder->compilation->arena, name, (void *)(size_t)definition);
    if (other) {
        compilation_error(builder->compilation, definition->body->at, "'%s' is already defined", name);
        compilation_note(builder->compilation, other->body->at, "previous definition");
        return false;
    }
    if (predefined)
        return compilation_error(builder->compilation, definition->body->at, "%s is already defined",
                                 builder_describe(builder, predefined));
    return strcmp(name, "QType") != 0 ||
           compilation_error(builder->compilation, definition->body->at, "enum type 'QType' is already defined");
}

static bool define_all(struct builder *builder)
{
    const struct program *program = builder->program;
    for (size_t i = 0; i < program->definitions.count; i++) {
        struct definition *definition = program->definitions.items[i];
        struct entity entity = { .module = definition->module };
        if (!claim_name(builder, definition))
            return false;
        builder_note_arrays(builder, definition);
        if (strcmp(definition->meta, "command") == 0)
            entity.command = define_command(builder, definition);
        else if (strcmp(definition->meta, "event") == 0)
            entity.event = define_event(builder, definition);
        else
            entity.type = define_type(builder, definition);
        VECTOR_PUSH(builder->compilation->arena, &builder->model->entities, entity);
    }
    return true;
}

/* Special features are for what clients use by name. */
bool builder_check_type_features(struct builder *builder, const struct type *type)
{
    if (!builder_check_features(builder, type->at, &type->features, (struct subject){ "type", type->name }))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(special_features); i++) {
        if (!features_contain(&type->features, special_features[i]))
            continue;
        compilation_error(builder->compilation, type->at, "feature '%s' is not supported for types",
                          special_features[i]);
        compilation_note(builder->compilation, type->at, "commands, events, members and values of enums can have it");
        return false;
    }
    return true;
}

static bool resolve_entity(struct builder *builder, const struct entity *entity, const struct definition *definition)
{
    if (entity->type)
        return builder_resolve_type(builder, entity->type);
    if (entity->command)
        return builder_check_features(builder, entity->command->at, &entity->command->features,
                                      (struct subject){ "command", definition->name }) &&
               builder_resolve_command(builder, entity->command, definition);
    return builder_check_features(builder, entity->event->at, &entity->event->features,
                                  (struct subject){ "event", definition->name }) &&
           builder_resolve_event(builder, entity->event, definition);
}

/* In the order of definition, which decides what is wrong first. */
static bool resolve_all(struct builder *builder)
{
    for (size_t i = 0; i < builder->model->entities.count; i++) {
        const struct entity *entity = &builder->model->entities.items[i];
        if (!builder_check_arrays(builder, i) ||
            !resolve_entity(builder, entity, builder->program->definitions.items[i]) ||
            !builder_check_documented(builder, entity))
            return false;
    }
    return builder_check_docs(builder) && (builder->features.count <= FEATURES_MAX ||
                                           compilation_error(builder->compilation, builder->one_feature_more,
                                                             "more than %d names of features", FEATURES_MAX));
}

/* Names that differ only in '-' and '_' would be one name in C. */
static bool claim_c_name(struct builder *builder, const struct definition *definition)
{
    const char *key = c_part(builder->compilation->arena, definition->name);
    const struct definition *other =
        names_add(&builder->c_names, builder->compilation->arena, key, (void *)(size_t)definition);
    if (!other)
        return true;
    compilation_error(builder->compilation, definition->body->at, "%s '%s' collides with '%s'", definition->meta,
                      definition->name, other->name);
    compilation_note(builder->compilation, other->body->at, "%s '%s' stands here", other->meta, other->name);
    return false;
}

static bool claim_constants(struct builder *builder, const struct type *type)
{
    for (size_t i = 0; i < type->values.count; i++) {
        const struct enum_value *value = &type->values.items[i];
        const struct type *other =
            names_add(&builder->c_constants, builder->compilation->arena, value->c_name, (void *)(size_t)type);
        if (other == type)
            return compilation_error(builder->compilation, type->at, "value '%s' collides with another of '%s'",
                                     value->name, type->name);
        if (other)
            return compilation_error(builder->compilation, type->at,
                                     "value '%s' of '%s' becomes %s in C, as one of '%s'", value->name, type->name,
                                     value->c_name, other->name);
    }
    return true;
}

/* Two types that would have one tag, and two values that would have one constant, cannot be told apart in C. */
static bool claim_c_names(struct builder *builder)
{
    for (size_t i = 0; i < builder->program->definitions.count; i++)
        if (!claim_c_name(builder, builder->program->definitions.items[i]))
            return false;
    for (size_t i = 0; i < builder->model->types.count; i++) {
        struct type *type = builder->model->types.items[i];
        if (type->kind == TYPE_BUILTIN)
            continue;
        const struct type *other = names_add(&builder->c_tags, builder->compilation->arena, type->c_name, type);
        if (other)
            return compilation_error(builder->compilation, type->at, "'%s' becomes %s in C, as '%s'", type->name,
                                     type->c_name, other->name);
        if (!claim_constants(builder, type))
            return false;
    }
    return true;
}

/* The visiting order of QEMU's generator: file by file, each before those it includes. */
static void order_by_module(struct builder *builder)
{
    struct model *model = builder->model;
    struct arena *arena = builder->compilation->arena;
    struct entity *ordered = arena_array(arena, model->entities.count, sizeof(*ordered));
    size_t *next = arena_array(arena, builder->program->modules.count + 2, sizeof(*next));
    for (size_t i = 0; i < model->entities.count; i++)
        next[model->entities.items[i].module->number + 1]++;
    for (size_t m = 1; m <= builder->program->modules.count; m++)
        next[m + 1] += next[m];
    for (size_t i = 0; i < model->entities.count; i++)
        ordered[next[model->entities.items[i].module->number]++] = model->entities.items[i];
    model->entities.items = ordered;
}

bool model_build(struct model *model, struct compilation *compilation, const struct program *program)
{
    struct builder builder = { .compilation = compilation, .program = program, .model = model };
    *model = (struct model){ .compilation = compilation, .program = program };
    define_builtins(&builder);
    if (!define_all(&builder) || !resolve_all(&builder) || !claim_c_names(&builder))
        return false;
    order_by_module(&builder);
    return true;
}
