#include "clients/c/client.h"

#include "blockcore/base/memory.h"
#include "clients/c/frame.h"
#include "schema/codec/json_parse.h"
#include "schema/codec/json_tree.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct client {
    int fd;
    uint64_t timeout_ms;
    bool broken;
    json_int_t last_id;
    json_t *greeting;
    json_t *events; /* array, oldest first */
    struct frame input;
};

/* A moment of the monotonic clock in ms; UINT64_MAX is never. */
static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t deadline_after(uint64_t timeout_ms)
{
    return timeout_ms == CLIENT_FOREVER ? UINT64_MAX : now_ms() + timeout_ms;
}

static int poll_timeout(uint64_t deadline)
{
    if (deadline == UINT64_MAX)
        return -1;
    uint64_t now = now_ms();
    if (deadline <= now)
        return 0;
    return deadline - now > INT32_MAX ? INT32_MAX : (int)(deadline - now);
}

static struct error *broken(struct client *client, struct error *err)
{
    client->broken = true;
    return err;
}

/* Waits for @events; *@ready tells what came, 0 when the deadline passed. */
static struct error *wait_for(struct client *client, short events, uint64_t deadline, short *ready)
{
    struct pollfd pollfd = { .fd = client->fd, .events = events };

    for (;;) {
        int ret = poll(&pollfd, 1, poll_timeout(deadline));
        if (ret < 0 && errno != EINTR)
            return broken(client, error_errno(errno, "cannot wait for the server"));
        if (ret >= 0) {
            *ready = ret ? pollfd.revents : 0;
            return NULL;
        }
    }
}

/* Receives what is there; waits for nothing. */
static struct error *receive_available(struct client *client)
{
    size_t room;
    char *into = frame_reserve(&client->input, CLIENT_MESSAGE_MAX, &room);
    if (!into)
        return broken(client, error_new("the server sent a message of more than %zu bytes", CLIENT_MESSAGE_MAX));

    ssize_t bytes = recv(client->fd, into, room, MSG_DONTWAIT);
    if (bytes > 0) {
        frame_received(&client->input, (size_t)bytes);
        return NULL;
    }
    if (bytes == 0)
        return broken(client, error_new("the server closed the connection"));
    if (errno == EAGAIN || errno == EINTR)
        return NULL;
    return broken(client, error_errno(errno, "cannot receive from the server"));
}

/* The next message of any kind, a new reference; NULL when the deadline passed. */
static struct error *next_message(struct client *client, uint64_t deadline, json_t **message)
{
    *message = NULL;
    for (;;) {
        size_t bytes;
        struct error *err = frame_complete(&client->input, &bytes);
        if (err)
            return broken(client, err);
        if (bytes) {
            err = json_parse(client->input.data, bytes, CLIENT_MESSAGE_MAX, message);
            frame_take(&client->input, bytes);
            return err ? broken(client, error_prepend(err, "the server sent bad JSON: ")) : NULL;
        }
        short ready;
        err = wait_for(client, POLLIN, deadline, &ready);
        if (err || !ready)
            return err;
        err = receive_available(client);
        if (err)
            return err;
    }
}

static void queue_event(struct client *client, json_t *event)
{
    if (json_array_size(client->events) >= CLIENT_EVENTS_MAX)
        json_array_remove(client->events, 0);
    json_array_append(client->events, event);
}

/* Sends all of @text, and receives meanwhile: a server that answers before it reads on must not wait for us. */
static struct error *send_text(struct client *client, const char *text, uint64_t deadline)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t sent = send(client->fd, text, left, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            text += sent;
            left -= (size_t)sent;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return broken(client, error_errno(errno, "cannot send to the server"));
        short ready;
        struct error *err = wait_for(client, POLLIN | POLLOUT, deadline, &ready);
        if (err)
            return err;
        if (!ready) /* half a command is on its way: nothing sensible can follow it */
            return broken(client, error_new("the server does not read its socket"));
        err = ready & POLLIN ? receive_available(client) : NULL;
        if (err)
            return err;
    }
    return NULL;
}

static struct error *error_of_reply(const json_t *error)
{
    const char *class_name = json_string_value(json_object_get(error, "class"));
    const char *description = json_string_value(json_object_get(error, "desc"));
    struct error *err = error_new("%s", description ? description : "unknown error");

    for (enum error_class i = ERROR_GENERIC; class_name && i <= ERROR_KVM_MISSING_CAP; i++)
        if (strcmp(class_name, error_class_name(i)) == 0)
            err = error_set_class(err, i);
    return err;
}

/* Is it the reply to the command with our last id? A server that could not parse a command answers without an id. */
static bool is_our_reply(const struct client *client, const json_t *message)
{
    const json_t *id = json_object_get(message, "id");

    return id ? json_is_integer(id) && json_integer_value(id) == client->last_id
              : json_object_get(message, "error") != NULL;
}

static struct error *wait_for_reply(struct client *client, uint64_t deadline, json_t **result)
{
    for (;;) {
        CLEANUP(json_decref) json_t *message = NULL;
        struct error *err = next_message(client, deadline, &message);
        if (err)
            return err;
        if (!message)
            return error_errno(ETIMEDOUT, "no reply from the server");
        if (json_object_get(message, "event")) {
            queue_event(client, message);
            continue;
        }
        if (!is_our_reply(client, message))
            continue;
        const json_t *error = json_object_get(message, "error");
        if (error)
            return error_of_reply(error);
        json_t *value = json_object_get(message, "return");
        if (!value)
            return broken(client, error_new("the server sent a reply that is neither 'return' nor 'error'"));
        if (result)
            *result = json_incref(value);
        return NULL;
    }
}

/* A message; NULL when it cannot be written. The caller frees it. */
static char *message_text(const char *command, json_int_t id, const char *arguments)
{
    CLEANUP(json_decref) json_t *name = json_string(command);
    CLEANUP(free) char *quoted = name ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
    if (!quoted)
        return NULL;
    return xasprintf("{\"execute\":%s,\"id\":%" JSON_INTEGER_FORMAT "%s%s}", quoted, id,
                     arguments ? ",\"arguments\":" : "", arguments ? arguments : "");
}

struct error *client_call_text(struct client *client, const char *command, const char *arguments, json_t **result)
{
    if (client->broken)
        return error_new("the connection to the server is lost");
    CLEANUP(free) char *text = message_text(command, ++client->last_id, arguments);
    if (!text)
        return error_new("command '%s' cannot be written as JSON", command);

    uint64_t deadline = deadline_after(client->timeout_ms);
    struct error *err = send_text(client, text, deadline);
    return err ? err : wait_for_reply(client, deadline, result);
}

struct error *client_call(struct client *client, const char *command, json_t *arguments, json_t **result)
{
    CLEANUP(text_fini) struct text text = { 0 };

    if (arguments)
        text_append_tree(&text, arguments);
    text_append(&text, "", 1);
    struct error *err = client_call_text(client, command, arguments ? text.data : NULL, result);
    json_decref(arguments);
    return err;
}

struct error *client_next_event(struct client *client, int timeout_ms, json_t **event)
{
    uint64_t deadline = timeout_ms < 0 ? UINT64_MAX : now_ms() + (uint64_t)timeout_ms;

    *event = NULL;
    while (json_array_size(client->events) == 0) {
        CLEANUP(json_decref) json_t *message = NULL;
        struct error *err = next_message(client, deadline, &message);
        if (err || !message)
            return err;
        if (json_object_get(message, "event"))
            queue_event(client, message);
    }
    *event = json_incref(json_array_get(client->events, 0));
    json_array_remove(client->events, 0);
    return NULL;
}

static struct error *negotiate(struct client *client)
{
    CLEANUP(json_decref) json_t *message = NULL;
    struct error *err = next_message(client, deadline_after(client->timeout_ms), &message);
    if (err)
        return err;
    if (!message)
        return error_errno(ETIMEDOUT, "no greeting from the server");
    client->greeting = json_incref(json_object_get(message, "QMP"));
    if (!client->greeting)
        return error_new("the server does not speak QMP");
    return client_call(client, "qmp_capabilities", NULL, NULL);
}

static struct error *open_socket(const char *path, int *fd)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof(address.sun_path))
        return error_new("the path is longer than %zu characters", sizeof(address.sun_path) - 1);
    strcpy(address.sun_path, path);

    CLEANUP(close_fd) int new_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (new_fd < 0)
        return error_errno(errno, "cannot make a socket");
    if (connect(new_fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return error_errno(errno, "cannot connect");
    *fd = steal_fd(&new_fd);
    return NULL;
}

struct error *client_connect(const char *path, uint64_t timeout_ms, struct client **out)
{
    int fd = -1;
    struct error *err = open_socket(path, &fd);
    if (err)
        return error_wrap(err, "%s", path);

    CLEANUP(client_close) struct client *client = xcalloc(1, sizeof(*client));
    client->fd = fd;
    client->timeout_ms = timeout_ms;
    client->events = json_array();
    frame_init(&client->input);
    err = negotiate(client);
    if (!err)
        *out = steal(&client);
    return error_wrap(err, "%s", path);
}

void client_close(struct client *client)
{
    if (!client)
        return;
    close_fd(client->fd);
    json_decref(client->greeting);
    json_decref(client->events);
    frame_fini(&client->input);
    free(client);
}

void client_set_timeout(struct client *client, uint64_t timeout_ms)
{
    client->timeout_ms = timeout_ms;
}

bool client_is_broken(const struct client *client)
{
    return client->broken;
}

int client_fd(const struct client *client)
{
    return client->fd;
}

const json_t *client_greeting(const struct client *client)
{
    return client->greeting;
}
