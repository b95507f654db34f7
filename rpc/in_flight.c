#include "rpc/in_flight.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop_uv.h"
#include "rpc/request.h"
#include "rpc/server_private.h"
#include "rpc/session.h"

#include <stdlib.h>
#include <string.h>

/* Listing ------------------------------------------------------------------------------------------------------- */

struct listing {
    const struct command_context *asker;
    struct arena *arena;
    struct in_flight_command *items;
    size_t count;
    uint64_t now_ns;
};

static const char *wait_of(const struct command_context *request, struct arena *arena)
{
    CLEANUP(free) char *wait = co_describe(request->co);
    return arena_strdup(arena, wait);
}

static void list_request(struct listing *listing, const struct command_context *request, const char *client,
                         enum in_flight_state state)
{
    struct arena *arena = listing->arena;
    listing->items[listing->count++] = (struct in_flight_command){
        .number = request->number,
        .command = request->command->name,
        .id = request->id ? arena_strdup(arena, request->id) : NULL,
        .client = arena_strdup(arena, client),
        .age_ns = listing->now_ns - request->since_ns,
        .state = state,
        .waits_for = state == IN_FLIGHT_QUEUED ? "its turn" : wait_of(request, arena),
    };
}

/* Those that begin at all are listed: what is wrong with the others is only told in its turn. */
static bool is_listed(const struct listing *listing, const struct command_context *request)
{
    return request != listing->asker && request->command && !request->error;
}

static void list_session(struct listing *listing, const struct session *session)
{
    const struct command_context *request;
    list_for_each (request, &session->queue, link) {
        if (is_listed(listing, request))
            list_request(listing, request, session->name, IN_FLIGHT_QUEUED);
    }
}

static size_t most_commands(const struct rpc_server *server)
{
    size_t count = 0;
    const struct command_context *request;
    const struct session *session;
    list_for_each (request, &server->in_flight, in_flight)
        count++;
    list_for_each (session, &server->sessions, link)
        count += session->queued;
    return count;
}

void in_flight_list(const struct command_context *asker, struct arena *arena, struct in_flight_command **out,
                    size_t *count)
{
    const struct rpc_server *server = asker->server;
    struct listing listing = { .asker = asker, .arena = arena, .now_ns = uv_hrtime() };
    listing.items = arena_array(arena, most_commands(server), sizeof(*listing.items));
    const struct command_context *request;
    list_for_each (request, &server->in_flight, in_flight) {
        const struct session *session = request->session;
        if (is_listed(&listing, request))
            list_request(&listing, request, session ? session->name : request->client,
                         session ? IN_FLIGHT_RUNNING : IN_FLIGHT_CANCELLED);
    }
    const struct session *session;
    list_for_each (session, &server->sessions, link)
        list_session(&listing, session);
    *out = listing.items;
    *count = listing.count;
}

/* Cancelling ---------------------------------------------------------------------------------------------------- */

static bool has_id(const struct command_context *request, const char *id)
{
    return request->id && strcmp(request->id, id) == 0;
}

/* Cancels what waits for its turn: false when @session has no such command. */
static bool cancel_queued(struct session *session, uint64_t number)
{
    struct command_context *request;
    list_for_each (request, &session->queue, link) {
        if (request->command && request->number == number)
            return request->cancelled = true;
    }
    return false;
}

static bool cancel_queued_id(struct session *session, const char *id)
{
    struct command_context *request;
    list_for_each (request, &session->queue, link) {
        if (request->command && has_id(request, id))
            return request->cancelled = true;
    }
    return false;
}

static struct command_context *find_running(const struct rpc_server *server, uint64_t number)
{
    struct command_context *request;
    list_for_each (request, &server->in_flight, in_flight) {
        if (request->number == number)
            return request;
    }
    return NULL;
}

static void give_up(struct command_context *request)
{
    if (request->session)
        session_give_up_command(request->session);
}

struct error *in_flight_cancel(const struct command_context *asker, uint64_t number)
{
    struct rpc_server *server = asker->server;
    if (number == asker->number)
        return error_new("a command cannot cancel itself");
    struct command_context *request = find_running(server, number);
    if (request) {
        give_up(request);
        return NULL;
    }
    struct session *session;
    list_for_each (session, &server->sessions, link) {
        if (cancel_queued(session, number))
            return NULL;
    }
    return error_new("no command with number %llu is in flight", (unsigned long long)number);
}

struct error *in_flight_cancel_id(const struct command_context *asker, const char *id)
{
    struct session *session = asker->session;
    struct command_context *running = session->running;
    /* What runs no handler any more is being answered. */
    if (running && running != asker && !list_empty(&running->in_flight) && has_id(running, id)) {
        give_up(running);
        return NULL;
    }
    return cancel_queued_id(session, id) ? NULL : error_new("no command of this client with id %s is in flight", id);
}
