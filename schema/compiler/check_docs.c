/* Documentation against definitions: what is documented exists, and what exists is documented. */
#include "schema/compiler/model_private.h"

#include <string.h>

struct documented {
    const struct doc *doc;
    const char *name;
    struct location at;
    VECTOR(const char *) members;
    VECTOR(const char *) features;
};

static void note_features(struct arena *arena, struct documented *documented, const struct features *features)
{
    for (size_t i = 0; i < features->list.count; i++)
        VECTOR_PUSH(arena, &documented->features, features->list.items[i].name);
}

/* The members that stand in the definition itself, not those of a named base. */
static void note_members(struct arena *arena, struct documented *documented, const struct type *type)
{
    size_t inherited = type->base ? type->base->members.count : 0;
    for (size_t i = inherited; i < type->members.count; i++) {
        VECTOR_PUSH(arena, &documented->members, type->members.items[i].name);
        note_features(arena, documented, &type->members.items[i].features);
    }
    for (size_t i = 0; i < type->values.count; i++) {
        VECTOR_PUSH(arena, &documented->members, type->values.items[i].name);
        note_features(arena, documented, &type->values.items[i].features);
    }
    for (size_t i = 0; type->kind == TYPE_ALTERNATE && i < type->branches.count; i++)
        VECTOR_PUSH(arena, &documented->members, type->branches.items[i].name);
}

static bool check(struct builder *builder, const struct documented *documented)
{
    const struct doc *doc = documented->doc;
    const struct pragmas *pragmas = &builder->program->pragmas;
    bool exception = names_contain(pragmas->documentation_exceptions.items, pragmas->documentation_exceptions.count,
                                   documented->name);

    for (size_t i = 0; i < doc->members.count; i++)
        if (!names_contain(documented->members.items, documented->members.count, doc->members.items[i].name))
            return compilation_error(builder->compilation, doc->members.items[i].at,
                                     "documented member '%s' does not exist", doc->members.items[i].name);
    for (size_t i = 0; i < doc->features.count; i++)
        if (!names_contain(documented->features.items, documented->features.count, doc->features.items[i].name))
            return compilation_error(builder->compilation, doc->features.items[i].at,
                                     "documented feature '%s' does not exist", doc->features.items[i].name);
    for (size_t i = 0; i < documented->members.count && !exception; i++)
        if (!doc_find(doc->members.items, doc->members.count, documented->members.items[i]))
            return compilation_error(builder->compilation, documented->at, "member '%s' lacks documentation",
                                     documented->members.items[i]);
    for (size_t i = 0; i < documented->features.count; i++)
        if (!doc_find(doc->features.items, doc->features.count, documented->features.items[i]))
            return compilation_error(builder->compilation, documented->at, "feature '%s' lacks documentation",
                                     documented->features.items[i]);
    return true;
}

static bool check_entity(struct builder *builder, const struct entity *entity)
{
    struct arena *arena = builder->compilation->arena;
    struct documented documented = { 0 };
    const struct type *payload = NULL;

    if (entity->command) {
        documented = (struct documented){ .doc = entity->command->doc,
                                          .name = entity->command->name,
                                          .at = entity->command->at };
        note_features(arena, &documented, &entity->command->features);
        payload = entity->command->arguments;
    } else if (entity->event) {
        documented =
            (struct documented){ .doc = entity->event->doc, .name = entity->event->name, .at = entity->event->at };
        note_features(arena, &documented, &entity->event->features);
        payload = entity->event->data;
    } else {
        documented =
            (struct documented){ .doc = entity->type->doc, .name = entity->type->name, .at = entity->type->at };
        note_features(arena, &documented, &entity->type->features);
        note_members(arena, &documented, entity->type);
    }
    if (payload && payload->implicit)
        note_members(arena, &documented, payload);
    return !documented.doc || check(builder, &documented);
}

bool builder_check_docs(struct builder *builder)
{
    for (size_t i = 0; i < builder->model->entities.count; i++)
        if (!check_entity(builder, &builder->model->entities.items[i]))
            return false;
    return true;
}
