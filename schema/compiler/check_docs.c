/* Documentation against definitions: what exists is documented, and what is documented exists. */
#include "schema/codec/suggest.h"
#include "schema/compiler/model_private.h"

#include <string.h>

struct documented {
    const struct doc *doc;
    const char *name;
    struct location at;
    const char *role; /* of the members */
    VECTOR(const char *) members;
    VECTOR(struct location) places; /* of the members */
    VECTOR(const char *) features;
};

static void note_features(struct arena *arena, struct documented *documented, const struct features *features)
{
    for (size_t i = 0; i < features->list.count; i++)
        VECTOR_PUSH(arena, &documented->features, features->list.items[i].name);
}

static void note_member(struct arena *arena, struct documented *documented, const char *name, struct location at)
{
    VECTOR_PUSH(arena, &documented->members, name);
    VECTOR_PUSH(arena, &documented->places, at);
}

/* The members that stand in the definition itself, not those of a named base. */
static void note_members(struct arena *arena, struct documented *documented, const struct type *type)
{
    size_t inherited = type->base ? type->base->members.count : 0;
    for (size_t i = inherited; i < type->members.count; i++) {
        note_member(arena, documented, type->members.items[i].name, type->members.items[i].at);
        note_features(arena, documented, &type->members.items[i].features);
    }
    for (size_t i = 0; i < type->values.count; i++) {
        note_member(arena, documented, type->values.items[i].name, type->values.items[i].at);
        note_features(arena, documented, &type->values.items[i].features);
    }
    for (size_t i = 0; type->kind == TYPE_ALTERNATE && i < type->branches.count; i++)
        note_member(arena, documented, type->branches.items[i].name, type->branches.items[i].at);
}

/* What of an entity can be documented; doc stays NULL if it is not. */
static void list_entity(struct builder *builder, const struct entity *entity, struct documented *documented)
{
    struct arena *arena = builder->compilation->arena;
    const struct command *command = entity->command;
    const struct event *event = entity->event;
    const struct type *type = entity->type;
    const struct type *payload = command ? command->arguments : event ? event->data : type;

    documented->role = "member";
    if (type && type->kind != TYPE_OBJECT)
        documented->role = type->kind == TYPE_ENUM ? "value" : "branch";
    documented->doc = command ? command->doc : event ? event->doc : type->doc;
    documented->name = command ? command->name : event ? event->name : type->name;
    documented->at = command ? command->at : event ? event->at : type->at;
    if (!documented->doc)
        return;
    note_features(arena, documented, command ? &command->features : event ? &event->features : &type->features);
    if (payload && (payload == type || payload->implicit))
        note_members(arena, documented, payload);
}

static bool lacks(struct builder *builder, const struct documented *documented, const char *what, const char *name,
                  struct location at)
{
    compilation_error(builder->compilation, documented->at, "%s '%s' lacks documentation", what, name);
    compilation_note(builder->compilation, at, "'%s' is here", name);
    compilation_note(builder->compilation, documented->doc->at, "a line '# @%s: ...' belongs into this comment", name);
    return false;
}

bool builder_check_documented(struct builder *builder, const struct entity *entity)
{
    const struct name_list *exceptions = &builder->program->pragmas.documentation_exceptions;
    struct documented documented = { 0 };
    list_entity(builder, entity, &documented);
    const struct doc *doc = documented.doc;
    if (!doc)
        return true;
    bool exception = names_contain(exceptions->items, exceptions->count, documented.name);
    for (size_t i = 0; i < documented.features.count; i++)
        if (!doc_find(doc->features.items, doc->features.count, documented.features.items[i]))
            return lacks(builder, &documented, "feature", documented.features.items[i], documented.at);
    for (size_t i = 0; i < documented.members.count && !exception; i++)
        if (!doc_find(doc->members.items, doc->members.count, documented.members.items[i]))
            return lacks(builder, &documented, documented.role, documented.members.items[i],
                         documented.places.items[i]);
    return true;
}

static bool check_list(struct builder *builder, const struct doc_entries *entries, const char *const *names,
                       size_t count, const char *what)
{
    for (size_t i = 0; i < entries->count; i++) {
        const struct doc_entry *entry = &entries->items[i];
        struct suggestion suggestion = { 0 };
        if (names_contain(names, count, entry->name))
            continue;
        for (size_t j = 0; j < count; j++)
            if (!doc_find(entries->items, entries->count, names[j]))
                suggestion_consider(&suggestion, entry->name, names[j]);
        compilation_error(builder->compilation, entry->at, "documented %s '%s' does not exist", what, entry->name);
        compilation_suggest(builder->compilation, entry->at, &suggestion);
        return false;
    }
    return true;
}

bool builder_check_docs(struct builder *builder)
{
    for (size_t i = 0; i < builder->model->entities.count; i++) {
        struct documented documented = { 0 };
        list_entity(builder, &builder->model->entities.items[i], &documented);
        if (documented.doc && (!check_list(builder, &documented.doc->members, documented.members.items,
                                           documented.members.count, "member") ||
                               !check_list(builder, &documented.doc->features, documented.features.items,
                                           documented.features.count, "feature")))
            return false;
    }
    return true;
}
