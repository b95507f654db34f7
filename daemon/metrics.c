#include "daemon/metrics.h"

#include "blockcore/base/memory.h"
#include "blockcore/net/acceptor.h"
#include "blockcore/net/listen.h"
#include "daemon/metrics_http.h"
#include "daemon/socket_address.h"
#include "schema/cairn_types.h"

#include <stdlib.h>

static struct {
    struct metrics_http *http; /* NULL: nothing is served */
    struct listening listening;
    struct acceptor *acceptors[LISTEN_SOCKETS_MAX];
    unsigned acceptors_count;
} metrics;

const char *metrics_path(const struct metrics_options *options)
{
    const struct socket_address *address = options->addr;
    bool is_file =
        address->type == SOCKET_ADDRESS_TYPE_UNIX && !(address->u.unix_.has_abstract && address->u.unix_.abstract);
    return is_file ? address->u.unix_.path : NULL;
}

static void hold(bool full)
{
    for (unsigned i = 0; i < metrics.acceptors_count; i++)
        acceptor_hold(metrics.acceptors[i], full);
}

static void accepted(int fd, void *arg)
{
    metrics_http_take(arg, fd);
}

struct error *metrics_start(const struct metrics_options *options)
{
    CLEANUP(free) char *path = NULL;
    struct socket_address address = socket_address_for_later(options->addr, &path);
    struct error *err = listen_at(&address, &metrics.listening);
    if (err)
        return err;
    err = metrics_http_start(options->timeout, hold, &metrics.http);
    if (err) {
        listening_close(&metrics.listening);
        return err;
    }
    metrics.acceptors_count = metrics.listening.count;
    for (unsigned i = 0; i < metrics.acceptors_count; i++)
        metrics.acceptors[i] = acceptor_create(metrics.listening.fds[i], accepted, metrics.http);
    hold(false);
    return NULL;
}

void metrics_stop(void)
{
    if (!metrics.http)
        return;
    unsigned count = metrics.acceptors_count;
    metrics.acceptors_count = 0; /* for hold() */
    for (unsigned i = 0; i < count; i++)
        acceptor_destroy(metrics.acceptors[i]);
    listening_close(&metrics.listening);
    metrics_http_stop(steal(&metrics.http));
}
