#include "daemon/shutdown.h"

#include "blockcore/base/memory.h"
#include "blockcore/crypto/derive.h"
#include "blockcore/drivers/nbd/link.h"
#include "blockcore/export/export.h"
#include "blockcore/export/nbd/server.h"
#include "blockcore/filters/gate.h"
#include "blockcore/filters/throttle_group.h"
#include "blockcore/graph/node.h"
#include "blockcore/jobs/job.h"
#include "blockcore/objects/object.h"
#include "blockcore/runtime/fd_close.h"
#include "blockcore/runtime/loop.h"
#include "daemon/chardev.h"
#include "daemon/events.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/pidfile.h"
#include "daemon/reconcile/reconcile.h"
#include "daemon/size_survey.h"
#include "rpc/server.h"

#include <stdlib.h>
#include <unistd.h>

/* Commands that still run get this long before nodes are closed around them. */
#define COMMANDS_GRACE_MS 1000

#define NODES_NAMED_MAX 16 /* in the message about what hangs */

static struct {
    struct timer *timer;
    struct rpc_server *server;
    struct pidfile *const *pidfile;
} clock;

static char *names_of_nodes(void)
{
    char *names = NULL;
    unsigned count = 0;
    for (struct node *node = node_next(NULL); node && count < NODES_NAMED_MAX; node = node_next(node), count++) {
        char *longer = xasprintf("%s%s'%s'", names ? names : "", names ? ", " : "", node_name(node));
        free(names);
        names = longer;
    }
    return names;
}

/* Threads hang in system calls that nobody can end: only the end of the process does. */
static void NORETURN give_up(void *arg)
{
    (void)arg;
    CLEANUP(free) char *nodes = names_of_nodes();
    CLEANUP(free) char *commands = clock.server ? rpc_server_running(clock.server) : NULL;
    log_error("storage did not answer within %d seconds: not flushed and closed: %s%s%s", SHUTDOWN_SECONDS,
              nodes ? nodes : "nodes that were being opened or closed", commands ? "; commands that hang: " : "",
              commands ? commands : "");
    chardevs_forget();
    pidfile_remove(*clock.pidfile);
    _exit(EXIT_FAILURE);
}

void shutdown_start_clock(struct rpc_server *server, struct pidfile *const *pidfile)
{
    if (clock.timer)
        return;
    clock.server = server;
    clock.pidfile = pidfile;
    clock.timer = timer_create_on_loop(give_up, NULL);
    timer_start(clock.timer, SHUTDOWN_SECONDS * 1000);
}

void shutdown_stop_clock(void)
{
    timer_destroy(clock.timer);
    clock.timer = NULL;
}

static void open_gates(void)
{
    for (struct node *node = node_next(NULL); node; node = node_next(node)) {
        if (node_is_gate(node))
            gate_release(node, GATE_ANY, GATE_ALL);
    }
}

static void CO_FN end_exports(void)
{
    nbd_server_stop_all();
    export_del_all(BLOCK_EXPORT_TYPE_NBD, NULL);
}

/* Requests of exports may hang in a node, which cannot be closed before they end; others have been closed by now. */
static void CO_FN close_what_hung(void)
{
    while (export_next(NULL)) {
        export_del_all(BLOCK_EXPORT_TYPE_NBD, NULL);
        blockdev_del_all();
    }
}

void shutdown_run(struct rpc_server *server)
{
    chardevs_stop();
    metrics_stop();
    open_gates();
    throttle_groups_open_all();
    nbd_links_give_up();
    derive_give_up();
    end_exports();
    job_end_all();
    bool idle = rpc_server_wait_idle(server, COMMANDS_GRACE_MS);
    end_exports(); /* what commands were about to add comes after all */
    blockdev_del_all();
    if (!idle) {
        rpc_server_wait_idle(server, RPC_WAIT_FOREVER);
        end_exports();
        blockdev_del_all();
    }
    reconcile_wait_end();
    end_exports();
    blockdev_del_all();
    close_what_hung();
    size_survey_wait_end();
    object_del_all();
    events_send_to(NULL);
    clock.server = NULL;
    rpc_server_destroy(server);
    fd_close_wait_end();
}
