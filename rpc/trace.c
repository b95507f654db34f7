#include "rpc/trace.h"

#include "blockcore/base/memory.h"
#include "rpc/hide.h"
#include "rpc/request.h"
#include "schema/codec/encode.h"

#include <string.h>

static void append_value(struct text *text, const struct type_descriptor *type, const void *value)
{
    size_t begin = text->length;
    CLEANUP(error_free) struct error *err = encode_value(text, type, value, ENCODE_REDACT, 0);
    if (!err)
        return;
    text->length = begin;
    text_append_string(text, "(no value of its type)");
}

static void finish(struct text *text, size_t begin)
{
    hide_secrets(text, begin, HIDE_IN_JSON);
    if (text->length - begin <= TRACE_LINE_MAX)
        return;
    CLEANUP(free) char *end = xasprintf("... (%zu bytes)", text->length - begin);
    text->length = begin + TRACE_LINE_MAX;
    text_append_string(text, end);
}

static void append_id(struct text *text, const struct command_context *request)
{
    if (!request->id)
        return;
    text_append_string(text, ", \"id\": ");
    text_append_string(text, request->id);
}

void trace_request(struct text *text, const struct command_context *request)
{
    size_t begin = text->length;
    text_append_string(text, "--> ");
    if (!request->command) {
        text_append_string(text, "(no command)");
        return;
    }
    text_append_string(text, "{\"execute\": ");
    text_append_json(text, request->command->name);
    if (!request->arguments)
        text_append_string(text, ", (arguments that were not understood)");
    else if (request->command->arguments->object.count > 0) {
        text_append_string(text, ", \"arguments\": ");
        append_value(text, request->command->arguments, request->arguments);
    }
    append_id(text, request);
    text_append_string(text, "}");
    finish(text, begin);
}

static void append_error(struct text *text, const struct error *err)
{
    text_append_string(text, "{\"error\": {\"class\": ");
    text_append_json(text, error_class_name(error_get_class(err)));
    text_append_string(text, ", \"desc\": ");
    text_append_json(text, error_message(err));
    text_append_string(text, "}");
}

/* Constant text and what is encoded elsewhere for its length are not worth the time. */
static bool is_long(const struct command_context *request)
{
    return request->large_reply || (request->command->flags & COMMAND_RAW);
}

void trace_reply(struct text *text, const struct command_context *request, uint64_t ns)
{
    size_t begin = text->length;
    CLEANUP(free)
    char *head =
        xasprintf("<-- %s, %.3f ms: ", request->command ? request->command->name : "(no command)", (double)ns / 1e6);
    text_append_string(text, head);
    if (request->error) {
        append_error(text, request->error);
    } else {
        text_append_string(text, "{\"return\": ");
        if (is_long(request))
            text_append_string(text, "(long)");
        else
            append_value(text, request->command->returns, request->result);
    }
    append_id(text, request);
    text_append_string(text, "}");
    finish(text, begin);
}
