/* What the parts of the model's builder share. */
#ifndef SCHEMAC_MODEL_PRIVATE_H
#define SCHEMAC_MODEL_PRIVATE_H

#include "schema/compiler/model.h"
#include "schema/compiler/names.h"

struct builder {
    struct compilation *compilation;
    const struct program *program;
    struct model *model;
    struct names types;               /* schema name -> struct type */
    struct names defined;             /* a definition's name -> struct definition */
    struct names features;            /* names of features */
    struct location one_feature_more; /* than there may be; line 0: none */
    struct names c_names;             /* C form of a definition's name -> struct definition */
    struct names c_tags;              /* struct and enum tags -> struct type */
    struct names c_constants;
    unsigned nesting; /* types that are being resolved */
};

/* Who is spoken of in a message: "member" and "size", or "'base'" and NULL. */
struct subject {
    const char *role;
    const char *name;
};
const char *builder_subject(struct builder *builder, struct subject subject);

struct type *builder_new_type(struct builder *builder, enum type_kind kind, const char *name, const char *c_name);

/* "struct type 'Foo'" */
const char *builder_describe(struct builder *builder, const struct type *type);

/* The type that a schema value names, arrays included; reports an unknown name at @at. @subject is who asks. */
struct type *builder_type(struct builder *builder, struct location at, const struct syntax *name,
                          struct subject subject);

/* The array of a type. */
struct type *builder_array(struct builder *builder, struct type *element);

/* An object made of members that stand inside another definition. */
struct type *builder_implicit_object(struct builder *builder, const struct syntax *members, const char *name,
                                     const char *c_name, const struct definition *owner);

const struct condition *builder_condition(struct builder *builder, const struct syntax *object);
void builder_features(struct builder *builder, const struct syntax *object, struct features *features);

/* No feature twice. @at is where an error is reported, @subject is what has them. */
bool builder_check_features(struct builder *builder, struct location at, const struct features *features,
                            struct subject subject);

/* Bases, members, discriminators and branches of a type, and of those it is made of. */
bool builder_resolve_type(struct builder *builder, struct type *type);

/* Arguments and results of commands and events. */
bool builder_resolve_command(struct builder *builder, struct command *command, const struct definition *definition);
bool builder_resolve_event(struct builder *builder, struct event *event, const struct definition *definition);

/* Whether what exists in an entity is documented, if it has documentation. */
bool builder_check_documented(struct builder *builder, const struct entity *entity);

/* Whether what is documented exists. */
bool builder_check_docs(struct builder *builder);

/* A member or scalar that language 1 may add something to. */
struct extended {
    struct builder *builder;
    struct location definition_at; /* where errors are reported */
    struct subject subject;
    const struct syntax *syntax; /* the object that has the keys */
    struct type *type;
    const struct module *module;
};

bool builder_extend_member(const struct extended *extended, struct member *member);
bool builder_constraints(const struct extended *extended, const struct constraints **result);
/* The alternate of a type and null; NULL after an error. */
struct type *builder_nullable(const struct extended *extended, struct type *type);
bool builder_declare_errors(struct builder *builder, struct command *command, const struct definition *definition);
bool builder_limit_rate(struct builder *builder, struct event *event, const struct definition *definition);

#endif
