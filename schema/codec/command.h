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

/* How a command runs. */
enum command_kind {
    COMMAND_SYNC,      /* on the control thread, without awaiting anything */
    COMMAND_COROUTINE, /* in a coroutine, may await; the session's next command waits for it */
    COMMAND_OOB,       /* as COMMAND_SYNC; where clients may ask for it, also while another one is awaited */
};

/* Who may use a command. Each role includes those before it. */
enum command_role {
    COMMAND_READ,    /* sees, changes nothing */
    COMMAND_OPERATE, /* works with what is configured */
    COMMAND_ADMIN,   /* everything */
};

enum command_flags {
    COMMAND_ALLOW_OOB = 1 << 0,
    COMMAND_NO_RESPONSE = 1 << 1, /* success is not answered */
    COMMAND_DEPRECATED = 1 << 2,
    COMMAND_UNSTABLE = 1 << 3,
    COMMAND_RAW = 1 << 4, /* the result is a struct json_text that is sent as it is */
    COMMAND_MAY_AWAIT = 1 << 5,
    COMMAND_ROLE_READ = 0, /* bits 6 and 7: command_role() */
    COMMAND_ROLE_OPERATE = 1 << 6,
    COMMAND_ROLE_ADMIN = 2 << 6,
    COMMAND_ERRORS_DECLARED = 1 << 8, /* fails with no other classes than those of bits 16 and above */
};

/* Bit of an enum error_class. */
#define COMMAND_ERROR(error_class) (1u << (16 + (error_class)))

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

static inline enum command_kind command_kind(const struct command_descriptor *command)
{
    if (command->flags & COMMAND_MAY_AWAIT)
        return COMMAND_COROUTINE;
    return command->flags & COMMAND_ALLOW_OOB ? COMMAND_OOB : COMMAND_SYNC;
}

static inline enum command_role command_role(const struct command_descriptor *command)
{
    return (enum command_role)(command->flags >> 6 & 3);
}

/* "read", "operate", "admin". */
const char *command_role_name(enum command_role role);

/* NULL if there is none of that name. */
const struct command_descriptor *command_find(const struct command_table *table, const char *name);

#endif
