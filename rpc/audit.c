#include "rpc/audit.h"

#include "blockcore/base/memory.h"
#include "rpc/hide.h"
#include "rpc/request.h"
#include "rpc/session.h"
#include "schema/codec/encode.h"
#include "schema/codec/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void append_member(struct text *line, const char *name, const char *value)
{
    if (!value)
        return;
    text_append_string(line, ", ");
    text_append_json(line, name);
    text_append_string(line, ": ");
    text_append_json(line, value);
}

static void append_number(struct text *line, const char *name, uint64_t value)
{
    text_append_string(line, ", ");
    text_append_json(line, name);
    text_append_string(line, ": ");
    text_append_unsigned(line, value);
}

static void append_time(struct text *line)
{
    struct timespec now;
    struct tm utc;
    char date[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    CLEANUP(free) char *text = xasprintf("{\"time\": \"%s.%06ldZ\"", date, now.tv_nsec / 1000);
    text_append_string(line, text);
}

static void append_peer(struct text *line, const struct rpc_peer *peer)
{
    if (peer->has_credentials) {
        append_number(line, "uid", peer->uid);
        append_number(line, "pid", (uint64_t)peer->pid);
    }
    append_member(line, "address", peer->address);
    append_member(line, "tls-name", peer->tls_name);
}

/* Of JSON that is too long, here and below, the begin is shown as a string. */
static void append_id(struct text *line, const char *id)
{
    size_t bytes = strlen(id);
    text_append_string(line, ", \"id\": ");
    if (bytes <= AUDIT_ID_MAX) {
        text_append(line, id, bytes);
        return;
    }
    CLEANUP(free) char *head = xstrndup(id, AUDIT_ID_MAX);
    text_append_json(line, head);
    append_number(line, "id-bytes", bytes);
}

static void shorten_arguments(struct text *line, size_t begin)
{
    size_t bytes = line->length - begin;
    CLEANUP(free) char *head = xstrndup(line->data + begin, AUDIT_ARGUMENTS_MAX);
    line->length = begin;
    text_append_json(line, head);
    append_number(line, "arguments-bytes", bytes);
}

/* It repeats what the client named, however long that was. */
static void append_desc(struct text *line, const char *message)
{
    size_t begin = line->length;
    size_t bytes = strlen(message);
    CLEANUP(free) char *head = xstrndup(message, AUDIT_DESC_MAX);
    append_member(line, "desc", head);
    hide_secrets(line, begin, HIDE_IN_JSON);
    if (bytes > AUDIT_DESC_MAX)
        append_number(line, "desc-bytes", bytes);
}

static void append_arguments(struct text *line, const struct command_context *request)
{
    if (!request->arguments || request->command->arguments->object.count == 0)
        return;
    text_append_string(line, ", \"arguments\": ");
    size_t begin = line->length;
    CLEANUP(error_free)
    struct error *err = encode_value(line, request->command->arguments, request->arguments, ENCODE_REDACT, 0);
    if (err) {
        line->length = begin;
        text_append_string(line, "null");
        return;
    }
    hide_secrets(line, begin, HIDE_IN_JSON);
    if (line->length - begin > AUDIT_ARGUMENTS_MAX)
        shorten_arguments(line, begin);
}

void audit_begin_line(struct text *line, const struct command_context *request)
{
    const struct session *session = request->session;
    append_time(line);
    append_number(line, "number", request->number);
    append_member(line, "client", session->name);
    append_member(line, "role", command_role_name(session->role));
    append_peer(line, &session->peer);
    if (request->id)
        append_id(line, request->id);
    append_member(line, "command", request->command->name);
    append_arguments(line, request);
}

void audit_end_line(struct text *line, const struct command_context *request, uint64_t ns)
{
    char seconds[48];
    append_member(line, "result", request->error ? "error" : "success");
    if (request->error) {
        append_member(line, "class", error_class_name(error_get_class(request->error)));
        append_desc(line, error_message(request->error));
    }
    if (!request->session)
        text_append_string(line, ", \"cancelled\": true");
    (void)snprintf(seconds, sizeof(seconds), ", \"seconds\": %.6f}\n", (double)ns / 1e9);
    text_append_string(line, seconds);
}
