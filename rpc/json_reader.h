/* json_reader - messages out of a stream of bytes
 *
 * QMP messages are JSON objects one after the other, with or without anything between them. The reader feeds each byte
 * once through the lexer and builds the value as tokens come, so its cost is linear however the stream is cut.
 *
 * Input that makes no sense gets one error; then the reader is silent until it makes sense again. What is sensible is
 * decided by how the input goes on:
 *
 *     in a message, bad token, bad order or too large: an error; the rest, up to the bracket that closes it, is passed
 *         over (or up to a line that begins with '{', where nothing closes it)
 *     a stray byte (control character, 0xFF), or anything but an object between messages: an error; then lost
 *     lost: each '{' begins an attempt. If it ends before its bracket closes, or has no member, that is garbage too,
 * and nothing is said. Otherwise input makes sense again: a message, or an error of its own.
 *
 * A client that has sent half a message and wants to begin anew sends a control character or 0xFF (QMP specification,
 * "Forcing the JSON parser into known-good state").
 *
 * A pure function of its state and the bytes: no I/O. */
#ifndef CAIRN_RPC_JSON_READER_H
#define CAIRN_RPC_JSON_READER_H

#include "blockcore/base/error.h"

#include <jansson.h>
#include <stddef.h>

#define JSON_MESSAGE_BYTES_MAX (64 * 1024 * 1024)

/* Memory for input that several readers hold together, in bytes, about. What is small is taken in any case: clients
 * that stop in the middle of large messages take nothing from those who send commands. */
struct json_budget {
    size_t used;
    size_t max;
    size_t own;         /* of a message, this much may go beyond @max */
    size_t message_max; /* bytes of a message; 0: JSON_MESSAGE_BYTES_MAX */
    size_t depth_max;   /* objects and arrays inside each other; 0: as many as the builder takes */
};

struct json_message {
    json_t *value;   /* an object */
    char *id_number; /* member "id" as written, if it is a number that json_t cannot hold exactly; else NULL */
    size_t bytes;    /* charged to the budget */
};

enum json_reader_result {
    JSON_READ_MORE,    /* all bytes are used up */
    JSON_READ_MESSAGE, /* *message is one; the caller owns it */
    JSON_READ_ERROR,   /* *err says what is wrong with the input */
};

struct json_reader;

/* @budget may be NULL; it outlives the reader and its messages. */
struct json_reader *json_reader_create(struct json_budget *budget);
/* NULL is allowed. */
void json_reader_destroy(struct json_reader *reader);

/* The next message or error in [*at, end); moves *at behind it. */
enum json_reader_result json_reader_next(struct json_reader *reader, const char **at, const char *end,
                                         struct json_message *message, struct error **err);

/* Overwrites what is left of the last message: there was a secret in it. */
void json_reader_wipe(struct json_reader *reader);

/* Frees the content and returns its charge to @budget (may be NULL). Recursive as deep as the message: on a thread's
 * own stack, not on a coroutine's. */
void json_message_fini(struct json_message *message, struct json_budget *budget);

#endif
