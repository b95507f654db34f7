/* link_private - a link from inside, for the files of this folder */
#ifndef CAIRN_DRIVERS_NBD_LINK_PRIVATE_H
#define CAIRN_DRIVERS_NBD_LINK_PRIVATE_H

#include "blockcore/drivers/nbd/libnbd.h"
#include "blockcore/drivers/nbd/link.h"

struct fd_watch;

struct nbd_link {
    struct list in_links; /* of the control thread */
    struct loop *home;
    char *node_name;
    struct socket_address *server;
    char *server_text;
    char *export;
    char *context;
    uint64_t reconnect_delay_ms;
    uint64_t open_timeout_ms;

    /* All below: only on the home loop, except where told. */
    struct nbd_handle *handle; /* one connection; NULL between them */
    int fd;                    /* our own descriptor of its socket: libnbd closes its one when it wants to */
    struct fd_watch *watch;
    bool writing;                  /* a coroutine waits until the socket can be written */
    struct co_event *writing_ends; /* somebody waits for it */
    bool up;                       /* requests are sent at once */
    bool opened;                   /* there was a first connection: properties are valid */
    bool closing;
    bool given_up; /* nobody waits for the server any more */
    bool is_self;  /* the server is this very process */
    bool too_late; /* reconnect_delay is over: requests fail until the server is back */
    struct timer *delay;
    struct nbd_properties properties;
    struct list sent;               /* of struct nbd_request, with libnbd */
    struct list waiting;            /* of struct nbd_request, for a connection */
    struct nbd_request *submitting; /* its completion has not been seen yet */
    struct co_event *nap;           /* the coroutine of the link sleeps */

    struct loop_task close_task;
    struct loop_task give_up_task;
    struct error *open_error; /* set before open_done */
    struct co_event open_done;
    struct co_event ended;
};

/* connect.c: one attempt, up to the end of the handshake. Afterwards link->handle is ready, or there is none. */
struct error *link_connect(struct nbd_link *link, uint64_t deadline_ns) CO_FN MUST_CHECK;
/* Ends the connection, if there is one. */
void link_disconnect(struct nbd_link *link) CO_FN;

/* Sleeps until link_wake(), at most @ms; 0: no limit. */
void link_nap(struct nbd_link *link, uint64_t ms) CO_FN;
void link_wake(struct nbd_link *link);

/* Wakes it up whatever it waits for. */
void link_interrupt(struct nbd_link *link);

#endif
