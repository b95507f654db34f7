/* syntax - what the files say, before anything is known of its meaning
 *
 * The parser turns each file into expressions, follows includes, and applies pragmas. The result is a list of
 * definitions in the order in which they stand, an included file's standing where it is included first. */
#ifndef SCHEMAC_SYNTAX_H
#define SCHEMAC_SYNTAX_H

#include "schema/compiler/doc.h"
#include "schema/compiler/source.h"
#include "schema/compiler/vector.h"

enum syntax_kind {
    SYNTAX_OBJECT,
    SYNTAX_ARRAY,
    SYNTAX_STRING,
    SYNTAX_BOOL,
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

struct pragmas {
    bool doc_required;
    VECTOR(const char *) command_name_exceptions;
    VECTOR(const char *) command_returns_exceptions;
    VECTOR(const char *) documentation_exceptions;
    VECTOR(const char *) member_name_exceptions;
};

struct program {
    VECTOR(struct definition *) definitions;
    VECTOR(struct module *) modules; /* in the order in which they are entered: a file before those it includes */
    VECTOR(const struct source *) sources;
    struct pragmas pragmas;
};

enum {
    SYNTAX_DEPTH_MAX = 64,
    DEFINITIONS_MAX = 1 << 20,
};

/* Reads @path and what it includes. False after an error, which was reported. */
bool program_parse(struct program *program, struct compilation *compilation, const char *path);

/* The same with a main file that is in memory. */
bool program_parse_source(struct program *program, struct compilation *compilation, struct source *source);

/* The value of a key, or NULL. */
struct syntax *syntax_get(const struct syntax *object, const char *key);

/* Whether a list of names contains @name. */
bool names_contain(const char *const *names, size_t count, const char *name);

#endif
