#include "rpc/sessions.h"

#include "blockcore/base/arena.h"
#include "blockcore/runtime/loop_uv.h"
#include "rpc/request.h"
#include "rpc/server_private.h"
#include "rpc/session.h"

static struct rpc_peer copy_peer(const struct rpc_peer *peer, struct arena *arena)
{
    struct rpc_peer copy = *peer;
    copy.address = peer->address ? arena_strdup(arena, peer->address) : NULL;
    copy.tls_name = peer->tls_name ? arena_strdup(arena, peer->tls_name) : NULL;
    return copy;
}

static struct rpc_session_info describe(const struct session *session, struct arena *arena)
{
    return (struct rpc_session_info){
        .number = session->number,
        .client = arena_strdup(arena, session->name),
        .peer = copy_peer(&session->peer, arena),
        .role = session->role,
        .negotiated = session->mode == SESSION_COMMANDS,
        .age_ns = uv_hrtime() - session->since_ns,
        .commands = session->commands_ever,
        .queued = session->queued,
        .running = session->running != NULL,
        .bytes_pending = output_pending(&session->output),
    };
}

void rpc_sessions_list(const struct command_context *asker, struct arena *arena, struct rpc_session_info **out,
                       size_t *count)
{
    const struct rpc_server *server = asker->server;
    const struct session *session;
    *out = arena_array(arena, server->session_count, sizeof(**out));
    *count = 0;
    list_for_each (session, &server->sessions, link) {
        if (session->closed)
            continue;
        (*out)[*count] = describe(session, arena);
        (*out)[(*count)++].asks = session == asker->session;
    }
}
