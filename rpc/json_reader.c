#include "rpc/json_reader.h"

#include "blockcore/base/memory.h"
#include "schema/codec/json_builder.h"

#include <stdlib.h>

#define VALUE_BYTES 128 /* what a value or key takes besides its text, about */

struct json_reader {
    struct json_lexer lexer;
    struct json_builder builder;
    struct json_budget *budget;
    size_t bytes;   /* of the message so far */
    size_t charged; /* to the budget, of these */

    bool lost;                /* an error was told; be silent until a message is complete */
    size_t skipping;          /* brackets open in the message that is passed over; 0: none is */
    struct error *kept_error; /* lost and skipping: what will be told if the message turns out to be complete; NULL: it
                               * does not look like one */
};

struct json_reader *json_reader_create(struct json_budget *budget)
{
    struct json_reader *reader = xcalloc(1, sizeof(*reader));
    json_lexer_init(&reader->lexer);
    json_builder_init(&reader->builder, JSON_VALUES_MAX);
    reader->budget = budget;
    return reader;
}

/* Drops the message that was being built, and what it held. */
static void drop_message(struct json_reader *reader)
{
    json_builder_reset(&reader->builder);
    if (reader->budget)
        reader->budget->used -= reader->charged;
    reader->charged = 0;
    reader->bytes = 0;
}

void json_reader_destroy(struct json_reader *reader)
{
    if (!reader)
        return;
    drop_message(reader);
    json_builder_fini(&reader->builder);
    json_lexer_fini(&reader->lexer);
    error_free(reader->kept_error);
    free(reader);
}

void json_reader_wipe(struct json_reader *reader)
{
    json_lexer_wipe(&reader->lexer);
}

void json_message_fini(struct json_message *message, struct json_budget *budget)
{
    json_decref(message->value);
    free(message->id_number);
    if (budget)
        budget->used -= message->bytes;
    *message = (struct json_message){ 0 };
}

static bool opens(enum json_token token)
{
    return token == TOKEN_LBRACE || token == TOKEN_LBRACKET;
}

static bool closes(enum json_token token)
{
    return token == TOKEN_RBRACE || token == TOKEN_RBRACKET;
}

static bool is_separator(enum json_token token)
{
    return closes(token) || token == TOKEN_COMMA || token == TOKEN_COLON;
}

/* Where messages begin and end is not known any more. @err (owned) is what to say about it. */
static struct error *lose(struct json_reader *reader, struct error *err)
{
    drop_message(reader);
    json_lexer_reset(&reader->lexer);
    error_free(steal(&reader->kept_error));
    reader->skipping = 0;
    if (reader->lost) {
        error_free(err);
        return NULL;
    }
    reader->lost = true;
    return err;
}

/* A message is over. @err is passed through. */
static struct error *found(struct json_reader *reader, struct error *err)
{
    json_lexer_reset(&reader->lexer);
    error_free(steal(&reader->kept_error));
    reader->skipping = 0;
    reader->lost = false;
    return err;
}

/* Passes over the rest of the message. @token is its last one that was looked at, @err (owned) what is wrong. */
static struct error *skip_rest(struct json_reader *reader, enum json_token token, struct error *err)
{
    size_t depth = reader->builder.depth + (opens(token) ? 1 : 0) - (closes(token) ? 1 : 0);
    bool tell = !reader->lost || reader->builder.has_member;
    drop_message(reader);
    if (!tell)
        error_free(steal(&err));
    if (depth == 0)
        return tell ? found(reader, err) : lose(reader, NULL);
    json_lexer_skip(&reader->lexer);
    reader->skipping = depth;
    if (!reader->lost)
        return err;
    reader->kept_error = err;
    return NULL;
}

static struct error *skip_token(struct json_reader *reader, enum json_token token)
{
    if (opens(token))
        reader->skipping++;
    if (!closes(token) || --reader->skipping > 0)
        return NULL;
    if (reader->lost && !reader->kept_error)
        return lose(reader, NULL);
    return found(reader, steal(&reader->kept_error));
}

/* A brace that opens a message although another one is open: in input that is passed over, a line that begins with it
 * (a client that left a bracket open would never be answered again otherwise); among garbage, one right behind another.
 */
static bool is_new_beginning(const struct json_reader *reader, enum json_token token)
{
    if (token != TOKEN_LBRACE)
        return false;
    if (reader->skipping)
        return reader->lexer.line_begin;
    return reader->lost && reader->builder.expect == EXPECT_KEY_OR_END;
}

static void begin_anew(struct json_reader *reader)
{
    drop_message(reader);
    json_lexer_reset(&reader->lexer);
    error_free(steal(&reader->kept_error));
    reader->skipping = 0;
}

static struct error *charge(struct json_reader *reader, size_t bytes, size_t values)
{
    size_t max = reader->budget && reader->budget->message_max ? reader->budget->message_max : JSON_MESSAGE_BYTES_MAX;
    reader->bytes += bytes;
    if (reader->bytes > max)
        return error_new(
            "JSON message size limit exceeded: a message may have %zu bytes ('message-bytes' of the limits)", max);
    if (!reader->budget)
        return NULL;
    size_t memory = bytes + values * VALUE_BYTES;
    reader->charged += memory;
    reader->budget->used += memory;
    if (reader->budget->used > reader->budget->max && reader->charged > reader->budget->own)
        return error_new(
            "too much input of all clients waits to be executed: more than %zu bytes ('waiting-input-bytes' "
            "of the limits)",
            reader->budget->max);
    return NULL;
}

static struct error *check_depth(const struct json_reader *reader, enum json_token token)
{
    size_t max = reader->budget ? reader->budget->depth_max : 0;
    if (max == 0 || !opens(token) || reader->builder.depth < max)
        return NULL;
    return error_new("JSON nesting depth limit exceeded: %zu levels ('nesting' of the limits)", max);
}

/* Between messages: anything but the beginning of one. */
static struct error *not_a_message(struct json_reader *reader, enum json_token token)
{
    if (token == TOKEN_BAD)
        return lose(reader, error_new("JSON parse error, %s", reader->lexer.message));
    if (is_separator(token))
        return lose(reader, error_new("JSON parse error, expecting value"));
    return lose(reader, error_new("QMP input must be a JSON object"));
}

/* Part of a token: it is only counted. */
static struct error *take_part(struct json_reader *reader, size_t bytes)
{
    bool empty = json_builder_is_empty(&reader->builder);
    if (reader->skipping || (empty && reader->lexer.state == LEX_BETWEEN))
        return NULL;
    struct error *err = charge(reader, bytes, 0);
    if (!err)
        return NULL;
    return empty ? lose(reader, err) : skip_rest(reader, TOKEN_MORE, err);
}

static struct error *take_token(struct json_reader *reader, enum json_token token, size_t bytes)
{
    if (token == TOKEN_STRAY)
        return lose(reader, error_new("JSON parse error, %s", reader->lexer.message));
    if (token == TOKEN_MORE)
        return take_part(reader, bytes);
    if (is_new_beginning(reader, token))
        begin_anew(reader);
    if (reader->skipping)
        return skip_token(reader, token);
    if (json_builder_is_empty(&reader->builder) && !opens(token))
        return not_a_message(reader, token);

    struct error *err = charge(reader, bytes, is_separator(token) ? 0 : 1);
    if (!err)
        err = check_depth(reader, token);
    if (!err)
        err = json_builder_take(&reader->builder, token, &reader->lexer);
    return err ? skip_rest(reader, token, err) : NULL;
}

/* A value is complete. JSON_READ_MORE: nothing is said about it. */
static enum json_reader_result end_message(struct json_reader *reader, struct json_message *message, struct error **err)
{
    if (reader->lost && !reader->builder.has_member) {
        lose(reader, NULL);
        return JSON_READ_MORE;
    }
    if (!json_is_object(reader->builder.root)) {
        drop_message(reader);
        *err = found(reader, error_new("QMP input must be a JSON object"));
        return JSON_READ_ERROR;
    }
    *message = (struct json_message){
        .value = steal(&reader->builder.root),
        .id_number = steal(&reader->builder.id_number),
        .bytes = reader->charged,
    };
    reader->charged = 0; /* it goes with the message */
    drop_message(reader);
    found(reader, NULL);
    return JSON_READ_MESSAGE;
}

enum json_reader_result json_reader_next(struct json_reader *reader, const char **at, const char *end,
                                         struct json_message *message, struct error **err)
{
    while (*at < end) {
        const char *begin = *at;
        enum json_token token = json_lexer_next(&reader->lexer, at, end);
        *err = take_token(reader, token, (size_t)(*at - begin));
        if (*err)
            return JSON_READ_ERROR;
        if (!json_builder_is_complete(&reader->builder))
            continue;
        enum json_reader_result result = end_message(reader, message, err);
        if (result != JSON_READ_MORE)
            return result;
    }
    return JSON_READ_MORE;
}
