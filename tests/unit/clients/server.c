#include "tests/unit/clients/server.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "tests/unit/support/temp.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct server {
    char directory[TEMP_FOLDER_BYTES];
    struct sockaddr_un address;
    int listener;
    const char *greeting;
    const char *const *replies;
    pthread_t thread;
};

static void send_text(int fd, const char *text)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t sent = send(fd, text, left, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        text += sent;
        left -= (size_t)sent;
    }
}

/* Sends @reply with the id of the command that stands in @command. */
static void send_reply(int fd, const char *reply, const char *command)
{
    const char *place = strstr(reply, "$ID");
    const char *id = strstr(command, "\"id\":");

    if (!place || !id) {
        send_text(fd, reply);
        return;
    }
    CLEANUP(free)
    char *text =
        xasprintf("%.*s%d%s", (int)(place - reply), reply, atoi(id + strlen("\"id\":")), place + strlen("$ID"));
    send_text(fd, text);
}

static void *serve(void *arg)
{
    struct server *server = arg;
    CLEANUP(close_fd) int fd = accept(server->listener, NULL, NULL);
    char command[65536];

    send_text(fd, server->greeting);
    for (const char *const *reply = server->replies; *reply; reply++) {
        ssize_t bytes = recv(fd, command, sizeof(command) - 1, 0);
        if (bytes <= 0)
            return NULL;
        command[bytes] = '\0';
        send_reply(fd, *reply, command);
    }
    return NULL;
}

struct server *server_start(const char *greeting, const char *const *replies)
{
    struct server *server = xcalloc(1, sizeof(*server));

    server->greeting = greeting;
    server->replies = replies;
    temp_folder_make(server->directory);
    server->address.sun_family = AF_UNIX;
    snprintf(server->address.sun_path, sizeof(server->address.sun_path), "%s/qmp", server->directory);
    server->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    int ret = bind(server->listener, (struct sockaddr *)&server->address, sizeof(server->address));
    assert(ret == 0);
    ret = listen(server->listener, 1);
    assert(ret == 0);
    pthread_create(&server->thread, NULL, serve, server);
    return server;
}

const char *server_path(const struct server *server)
{
    return server->address.sun_path;
}

void server_stop(struct server *server)
{
    pthread_join(server->thread, NULL);
    close(server->listener);
    unlink(server->address.sun_path);
    rmdir(server->directory);
    free(server);
}

const char schema_reply[] =
    "{\"id\": $ID, \"return\": ["
    "{\"name\": \"add\", \"meta-type\": \"command\", \"arg-type\": \"0\", \"ret-type\": \"9\"},"
    "{\"name\": \"remove\", \"meta-type\": \"command\", \"arg-type\": \"8\", \"ret-type\": \"9\"},"
    "{\"name\": \"GONE\", \"meta-type\": \"event\", \"arg-type\": \"8\"},"
    "{\"name\": \"0\", \"meta-type\": \"object\", \"tag\": \"driver\", \"members\": ["
    "   {\"name\": \"driver\", \"type\": \"1\"}, {\"name\": \"name\", \"type\": \"str\", \"default\": null},"
    "   {\"name\": \"enabled\", \"type\": \"bool\", \"default\": null}],"
    " \"variants\": [{\"case\": \"file\", \"type\": \"2\"}, {\"case\": \"format\", \"type\": \"3\"},"
    "   {\"case\": \"null\", \"type\": \"9\"}]},"
    "{\"name\": \"1\", \"meta-type\": \"enum\", \"values\": [\"file\", \"format\", \"null\"]},"
    "{\"name\": \"2\", \"meta-type\": \"object\", \"members\": [{\"name\": \"filename\", \"type\": \"str\"},"
    "   {\"name\": \"size\", \"type\": \"int\"}, {\"name\": \"share\", \"type\": \"number\"}]},"
    "{\"name\": \"3\", \"meta-type\": \"object\", \"members\": [{\"name\": \"file\", \"type\": \"4\"},"
    "   {\"name\": \"sizes\", \"type\": \"[int]\"}, {\"name\": \"parts\", \"type\": \"[2]\"},"
    "   {\"name\": \"anything\", \"type\": \"any\"}]},"
    "{\"name\": \"4\", \"meta-type\": \"alternate\", \"members\": [{\"type\": \"0\"}, {\"type\": \"str\"},"
    "   {\"type\": \"null\"}]},"
    "{\"name\": \"8\", \"meta-type\": \"object\", \"members\": [{\"name\": \"name\", \"type\": \"str\"}]},"
    "{\"name\": \"9\", \"meta-type\": \"object\", \"members\": []},"
    "{\"name\": \"[int]\", \"meta-type\": \"array\", \"element-type\": \"int\"},"
    "{\"name\": \"[2]\", \"meta-type\": \"array\", \"element-type\": \"2\"},"
    "{\"name\": \"any\", \"meta-type\": \"builtin\", \"json-type\": \"value\"},"
    "{\"name\": \"int\", \"meta-type\": \"builtin\", \"json-type\": \"int\"},"
    "{\"name\": \"number\", \"meta-type\": \"builtin\", \"json-type\": \"number\"},"
    "{\"name\": \"bool\", \"meta-type\": \"builtin\", \"json-type\": \"boolean\"},"
    "{\"name\": \"null\", \"meta-type\": \"builtin\", \"json-type\": \"null\"},"
    "{\"name\": \"str\", \"meta-type\": \"builtin\", \"json-type\": \"string\"}]}\r\n";
