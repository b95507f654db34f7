/* connection_private - the layout of a connection and of its requests, for the files that are parts of it
 *
 *     connection.c  birth, cutting, death
 *     handshake.c   greeting and options, until an export is chosen
 *     receive.c     bytes to requests, and the limits
 *     command.c     what each command does
 *     read.c        reads, and what of them are holes
 *     reply.c       results to bytes */
#ifndef CAIRN_EXPORT_NBD_CONNECTION_PRIVATE_H
#define CAIRN_EXPORT_NBD_CONNECTION_PRIVATE_H

#include "blockcore/base/list.h"
#include "blockcore/base/range.h"
#include "blockcore/export/nbd/connection.h"
#include "blockcore/export/nbd/haggle.h"
#include "blockcore/export/nbd/nbd_export.h"
#include "blockcore/export/nbd/wire.h"
#include "blockcore/net/stream.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <stdbool.h>
#include <sys/uio.h>

enum nbd_connection_state {
    NBD_HANDSHAKE,
    NBD_TRANSMISSION,
    NBD_FINISHING, /* nothing is read any more; what was asked is answered */
    NBD_CUT,       /* nothing is sent any more */
};

struct nbd_connection {
    /* Of the loop's thread. */
    enum nbd_connection_state state;
    bool gives_up;               /* nothing more is begun: cut or dismissed; for the budget to look at */
    struct stream *stream;       /* NULL before the first and after the last state */
    struct timer *deadline;      /* of the handshake; of the last requests */
    bool impatient;              /* they should have ended by now */
    struct dismissal *dismissal; /* NULL: it may stay */
    struct nbd_agreement agreed;
    uint64_t bytes; /* length of the export as the client was told */
    struct nbd_export_access access;

    uint64_t bytes_in_flight; /* of the data of requests in flight */
    struct co_event *parked;  /* the main coroutine waits for one of the above to become less */
    bool asleep;              /* no main coroutine: one is started when there is something to read */
    bool reading;             /* the main coroutine runs requests, and will send the replies */
    bool sending;             /* a coroutine waits to send, or sends, the replies */
    bool piece_failed;        /* of a long request: the others are not begun */
    struct list replies;      /* requests that are to be answered, first come first served */
    size_t reply_sent;        /* bytes of the first of them */
    uint64_t sent;            /* bytes of all replies */

    /* Written by the loop's thread; statistics look at them from elsewhere. */
    _Atomic uint64_t in_flight; /* requests, until their reply is sent or dropped */
    _Atomic uint64_t requests;  /* that have ended */
    _Atomic uint64_t bytes_read;
    _Atomic uint64_t bytes_written;

    int fd;     /* until there is a stream */
    char *peer; /* its address, for people */
    struct loop *loop;
    struct nbd_connection_options options;

    /* Of the control thread. */
    struct nbd_export *export; /* NULL while not attached */
    uint64_t number;           /* counts connections, from 1 */
    uint64_t since_ns;         /* when it was let in, by loop_now_ns() */
    bool lingers;              /* as the server was told */
    struct list in_server;
    struct list in_export;
    bool dismiss_posted;
    struct loop_task dismiss_task;
    _Atomic unsigned refs; /* the main coroutine's, and the dismiss task's while it is posted */
};

/* A piece of a reply: a head, and then data that lie elsewhere. */
struct nbd_part {
    uint8_t head[NBD_CHUNK_HEAD_MAX];
    uint32_t head_bytes;
    size_t data_bytes;
    const void *data;
};

#define NBD_READ_PARTS_MAX 32 /* chunks of one read */

struct nbd_request {
    struct list link; /* in the connection's replies, or among the spare ones */
    struct nbd_connection *conn;
    struct nbd_request_header header;
    struct range piece;  /* what is moved now: of a long request a part, else all that the header says */
    uint64_t contexts;   /* that BLOCK_STATUS asks about */
    int result;          /* decided before it was started, or 0 */
    const char *message; /* for people, why it failed; static; NULL: what the error's number says */
    uint64_t failed_at;  /* where a read failed that was begun */
    uint64_t charged;    /* bytes, to bytes_in_flight */
    void *buffer;        /* data to write or data that were read; or NULL */
    size_t buffer_bytes; /* as given to buffer_get() */
    struct iovec vec;    /* a piece of the buffer, for the request inside the graph */

    /* The reply. */
    struct nbd_part *parts; /* `own`, or NBD_READ_PARTS_MAX from buffer_get() */
    unsigned parts_count;
    size_t reply_bytes;
    struct nbd_part own[2];
};

/* Only the loop's thread writes, so adding need not be one step for those who look. */
static inline void nbd_count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

/* connection.c */

/* The client did something that it should not: a line for the log, with its address before @what. */
void nbd_connection_complain(const struct nbd_connection *conn, const char *what) LOOP_FN;

/* Shuts the socket down; everything that waits goes on and sees it. May be called again. */
void nbd_connection_cut(struct nbd_connection *conn) LOOP_FN;

/* Something became less: the main coroutine should look again. */
void nbd_connection_wake(struct nbd_connection *conn) LOOP_FN;
/* Only the main coroutine. Returns after nbd_connection_wake(). */
void nbd_connection_park(struct nbd_connection *conn, const char *what) CO_FN LOOP_FN;

/* handshake.c: true when an export was chosen. */
bool nbd_handshake(struct nbd_connection *conn) CO_FN LOOP_FN;

/* receive.c: reads and starts requests until nothing more is to be read (NBD_FINISHING) or the connection is cut. True:
 * the client has nothing to say for now, possibly for hours, and the next call is due when the stream can be read. */
bool nbd_receive(struct nbd_connection *conn) CO_FN LOOP_FN;

/* command.c */

/* 0 if a request for @contexts is allowed, else the -errno that is its answer, and why. */
int nbd_command_check(const struct nbd_connection *conn, const struct nbd_request_header *header, uint64_t contexts,
                      const char **message);
/* More data than are held in memory at once: receive.c moves them piece by piece. */
bool nbd_command_is_long(const struct nbd_connection *conn, const struct nbd_request_header *header);
/* Bytes of memory that the command needs for data, at most 32 MiB, given that it is allowed and not long. */
uint64_t nbd_command_bytes(const struct nbd_request_header *header, uint64_t contexts);
/* Runs in a coroutine of its own; @arg is the request, whose charge is taken and whose data to write are there. */
void nbd_command_run(void *arg) CO_FN LOOP_FN;

/* read.c: reads into the buffer and makes the parts of the reply. 0 or -errno. */
int nbd_read(struct nbd_request *request) CO_FN LOOP_FN;

/* reply.c */

static inline struct nbd_reply_to nbd_reply_to(const struct nbd_request *request)
{
    return (struct nbd_reply_to){ request->conn->agreed.mode, request->header.cookie, request->header.offset };
}

/* A piece was before this one; another one comes after it. */
static inline bool nbd_request_is_continued(const struct nbd_request *request)
{
    return request->piece.offset > request->header.offset;
}

static inline bool nbd_request_continues(const struct nbd_request *request)
{
    return range_end(request->piece) < request->header.offset + request->header.bytes;
}

/* One more part, whose head the caller fills in, with @bytes of @data behind it. */
struct nbd_part *nbd_reply_part(struct nbd_request *request, const void *data, size_t bytes);

/* A request with nothing charged yet. Counted in in_flight. */
struct nbd_request *nbd_request_create(struct nbd_connection *conn, const struct nbd_request_header *header) LOOP_FN;

/* Without a reply: the rest of it never came. Nothing of it runs. */
void nbd_request_destroy(struct nbd_request *request) LOOP_FN;

/* The request has ended with @ret (0 or -errno); its reply is queued, and sent when others that are ready now have
 * queued theirs. */
void nbd_request_end(struct nbd_request *request, int ret) LOOP_FN;

/* Sends what can be sent now; what cannot is left to a coroutine. */
void nbd_replies_send(struct nbd_connection *conn) LOOP_FN;

/* Of a connection that is cut. */
void nbd_replies_drop(struct nbd_connection *conn) LOOP_FN;

#endif
