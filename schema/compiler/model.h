/* model - what a schema means
 *
 * Every name is resolved to what it names, bases and branches are in place, and nothing is left to check: back ends
 * read the model and write, they never fail. */
#ifndef SCHEMAC_MODEL_H
#define SCHEMAC_MODEL_H

#include "schema/compiler/syntax.h"

#include <stdint.h>

enum condition_kind {
    CONDITION_NAME,
    CONDITION_ALL,
    CONDITION_ANY,
    CONDITION_NOT,
};

/* NULL stands for "always". */
struct condition {
    enum condition_kind kind;
    const char *name; /* CONDITION_NAME */
    VECTOR(const struct condition *) operands;
};

struct feature {
    const char *name;
    const struct condition *condition;
};

struct features {
    VECTOR(struct feature) list;
};

/* Bytes that may stand at a place, and how often. */
struct pattern_item {
    uint32_t set[8];           /* bit b of set[b / 32]: byte b may stand here */
    uint32_t minimum, maximum; /* repetitions; PATTERN_UNBOUNDED as maximum: any number */
};

enum {
    PATTERN_UNBOUNDED = UINT32_MAX,
};

/* The whole string is one item after the other. */
struct pattern {
    const char *text; /* as written; also valid, and of the same meaning, as ^(?:text)$ in ECMAScript and POSIX EREs */
    VECTOR(struct pattern_item) items;
};

/* What a value must be beyond its type. Only under 'language': 1. */
struct constraints {
    bool has_minimum, has_maximum;   /* integers and numbers */
    struct number minimum, maximum;  /* inclusive */
    uint64_t multiple_of;            /* integers; 0: any */
    uint32_t min_length, max_length; /* strings, in bytes; 0 and UINT32_MAX: any */
    const struct pattern *pattern;   /* strings; NULL: any */
};

/* A default. Its kind is that of the member's type: BUILTIN_STR, BUILTIN_BOOL, BUILTIN_INT, BUILTIN_SIZE,
 * BUILTIN_NUMBER; of an enum, the value's index. */
struct literal {
    const char *string; /* strings; for an enum the name of the value */
    bool boolean;
    struct number number;
    size_t enum_index;
};

/* Who may use a command. Each role includes those before it. */
enum command_role {
    ROLE_READ,    /* sees, changes nothing */
    ROLE_OPERATE, /* works with what is configured */
    ROLE_ADMIN,   /* everything; what a command needs that does not say */
};

enum type_kind {
    TYPE_BUILTIN,
    TYPE_ENUM,
    TYPE_ARRAY,
    TYPE_OBJECT,
    TYPE_ALTERNATE,
};

enum builtin_kind {
    BUILTIN_STR,
    BUILTIN_NUMBER,
    BUILTIN_INT, /* all widths */
    BUILTIN_SIZE,
    BUILTIN_BOOL,
    BUILTIN_NULL,
    BUILTIN_ANY,
};

struct builtin {
    const char *name;
    enum builtin_kind kind;
    const char *json_type;
    const char *c_type;
    const char *descriptor; /* of the codec */
};

struct enum_value {
    const char *name;
    const char *c_name; /* the whole constant */
    struct location at;
    const struct condition *condition;
    struct features features;
};

struct member {
    const char *name;
    const char *c_name;
    struct location at;
    struct type *type;
    bool optional;
    const struct condition *condition;
    struct features features;
    const struct constraints *constraints; /* beside those of a named scalar; NULL: none */
    const struct literal *default_value;   /* takes the place of an optional member that is absent; NULL: none */
    bool secret;                           /* must not appear in logs */
    bool nullable;                         /* @type is the implicit alternate of the type written and null */
};

/* What a value of the discriminator adds. */
struct branch {
    const char *name;
    const char *c_name;
    struct location at;
    struct type *type; /* an object; for an alternate any type but another alternate */
    const struct condition *condition;
    size_t enum_index; /* which value of the discriminator's enum */
};

struct type {
    enum type_kind kind;
    const char *name;
    const char *c_name; /* the tag, without "struct" */
    struct location at;
    const struct condition *condition;
    struct features features;
    const struct module *module;
    const struct doc *doc;
    bool implicit;   /* arguments or data that stand inside a command or event, or a union's base */
    bool needs_list; /* ARRAY: a struct of items and count is used somewhere */

    const struct builtin *builtin; /* BUILTIN */
    struct type *plain;            /* BUILTIN: NULL unless it is a named scalar: the built-in type that it restricts */
    const struct constraints *constraints; /* BUILTIN that is a named scalar; NULL: none */
    VECTOR(struct enum_value) values;      /* ENUM */
    const char *constant_prefix;           /* ENUM */
    struct type *element;                  /* ARRAY */
    struct type *array;                    /* the array of this type, if one is used */
    struct type *base;                     /* OBJECT, may be NULL */
    VECTOR(struct member) members;         /* OBJECT: own members; after resolution, those of the base come first */
    const char *discriminator;             /* OBJECT: NULL unless it is a union */
    size_t tag;                            /* OBJECT: index of the discriminator in members */
    VECTOR(struct branch) branches;        /* OBJECT, ALTERNATE */

    /* What the builder needs: */
    VECTOR(const struct member *) reachable; /* OBJECT: members of branches and of their branches, each name once */
    unsigned union_depth; /* OBJECT: unions that are branches of unions from here on; 0: it is no union */

    const struct syntax *body; /* what it was made from, until it is resolved */
    enum { TYPE_UNRESOLVED, TYPE_RESOLVING, TYPE_RESOLVED } state;
    bool emitted; /* for back ends that write in the order of dependence */
};

struct declared_error {
    const char *name; /* a value of the enum QapiErrorClass */
    struct location at;
    size_t enum_index;
};

struct command {
    const char *name;
    const char *c_name;
    struct location at;
    struct type *arguments; /* NULL: none */
    struct type *returns;   /* NULL: none */
    bool boxed, raw, success_response, allow_oob, allow_preconfig, coroutine;
    enum command_role role;
    bool errors_declared;
    VECTOR(struct declared_error) errors; /* classes it may fail with; without @errors_declared any */
    const struct condition *condition;
    struct features features;
    const struct module *module;
    const struct doc *doc;
};

struct event {
    const char *name;
    const char *c_name;
    struct location at;
    struct type *data; /* NULL: none */
    bool boxed;
    uint32_t rate_limit_ms;         /* at most one in this time; 0: no limit */
    VECTOR(size_t) rate_limit_keys; /* indexes of members of @data: events that differ in them don't count together */
    const struct condition *condition;
    struct features features;
    const struct module *module;
    const struct doc *doc;
};

/* A command, an event or a type, in the order of definition. */
struct entity {
    struct command *command;
    struct event *event;
    struct type *type;
    const struct module *module;
};

struct model {
    struct compilation *compilation;
    const struct program *program;
    VECTOR(struct entity) entities; /* module by module, as QEMU's generator visits them */
    VECTOR(struct type *) types;    /* all of them, those that were built on demand included */
    struct type *empty;             /* an object without members */
    struct type *integer;           /* what all integers are to clients */
};

enum {
    FEATURES_MAX = 64,   /* names of features in a schema, the special ones included, as in QEMU */
    MEMBERS_MAX = 1000,  /* of one object, with those of its bases */
    UNION_DEPTH_MAX = 8, /* unions that are branches of unions; the codec relies on it */
    NESTING_MAX = 64,    /* bases of bases, branches of branches */
};

/* Builds the model of a checked program. False after an error, which was reported. */
bool model_build(struct model *model, struct compilation *compilation, const struct program *program);

/* "object", "array", "string", "int", "number", "boolean", "null" or "value". */
const char *type_json_type(const struct type *type);

/* Whether an optional member of this type needs a bool beside it: for the others a NULL pointer says that it is absent.
 */
bool type_needs_has(const struct type *type);

bool features_contain(const struct features *features, const char *name);

/* Whether an object has neither members nor branches. */
bool type_is_empty(const struct type *type);

#endif
