/* notice - what nodes find out and somebody should be told, although no request asked for it
 *
 * The owner of the process listens; without a listener notices are dropped. They may be given on any thread; the
 * listener is called on the control thread, in order per giving thread, and must not wait. */
#ifndef CAIRN_GRAPH_NOTICE_H
#define CAIRN_GRAPH_NOTICE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/range.h"

#include <stdbool.h>

/* What was asked of a node that did it badly. */
enum notice_request {
    NOTICE_READ,
    NOTICE_WRITE,
    NOTICE_FLUSH,
};

struct notice {
    enum notice_kind {
        NOTICE_IMAGE_CORRUPTED, /* an image is damaged; message says what was found */
        NOTICE_FLUSH_FAILED,    /* a node was closed although its last flush failed: data may be lost */
        NOTICE_QUORUM_FAILURE,  /* too few children agreed about a range */
        NOTICE_QUORUM_BAD,      /* a child (node_name) failed or was outvoted */
        NOTICE_SNAPSHOT_BROKEN, /* old data could not be kept: the point in time is lost, the guest goes on */
        NOTICE_WRITE_THRESHOLD, /* place: from the threshold to the end of the write */
        NOTICE_SERVER,          /* a node's server went away, or is there again */
        NOTICE_MISMATCH,        /* two nodes that should be alike are not */
        NOTICE_CLIENT,          /* a client misbehaves; node_name is empty */
        NOTICE_LEFT_OVER,       /* what a job or command could not take back when it ended; then that it could */
        NOTICE_EXPORT_FAILED,   /* a request of a client failed; message is the export's id, node_name is empty */
    } kind;
    const char *node_name;
    const char *message;
    const char *client; /* NULL, or who misbehaves */
    struct range place; /* bytes of the image's file that are concerned; of length 0: not known */
    bool fatal;         /* the node cannot be written any more */
    /* Kinds of quorum, whose place is that of the request, and requests of clients: */
    enum notice_request request;
    int errnum; /* positive; 0: no error, but other data */
};

/* @call NULL: nobody listens any more. The notice lives as long as the call. */
void notice_set_listener(void (*call)(const struct notice *notice, void *arg), void *arg) CONTROL_FN;

/* Strings are copied. */
void notice_give(const struct notice *notice);

#endif
