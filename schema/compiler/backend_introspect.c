/* The answer to query-qmp-schema, in the form of QEMU's generator: commands and events in the order of definition, then
 * the types they use in the order of first use, which also numbers them. */
#include "schema/compiler/backend.h"
#include "schema/compiler/names.h"

#include <string.h>

struct introspection {
    struct output *output;
    const struct model *model;
    const struct backend_options *options;
    bool as_c;                        /* keep conditions; else decide them */
    unsigned hidden;                  /* depth of elements whose condition does not hold; they only count */
    VECTOR(const struct type *) used; /* types to describe */
    struct names uses;                /* type name -> struct use */
    size_t numbers;                   /* how many types have one */
    bool open;                        /* in C: a line of JSON was begun */
    unsigned depth;                   /* of the element that is open */
};

struct use {
    bool numbered;
    size_t number;
};

/* What has been written of a list, to know where commas go. An element needs one if any before it is there: in C, where
 * that depends on conditions, the macro MORE_depth is defined once one is. */
struct list {
    bool certain;  /* an element without condition was written */
    bool possible; /* one with a condition was */
};

static bool holds(const struct introspection *in, const struct condition *condition)
{
    if (!condition)
        return true;
    if (condition->kind == CONDITION_NAME)
        return names_contain(in->options->defined, in->options->defined_count, condition->name);
    if (condition->kind == CONDITION_NOT)
        return !holds(in, condition->operands.items[0]);
    for (size_t i = 0; i < condition->operands.count; i++)
        if (holds(in, condition->operands.items[i]) != (condition->kind == CONDITION_ALL))
            return condition->kind == CONDITION_ANY;
    return condition->kind == CONDITION_ALL;
}

/* In C the JSON stands between the parentheses of J(), which makes a string of it as it is: shorter than with each
 * quote escaped. Lines of it end where conditions stand. */
static void end_line(struct introspection *in)
{
    if (in->open)
        output_text(in->output, ")\n");
    in->open = false;
}

/* Without the spaces between tokens, which say nothing. */
static void put_tokens(struct introspection *in, const char *text)
{
    char piece[256];
    size_t length = 0;
    bool quoted = false;
    for (; *text; text++) {
        quoted ^= *text == '"';
        if (*text != ' ' || quoted)
            piece[length++] = *text;
        if (length == sizeof(piece) - 1 || !text[1]) {
            piece[length] = '\0';
            output_text(in->output, piece);
            length = 0;
        }
    }
}

/* A piece of JSON: whole tokens, without strings that hold quotes. */
static void put(struct introspection *in, const char *text)
{
    if (in->hidden)
        return;
    if (!in->as_c) {
        output_text(in->output, text);
        return;
    }
    if (!in->open)
        output_text(in->output, "J(");
    in->open = true;
    put_tokens(in, text);
}

static void put_conditional_comma(struct introspection *in, const char *comma)
{
    end_line(in);
    output_printf(in->output, "#ifdef MORE_%u\n", in->depth);
    put(in, comma);
    end_line(in);
    output_text(in->output, "#endif\n");
}

/* In C, of an element with a condition and none without before it. */
static void note_possible(struct introspection *in, struct list *list)
{
    end_line(in);
    output_printf(in->output, "#define MORE_%u\n", in->depth);
    list->possible = true;
}

/* Opens an element, which end_element() closes. What does not hold is visited all the same, since it takes part in the
 * numbering. */
static void begin_element(struct introspection *in, struct list *list, const struct condition *condition,
                          const char *comma)
{
    in->depth++;
    if (!in->as_c && !holds(in, condition)) {
        in->hidden++;
        return;
    }
    if (in->as_c && condition) {
        end_line(in);
        if (!list->certain && !list->possible)
            output_printf(in->output, "#undef MORE_%u\n", in->depth);
        output_if(in->output, condition);
    }
    if (list->certain)
        put(in, comma);
    else if (list->possible)
        put_conditional_comma(in, comma);

    if (!condition || !in->as_c)
        list->certain = true;
    else if (!list->certain)
        note_possible(in, list);
}

static void end_element(struct introspection *in, const struct condition *condition)
{
    in->depth--;
    if (in->as_c && condition)
        end_line(in);
    if (in->as_c)
        output_endif(in->output, condition);
    else if (!holds(in, condition))
        in->hidden--;
}

/* Clients see neither the width of integers nor named scalars. */
static const struct type *as_clients_see(const struct introspection *in, const struct type *type)
{
    if (!type)
        return in->model->empty;
    if (type->kind == TYPE_ARRAY)
        return as_clients_see(in, type->element) == type->element ? type : as_clients_see(in, type->element)->array;
    if (type->plain)
        type = type->plain;
    return type->kind == TYPE_BUILTIN && strcmp(type_json_type(type), "int") == 0 ? in->model->integer : type;
}

static struct use *note_use(struct introspection *in, const struct type *type)
{
    struct use *use = names_get(&in->uses, type->name);
    if (!use) {
        use = arena_alloc(in->output->arena, sizeof(*use));
        names_add(&in->uses, in->output->arena, type->name, use);
        VECTOR_PUSH(in->output->arena, &in->used, type);
    }
    return use;
}

/* The name of a type for clients; notes that the type is used. */
static const char *use_type(struct introspection *in, const struct type *type)
{
    struct arena *arena = in->output->arena;
    type = as_clients_see(in, type);
    struct use *use = note_use(in, type);
    if (type->kind == TYPE_BUILTIN)
        return type->name;
    if (type->kind == TYPE_ARRAY)
        return arena_printf(arena, "[%s]", use_type(in, type->element));
    if (!use->numbered)
        *use = (struct use){ .numbered = true, .number = in->numbers++ };
    return arena_printf(arena, "%zu", use->number);
}

static void put_features(struct introspection *in, const struct features *features)
{
    struct list list = { 0 };
    if (!features->list.count)
        return;
    put(in, ", \"features\": [");
    for (size_t i = 0; i < features->list.count; i++) {
        const struct feature *feature = &features->list.items[i];
        begin_element(in, &list, feature->condition, ", ");
        put(in, arena_printf(in->output->arena, "\"%s\"", feature->name));
        end_element(in, feature->condition);
    }
    put(in, "]");
}

static void put_command(struct introspection *in, const struct command *command)
{
    const char *arguments = use_type(in, command->arguments);
    const char *returns = use_type(in, command->returns);
    put(in, arena_printf(in->output->arena,
                         "{\"name\": \"%s\", \"meta-type\": \"command\", \"arg-type\": \"%s\", \"ret-type\": \"%s\"%s",
                         command->name, arguments, returns, command->allow_oob ? ", \"allow-oob\": true" : ""));
    put_features(in, &command->features);
    put(in, "}");
}

static void put_event(struct introspection *in, const struct event *event)
{
    put(in, arena_printf(in->output->arena, "{\"name\": \"%s\", \"meta-type\": \"event\", \"arg-type\": \"%s\"",
                         event->name, use_type(in, event->data)));
    put_features(in, &event->features);
    put(in, "}");
}

static void put_enum(struct introspection *in, const struct type *type)
{
    struct list members = { 0 }, values = { 0 };
    put(in, "\"meta-type\": \"enum\", \"members\": [");
    for (size_t i = 0; i < type->values.count; i++) {
        const struct enum_value *value = &type->values.items[i];
        begin_element(in, &members, value->condition, ", ");
        put(in, arena_printf(in->output->arena, "{\"name\": \"%s\"", value->name));
        put_features(in, &value->features);
        put(in, "}");
        end_element(in, value->condition);
    }
    put(in, "], \"values\": [");
    for (size_t i = 0; i < type->values.count; i++) {
        const struct enum_value *value = &type->values.items[i];
        begin_element(in, &values, value->condition, ", ");
        put(in, arena_printf(in->output->arena, "\"%s\"", value->name));
        end_element(in, value->condition);
    }
    put(in, "]");
}

static void put_object(struct introspection *in, const struct type *type)
{
    struct arena *arena = in->output->arena;
    struct list members = { 0 }, variants = { 0 };
    put(in, "\"meta-type\": \"object\", \"members\": [");
    for (size_t i = 0; i < type->members.count; i++) {
        const struct member *member = &type->members.items[i];
        begin_element(in, &members, member->condition, ", ");
        put(in, arena_printf(arena, "{\"name\": \"%s\", \"type\": \"%s\"%s", member->name, use_type(in, member->type),
                             member->optional ? ", \"default\": null" : ""));
        put_features(in, &member->features);
        put(in, "}");
        end_element(in, member->condition);
    }
    put(in, "]");
    if (!type->discriminator)
        return;
    put(in, arena_printf(arena, ", \"tag\": \"%s\", \"variants\": [", type->discriminator));
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        begin_element(in, &variants, branch->condition, ", ");
        put(in, arena_printf(arena, "{\"case\": \"%s\", \"type\": \"%s\"}", branch->name, use_type(in, branch->type)));
        end_element(in, branch->condition);
    }
    put(in, "]");
}

static void put_alternate(struct introspection *in, const struct type *type)
{
    struct list members = { 0 };
    put(in, "\"meta-type\": \"alternate\", \"members\": [");
    for (size_t i = 0; i < type->branches.count; i++) {
        const struct branch *branch = &type->branches.items[i];
        begin_element(in, &members, branch->condition, ", ");
        put(in, arena_printf(in->output->arena, "{\"type\": \"%s\"}", use_type(in, branch->type)));
        end_element(in, branch->condition);
    }
    put(in, "]");
}

static void put_type(struct introspection *in, const struct type *type)
{
    put(in, arena_printf(in->output->arena, "{\"name\": \"%s\", ", use_type(in, type)));
    switch (type->kind) {
    case TYPE_BUILTIN:
        put(in, arena_printf(in->output->arena, "\"meta-type\": \"builtin\", \"json-type\": \"%s\"",
                             type->builtin->json_type));
        break;
    case TYPE_ARRAY:
        put(in, arena_printf(in->output->arena, "\"meta-type\": \"array\", \"element-type\": \"%s\"",
                             use_type(in, type->element)));
        break;
    case TYPE_ENUM:
        put_enum(in, type);
        break;
    case TYPE_OBJECT:
        put_object(in, type);
        break;
    case TYPE_ALTERNATE:
        put_alternate(in, type);
        break;
    }
    put_features(in, &type->features);
    put(in, "}");
}

static void put_entity(struct introspection *in, struct list *list, const struct entity *entity)
{
    if (entity->type)
        return;
    const struct condition *condition = entity->command ? entity->command->condition : entity->event->condition;
    begin_element(in, list, condition, ", ");
    if (entity->command)
        put_command(in, entity->command);
    else
        put_event(in, entity->event);
    end_element(in, condition);
}

static void put_all(struct introspection *in)
{
    struct list list = { 0 };
    put(in, "[");
    for (size_t i = 0; i < in->model->entities.count; i++) {
        put_entity(in, &list, &in->model->entities.items[i]);
        end_line(in);
    }
    /* The list of used types grows while they are described. */
    for (size_t i = 0; i < in->used.count; i++) {
        const struct type *type = in->used.items[i];
        begin_element(in, &list, type->condition, ", ");
        put_type(in, type);
        end_line(in);
        end_element(in, type->condition);
    }
    put(in, "]");
    end_line(in);
}

void write_introspect_header(struct output *output, const struct model *model, const struct backend_options *options)
{
    (void)model;
    output_header_begin(output, arena_printf(output->arena, "%sintrospect.h", options->prefix), options->schema);
    output_printf(output,
                  "#include <stddef.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
                  "/* The answer to query-qmp-schema: a JSON array. */\n"
                  "extern const char %sintrospect_text[];\nextern const size_t %sintrospect_length;\n",
                  options->prefix, options->prefix);
    output_header_end(output);
}

void write_introspect_source(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct introspection in = { .output = output, .model = model, .options = options, .as_c = true };
    output_printf(output,
                  "/* Written by schemac from %s: change that instead. */\n#include \"%sintrospect.h\"\n\n"
                  "#define J(...) #__VA_ARGS__\n\nconst char %sintrospect_text[] =\n",
                  options->schema, options->prefix, options->prefix);
    put_all(&in);
    output_printf(output, "    ;\n\nconst size_t %sintrospect_length = sizeof(%sintrospect_text) - 1;\n",
                  options->prefix, options->prefix);
}

void write_introspect_json(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct introspection in = { .output = output, .model = model, .options = options };
    put_all(&in);
    output_text(output, "\n");
}
