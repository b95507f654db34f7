/* What the parts of the model's builder share. */
#ifndef SCHEMAC_MODEL_PRIVATE_H
#define SCHEMAC_MODEL_PRIVATE_H

#include "schema/compiler/model.h"

/* A map from strings to pointers; grows inside an arena. */
struct name_slot {
    const char *name;
    void *value;
};

struct names {
    struct name_slot *slots;
    size_t count;
    size_t capacity; /* a power of two */
};

/* NULL if there is none. */
void *names_get(const struct names *names, const char *name);
/* The value that stood there before, which stays, or NULL. */
void *names_add(struct names *names, struct arena *arena, const char *name, void *value);

struct builder {
    struct compilation *compilation;
    const struct program *program;
    struct model *model;
    struct names types;   /* schema name -> struct type */
    struct names defined; /* C form of a definition's name -> struct definition_place */
    struct names c_tags;  /* struct and enum tags -> struct type */
    struct names c_constants;
    unsigned nesting; /* types that are being resolved */
};

/* The type that a schema value names, arrays included; reports an unknown name. @what says who asks. */
struct type *builder_type(struct builder *builder, struct location at, const struct syntax *name, const char *what);

/* The array of a type. */
struct type *builder_array(struct builder *builder, struct type *element);

/* An object made of members that stand inside another definition. */
struct type *builder_implicit_object(struct builder *builder, const struct syntax *members, const char *name,
                                     const char *c_name, const struct definition *owner);

const struct condition *builder_condition(struct builder *builder, const struct syntax *object);
void builder_features(struct builder *builder, const struct syntax *object, struct features *features);

/* Bases, members, discriminators and branches of all types. */
bool builder_resolve_types(struct builder *builder);

/* Arguments and results of commands and events. */
bool builder_resolve_command(struct builder *builder, struct command *command, const struct definition *definition);
bool builder_resolve_event(struct builder *builder, struct event *event, const struct definition *definition);

/* Whether what is documented exists, and what exists is documented. */
bool builder_check_docs(struct builder *builder);

#endif
