/* command - the table through which requests find their handlers
 *
 * The compiler writes one entry per command, with a small function that gives the untyped values their types. A handler
 * that is missing is an error of the linker. */
#ifndef CAIRN_SCHEMA_COMMAND_H
#define CAIRN_SCHEMA_COMMAND_H

#include "blockcore/base/annotations.h"
#include "schema/codec/descriptor.h"

struct arena;
struct error;

/* What a command knows of the session that sent it; defined by rpc/. */
struct command_context;

/* The arena of the request: results are built in it, and it lives until the reply is written. Defined by rpc/. */
struct arena *command_arena(struct command_context *context);

enum command_flags {
    COMMAND_ALLOW_OOB = 1 << 0,
    COMMAND_NO_RESPONSE = 1 << 1, /* success is not answered */
    COMMAND_DEPRECATED = 1 << 2,
    COMMAND_UNSTABLE = 1 << 3,
    COMMAND_RAW = 1 << 4, /* the result is a struct json_text that is sent as it is */
};

struct command_descriptor {
    const char *name;
    unsigned flags;                          /* enum command_flags */
    const struct type_descriptor *arguments; /* an object; codec_empty if there are none */
    const struct type_descriptor *returns;   /* NULL: {} */
    /* @arguments: as decoded. @result: returns->size bytes, zeroed, to be filled on success. Error: owned by the
     * caller. */
    struct error *(*invoke)(struct command_context *context, const void *arguments, void *result)CO_FN;
};

struct command_table {
    const struct command_descriptor *commands; /* sorted by name, as strcmp() does */
    size_t count;
};

/* NULL if there is none of that name. */
const struct command_descriptor *command_find(const struct command_table *table, const char *name);

#endif
