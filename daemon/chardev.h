/* chardev - character devices: sockets where somebody talks to clients, one frontend each
 *
 *     listens:    clients ----> [backlog of the kernel] ----> frontend, any number at once
 *     connects:   [peer] <----  connection, one at a time --> frontend; made again with reconnect-ms
 *
 * Without a frontend a socket that listens lets nobody in, and a connection that was made waits. Names are looked up
 * and connections made elsewhere than on the control thread. */
#ifndef CAIRN_DAEMON_CHARDEV_H
#define CAIRN_DAEMON_CHARDEV_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "schema/cairn_types.h"

#include <stdbool.h>

struct arena;
struct chardev;
struct rpc_peer;

/* Somebody at the other end. */
struct chardev_client {
    int fd;     /* non-blocking and close-on-exec, the frontend's from now on */
    int socket; /* the one that leads to the client itself; stays somebody else's unless it is @fd */
    const struct rpc_peer *peer;
};

/* Is this something that can be made? */
struct error *chardev_check(const struct chardev_options *options) MUST_CHECK;

/* Makes the device: listens; or connects, which must succeed unless there will be further attempts. A socket with
 * `wait` has a client afterwards. Errors: the id is taken, nobody can listen there or be reached. */
struct error *chardev_add(const struct chardev_options *options) CO_FN CONTROL_FN MUST_CHECK;
struct error *chardev_add_backend(const char *id, const struct chardev_backend *backend) CO_FN CONTROL_FN MUST_CHECK;
/* A socket that listens, for a monitor of a configuration file. Its path is the id. */
struct error *chardev_add_config(const struct monitor_config *config) CO_FN CONTROL_FN MUST_CHECK;

/* Errors: there is none of that id (or it is being made), a frontend uses it. */
struct error *chardev_remove(const char *id) CO_FN CONTROL_FN MUST_CHECK;

/* NULL when there is none, or it is being made or removed. Valid until the next await, unless it has a frontend. */
struct chardev *chardev_find(const char *id) CONTROL_FN;

const char *chardev_id(const struct chardev *chardev);

/* "/run/x.sock", "127.0.0.1:4444": where it is, for messages. */
const char *chardev_where(const struct chardev *chardev);

/* All of them, for query-chardev; strings are from @arena. */
void chardevs_describe(struct arena *arena, struct chardev_info_list *out) CONTROL_FN;

/* Clients go to @connected from now on; it must not wait, and says chardev_hung_up() when a connection has ended.
 * Errors: there is a frontend already. */
struct error *chardev_take(struct chardev *chardev, void (*connected)(const struct chardev_client *client, void *arg),
                           void *arg) CONTROL_FN MUST_CHECK;
bool chardev_is_taken(const struct chardev *chardev) CONTROL_FN;
void chardev_hung_up(struct chardev *chardev) CONTROL_FN;

/* The frontend is gone; its connections are closed, or nobody will say so. */
void chardev_release(struct chardev *chardev) CO_FN CONTROL_FN;

/* Whoever waits for a first client waits no longer: the daemon ends. */
void chardevs_wait_for_nobody(void) CONTROL_FN;

/* Nobody is let in any more, no connection is made. The sockets stay until chardevs_remove(), so that nobody else takes
 * their places while this process still holds the images. */
void chardevs_stop(void) CO_FN CONTROL_FN;

/* Unlinks the sockets at once, without waiting for anything: the process is about to end. */
void chardevs_forget(void) CONTROL_FN;

/* Removes all of them. */
void chardevs_remove(void) CO_FN CONTROL_FN;

#endif
