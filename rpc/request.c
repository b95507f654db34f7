#include "rpc/request.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/pool.h"
#include "schema/codec/decode.h"
#include "schema/codec/encode.h"
#include "schema/codec/json_tree.h"

#include <string.h>

static struct command_context *request_new(struct session *session)
{
    struct command_context *request = xcalloc(1, sizeof(*request));
    list_init(&request->link);
    list_init(&request->in_flight);
    request->session = session;
    arena_init(&request->arena, REQUEST_ARENA_MAX);
    return request;
}

struct command_context *request_create_error(struct session *session, struct error *err)
{
    struct command_context *request = request_new(session);
    request->error = err;
    request->malformed = true;
    return request;
}

static char *id_text(struct json_message *message)
{
    const json_t *id = json_object_get(message->value, "id");
    if (!id)
        return NULL;
    if (message->id_number)
        return steal(&message->id_number);
    if (json_is_integer(id))
        return xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(id));
    struct text text = { 0 };
    text_append_tree(&text, id);
    text_append(&text, "", 1);
    return text.data;
}

/* What a message says besides its id. */
struct envelope {
    bool may_be_oob;
    bool oob;
    const char *command;
    const json_t *arguments; /* NULL: none */
};

static struct error *read_command(struct envelope *envelope, const char *key, const json_t *value)
{
    const char *name = json_wide_digits(value) ? NULL : json_string_value(value);
    if (!name)
        return error_new("QMP input member '%s' must be a string", key);
    if (envelope->command)
        return error_new("QMP input member '%s' clashes with '%s'", key, envelope->oob ? "exec-oob" : "execute");
    envelope->command = name;
    envelope->oob = strcmp(key, "exec-oob") == 0;
    return NULL;
}

static struct error *read_member(struct envelope *envelope, const char *key, const json_t *value)
{
    if (strcmp(key, "id") == 0)
        return NULL;
    if (strcmp(key, "execute") == 0 || (envelope->may_be_oob && strcmp(key, "exec-oob") == 0))
        return read_command(envelope, key, value);
    if (strcmp(key, "arguments") == 0) {
        envelope->arguments = value;
        return json_is_object(value) ? NULL : error_new("QMP input member 'arguments' must be an object");
    }
    return error_new("QMP input member '%s' is unexpected", key);
}

/* The texts are those that users of QMP know. */
static struct error *read_envelope(json_t *message, struct envelope *envelope)
{
    const char *key;
    json_t *value;
    json_object_foreach(message, key, value)
    {
        struct error *err = read_member(envelope, key, value);
        if (err)
            return err;
    }
    if (!envelope->command)
        return error_new("QMP input lacks member 'execute'");
    return NULL;
}

/* Decodes the arguments and makes room for the result. */
static struct error *resolve(struct command_context *request, const struct command_table *table,
                             const struct envelope *envelope)
{
    request->command = command_find(table, envelope->command);
    if (!request->command)
        return error_new_class(ERROR_COMMAND_NOT_FOUND, "The command %.80s has not been found", envelope->command);
    if (envelope->oob && command_kind(request->command) != COMMAND_OOB)
        return error_new("The command %s does not support OOB", request->command->name);
    void *arguments = NULL;
    struct error *err = decode_value(request->command->arguments, envelope->arguments, DECODE_JSON, "arguments",
                                     &request->arena, &arguments, NULL);
    request->arguments = arguments;
    return err;
}

struct command_context *request_create(struct session *session, const struct command_table *table, bool oob,
                                       struct json_message *message)
{
    struct command_context *request = request_new(session);
    request->id = id_text(message);
    struct envelope envelope = { .may_be_oob = oob };
    request->error = read_envelope(message->value, &envelope);
    request->malformed = request->error != NULL;
    request->oob = envelope.oob && !request->malformed;
    if (!request->error)
        request->error = resolve(request, table, &envelope);
    /* What was not understood may hold one too. */
    request->secret = request->error || request->arena.secret;
    if (request->secret)
        json_wipe_strings(message->value);
    request->charged = message->bytes;
    message->bytes = 0;
    json_message_fini(message, NULL);
    return request;
}

void request_destroy(struct command_context *request)
{
    error_free(request->error);
    free(request->id);
    free(request->client);
    arena_fini(&request->arena);
    free(request);
}

void request_invoke(struct command_context *request)
{
    if (request->error)
        return;
    const struct command_descriptor *command = request->command;
    if (command->returns)
        request->result = arena_alloc(&request->arena, command->returns->size);
    request->error = command->invoke(request, request->arguments, request->result);
}

struct arena *command_arena(struct command_context *context)
{
    return &context->arena;
}

/* The reply -------------------------------------------------------------------------------------------------- */

struct writer {
    struct text *text;
    bool pretty;
};

static void begin_member(struct writer *writer, const char *key, bool first)
{
    if (!first)
        text_append(writer->text, ",", 1);
    if (writer->pretty)
        text_append_string(writer->text, "\n    ");
    else if (!first)
        text_append(writer->text, " ", 1);
    text_append_json(writer->text, key);
    text_append(writer->text, ": ", 2);
}

static void write_error(struct writer *writer, const struct error *err)
{
    const char *gap = writer->pretty ? "\n        " : "";
    text_append_string(writer->text, "{");
    text_append_string(writer->text, gap);
    text_append_string(writer->text, "\"class\": ");
    text_append_json(writer->text, error_class_name(error_get_class(err)));
    text_append_string(writer->text, writer->pretty ? "," : ", ");
    text_append_string(writer->text, gap);
    text_append_string(writer->text, "\"desc\": ");
    text_append_json(writer->text, error_message(err));
    text_append_string(writer->text, writer->pretty ? "\n    }" : "}");
}

/* An error means that a handler built something that is no value of its type. */
static struct error *write_result(struct writer *writer, const struct command_context *request)
{
    begin_member(writer, "return", true);
    return encode_value(writer->text, request->command->returns, request->result, writer->pretty ? ENCODE_PRETTY : 0,
                        1);
}

bool request_reply(const struct command_context *request, bool pretty, struct text *text)
{
    if (!request->error && (request->command->flags & COMMAND_NO_RESPONSE))
        return true;
    struct writer writer = { .text = text, .pretty = pretty };
    text_append(text, "{", 1);
    size_t begin = text->length;
    CLEANUP(error_free) struct error *encoding = request->error ? NULL : write_result(&writer, request);
    const struct error *err = request->error ? request->error : encoding;
    if (err) {
        text->length = begin;
        begin_member(&writer, "error", true);
        write_error(&writer, err);
    }
    if (request->id) {
        begin_member(&writer, "id", false);
        text_append_string(text, request->id);
    }
    text_append_string(text, pretty ? "\n}\r\n" : "}\r\n");
    return !encoding;
}

struct reply_task {
    const struct command_context *request;
    bool pretty;
    struct text *text;
    bool good;
};

static int run_reply_task(void *arg)
{
    struct reply_task *task = arg;
    task->good = request_reply(task->request, task->pretty, task->text);
    return 0;
}

bool request_reply_on_pool(const struct command_context *request, bool pretty, struct text *text)
{
    struct reply_task task = { .request = request, .pretty = pretty, .text = text };
    (void)co_blocking(NULL, run_reply_task, &task);
    return task.good;
}
