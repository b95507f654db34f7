/* syntax - what the files say, before anything is known of its meaning
 *
 * The parser turns each file into expressions, follows includes, and applies pragmas. The result is a list of
 * definitions in the order in which they stand, an included file's standing where it is included first. */
#ifndef SCHEMAC_SYNTAX_H
#define SCHEMAC_SYNTAX_H

#include "schema/compiler/doc.h"
#include "schema/compiler/source.h"
#include "schema/compiler/vector.h"

#include <stdint.h>

enum syntax_kind {
    SYNTAX_OBJECT,
    SYNTAX_ARRAY,
    SYNTAX_STRING,
    SYNTAX_BOOL,
    SYNTAX_NUMBER, /* only under language 1 */
};

/* A number as the schema writes it. */
struct number {
    bool integer;
    bool negative;
    uint64_t magnitude; /* if @integer */
    double real;        /* the same value, as near as can be */
};

struct syntax_pair {
    const char *key;
    struct location at;
    struct syntax *value;
};

struct syntax {
    enum syntax_kind kind;
    struct location at;
    VECTOR(struct syntax_pair) pairs; /* SYNTAX_OBJECT: keys are unique */
    VECTOR(struct syntax *) items;    /* SYNTAX_ARRAY */
    const char *string;               /* SYNTAX_STRING */
    bool boolean;                     /* SYNTAX_BOOL */
    struct number number;             /* SYNTAX_NUMBER */
};

/* A file whose definitions form one module; number 0 is that of the built-in types. */
struct module {
    const char *path;
    unsigned number;
};

struct definition {
    struct syntax *body;
    const char *meta; /* "struct", "union", ...; NULL before the shapes are checked */
    const char *name;
    struct doc *doc; /* NULL if there is none */
    const struct module *module;
};

struct name_list {
    const char **items;
    size_t count;
    size_t capacity;
};

struct pragmas {
    unsigned language; /* 0: QEMU's language and no more */
    bool doc_required;
    struct name_list command_name_exceptions;
    struct name_list command_returns_exceptions;
    struct name_list documentation_exceptions;
    struct name_list member_name_exceptions;
};

struct program {
    VECTOR(struct definition *) definitions;
    VECTOR(struct module *) modules; /* in the order in which they are entered: a file before those it includes */
    VECTOR(const struct source *) sources;
    VECTOR(struct doc *) docs; /* in the order in which they stand, those about no definition included */
    struct pragmas pragmas;
};

enum {
    LANGUAGE_NEWEST = 1,
    SYNTAX_DEPTH_MAX = 64,
    SYNTAX_KEYS_MAX = 1024,     /* of one object */
    SYNTAX_ITEMS_MAX = 1 << 16, /* of one array */
    DEFINITIONS_MAX = 1 << 20,
};

/* Reads @path and what it includes. False after an error, which was reported. */
bool program_parse(struct program *program, struct compilation *compilation, const char *path);

/* The same with a main file that is in memory. */
bool program_parse_source(struct program *program, struct compilation *compilation, struct source *source);

/* The pair of a key, or NULL. */
const struct syntax_pair *syntax_find(const struct syntax *object, const char *key);

/* The value of a key, or NULL. */
struct syntax *syntax_get(const struct syntax *object, const char *key);

/* Whether a list of names contains @name. */
bool names_contain(const char *const *names, size_t count, const char *name);

#endif
