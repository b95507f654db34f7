/* link_private - a link from inside, for the files of this folder */
#ifndef CAIRN_DRIVERS_NBD_LINK_PRIVATE_H
#define CAIRN_DRIVERS_NBD_LINK_PRIVATE_H

#include "blockcore/drivers/nbd/libnbd.h"
#include "blockcore/drivers/nbd/link.h"

struct fd_watch;
struct nbd_tunnel;
struct tls_context;

struct nbd_link {
    struct list in_links; /* of the control thread; taken out when it is being closed */
    struct loop *home;
    char *node_name;
    struct socket_address *server;
    char *server_text;
    char *export;
    char *context;
    struct tls_context *tls; /* NULL: without */
    char *tls_host;
    uint64_t reconnect_delay_ms;
    uint64_t open_timeout_ms;

    /* All below: only on the home loop, except where told. */
    struct nbd_handle *handle; /* one connection; NULL between them */
    struct nbd_tunnel *tunnel; /* with TLS: between it and the server */
    int fd;                    /* our own descriptor of its socket: libnbd closes its one when it wants to */
    struct fd_watch *watch;
    bool writing;                  /* a coroutine waits until the socket can be written */
    struct co_event *writing_ends; /* somebody waits for it */
    bool up;                       /* requests are sent at once */
    bool opened;                   /* there was a first connection: properties are valid */
    bool closing;
    bool given_up;            /* nobody waits for the server any more */
    bool is_self;             /* the server is this very process */
    _Atomic bool may_be_self; /* both ends of the connection are on this machine; read by any thread */
    bool too_late;            /* reconnect_delay is over: requests fail until the server is back */
    struct timer *delay;
    uint64_t down_ns;        /* when the connection was lost */
    struct list abandoned;   /* of struct abandoned: whose requests nobody wants */
    struct timer *cut;       /* runs while there are some */
    uint64_t answers;        /* of the server */
    uint64_t answers_at_cut; /* how many there were when cut was started */
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

/* Something has happened that somebody should know. */
void link_tell(const struct nbd_link *link, const char *what, const char *why);

/* serve.c: hands a request over to libnbd. */
void link_submit(struct nbd_link *link, struct nbd_request *request);
/* Until the connection is lost or the link is closed. */
void link_serve(struct nbd_link *link) CO_FN;

/* waiting.c: what becomes of the requests when a connection is lost. */
void link_lost(struct nbd_link *link) CO_FN;
void link_fail_waiting(struct nbd_link *link);
void link_forget_abandoned(struct nbd_link *link);
/* Timers; @arg: the link. */
void link_delay_is_over(void *arg);
void link_cut_if_silent(void *arg);

static inline void request_finish(struct nbd_request *request, int ret)
{
    request->ret = ret;
    co_event_set(&request->done);
}

#endif
