/* sessions - who is connected: told to people and programs */
#ifndef CAIRN_RPC_SESSIONS_H
#define CAIRN_RPC_SESSIONS_H

#include "blockcore/base/annotations.h"
#include "rpc/peer.h"
#include "schema/codec/command.h"

#include <stdint.h>

struct arena;

struct rpc_session_info {
    uint64_t number;      /* of this client alone, as long as the process lives */
    const char *client;   /* "monitor '/run/x.sock' client 3" */
    struct rpc_peer peer; /* its strings are from the arena */
    enum command_role role;
    bool negotiated;
    bool asks; /* it is the one that asks */
    uint64_t age_ns;
    uint64_t commands;    /* that it has sent so far */
    unsigned queued;      /* of these, wait for their turn */
    bool running;         /* one has begun */
    size_t bytes_pending; /* replies and events that it has not read */
};

/* All clients, in the order in which they came; strings are from @arena. */
void rpc_sessions_list(const struct command_context *asker, struct arena *arena, struct rpc_session_info **out,
                       size_t *count) CONTROL_FN;

#endif
