/* remote - a file that an HTTP server has, read in pieces
 *
 * Each request is one GET with a range, performed by libcurl on a thread of the pool, in a domain of its own: a server
 * that hangs holds those threads and nothing else. Connections stay open for the next request.
 *
 * A server is believed only what it must be: a reply that is not exactly the range that was asked for, or speaks of
 * another length than the file had when it was opened, is an error of that request, and what does not fit is not
 * stored. */
#ifndef CAIRN_DRIVERS_CURL_REMOTE_H
#define CAIRN_DRIVERS_CURL_REMOTE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/range.h"
#include "blockcore/crypto/random.h"
#include "blockcore/drivers/curl/readahead.h"

#include <stdbool.h>

#define REMOTE_CONNECTIONS_MAX 8 /* of one node; further requests wait for one of them */
#define REMOTE_REDIRECTS_MAX 10  /* followed for one request */

struct remote;

/* Who we are, ending with a zero byte each; NULL: nobody. */
struct credentials {
    char *username;
    struct key_bytes *password;
    char *proxy_username;
    struct key_bytes *proxy_password;
    struct key_bytes *cookie; /* a line of a request's header: "Cookie: a=b" */
};

void credentials_fini(struct credentials *credentials);

struct remote_options {
    const char *node_name;
    const char *url;
    bool verify;        /* the server's certificate */
    unsigned timeout_s; /* of a request, all of it; 0: none */
};

/* Does the policy of hosts allow @address? libcurl is loaded. */
struct error *remote_check_host(const char *address) MUST_CHECK;

/* Asks the server for the length and whether it serves ranges. @credentials go over to the remote file, also on
 * failure. */
struct error *remote_open(const struct remote_options *options, struct credentials *credentials, struct remote **out)
    CO_FN MUST_CHECK;

/* Nobody wants what is being read any more: reads end within a second or so, with an error. Any thread. */
void remote_cancel(struct remote *remote);

/* No read is running. */
void remote_close(struct remote *remote) CO_FN;

uint64_t remote_length(const struct remote *remote);

/* The address without what is secret of it. */
const char *remote_name(const struct remote *remote);

/* @range, not empty and inside the length, to @data; tells @arrival in between what has come. 0, -ETIMEDOUT, -ENOMEM,
 * or -EIO for everything else; why is told in a notice, one each second at most. Any loop. */
int remote_read(struct remote *remote, struct range range, char *data, const struct arrival *arrival) CO_FN;

#endif
