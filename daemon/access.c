/* Commands about clients (schema/access.json). */
#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "daemon/account.h"
#include "rpc/server.h"
#include "rpc/sessions.h"
#include "schema/cairn_commands.h"

#include <stdlib.h>

#define NS_PER_MS 1000000u
#define SESSIONS_MANY 100 /* to be listed: encoding more of them takes so long that others would notice */

static enum monitor_role role_of(enum command_role role)
{
    static const enum monitor_role roles[] = {
        [COMMAND_READ] = MONITOR_ROLE_READ,
        [COMMAND_OPERATE] = MONITOR_ROLE_OPERATE,
        [COMMAND_ADMIN] = MONITOR_ROLE_ADMIN,
    };
    return roles[role];
}

static struct session_info describe(const struct rpc_session_info *found)
{
    const struct rpc_peer *peer = &found->peer;
    return (struct session_info){
        .number = found->number,
        .client = found->client,
        .role = role_of(found->role),
        .negotiated = found->negotiated,
        .self = found->asks,
        .age_ms = found->age_ns / NS_PER_MS,
        .has_pid = peer->has_credentials,
        .pid = peer->pid,
        .has_uid = peer->has_credentials,
        .uid = peer->uid,
        .has_gid = peer->has_credentials,
        .gid = peer->gid,
        .address = peer->address,
        .tls_name = peer->tls_name,
        .commands = found->commands,
        .queued = found->queued,
        .executing = found->running,
        .unread_bytes = found->bytes_pending,
    };
}

/* Each user is asked about once. */
static void name_users(struct arena *arena, struct session_info_list *sessions) CO_FN;

static void name_users(struct arena *arena, struct session_info_list *sessions)
{
    uid_t *users = arena_array(arena, sessions->count, sizeof(*users));
    char **names = arena_array(arena, sessions->count, sizeof(*names));
    size_t *which = arena_array(arena, sessions->count, sizeof(*which));
    size_t count = 0;
    for (size_t i = 0; i < sessions->count; i++) {
        for (which[i] = 0; which[i] < count && users[which[i]] != sessions->items[i].uid; which[i]++)
            ;
        if (sessions->items[i].has_uid && which[i] == count)
            users[count++] = sessions->items[i].uid;
    }
    account_names(users, count, names);
    for (size_t i = 0; i < sessions->count; i++) {
        if (sessions->items[i].has_uid && names[which[i]])
            sessions->items[i].user = arena_strdup(arena, names[which[i]]);
    }
    for (size_t i = 0; i < count; i++)
        free(names[i]);
}

struct error *handle_query_sessions(struct command_context *context, struct session_info_list *result)
{
    struct arena *arena = command_arena(context);
    struct rpc_session_info *found;
    rpc_sessions_list(context, arena, &found, &result->count);
    result->items = arena_array(arena, result->count, sizeof(*result->items));
    for (size_t i = 0; i < result->count; i++)
        result->items[i] = describe(&found[i]);
    if (result->count > SESSIONS_MANY)
        command_expect_large_reply(context);
    name_users(arena, result);
    return NULL;
}
