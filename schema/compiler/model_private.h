/* What the parts of the model's builder share. */
#ifndef SCHEMAC_MODEL_PRIVATE_H
#define SCHEMAC_MODEL_PRIVATE_H

#include "schema/compiler/model.h"
#include "schema/compiler/names.h"

struct array_use;

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
    unsigned nesting;    /* types that are being resolved */
    struct names arrays; /* name of an element -> struct array_use: where the array stands first */
    VECTOR(const struct array_use *) array_uses; /* the same, in the order of definition */
    size_t arrays_checked;                       /* of array_uses */
    size_t turn;                                 /* which definition is being resolved */
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

/* The type of that name, or NULL. */
struct type *builder_find_type(struct builder *builder, const char *name);

/* Reports that there is no type @name; returns false. */
bool builder_unknown_type(struct builder *builder, struct location at, const struct syntax *name,
                          struct subject subject);

/* The array of a type. */
struct type *builder_array(struct builder *builder, struct type *element);

/* The same by name of the element, whose absence is reported elsewhere. */
struct type *builder_array_of(struct builder *builder, const char *element);

/* The array type of that name, "FooList", if [ 'Foo' ] stands anywhere or Foo is built in; else NULL. */
struct type *builder_find_array(struct builder *builder, const char *name);

/* After an error about @name: a note, if it is the name of an array that stands nowhere. */
void builder_note_array_form(struct builder *builder, struct location at, const char *name);

/* Notes which arrays stand in a definition; it is the next one that becomes an entity. */
void builder_note_arrays(struct builder *builder, const struct definition *definition);

/* Whether the elements of the arrays that stand first in this definition exist. It has its turn now. */
bool builder_check_arrays(struct builder *builder, size_t definition);

/* Whether an array stands first in a definition that has not had its turn. */
bool builder_array_is_later(const struct builder *builder, const struct type *array);

/* Features of a type: no special ones, none twice. */
bool builder_check_type_features(struct builder *builder, const struct type *type);

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
