/* interface - the introspection of server.h's small interface, without a server at hand afterwards */
#ifndef CAIRN_TESTS_CLIENTS_INTERFACE_H
#define CAIRN_TESTS_CLIENTS_INTERFACE_H

#include "clients/cli/introspection.h"
#include "tests/unit/clients/server.h"

static inline struct introspection *load_interface(void)
{
    const char *const replies[] = { NEGOTIATED, schema_reply, NULL };
    struct server *server = server_start(GREETING, replies);
    struct client *client = NULL;
    struct introspection *introspection = NULL;
    struct error *err = client_connect(server_path(server), 20000, &client);

    assert_null(err);
    err = introspection_load(client, &introspection);
    assert_null(err);
    client_close(client);
    server_stop(server);
    return introspection;
}

#endif
