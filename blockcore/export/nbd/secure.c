#include "blockcore/export/nbd/secure.h"

#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/connection_private.h"
#include "blockcore/net/complaint.h"
#include "blockcore/net/tls_context.h"
#include "blockcore/objects/authz.h"
#include "blockcore/objects/tls_creds.h"

#include <errno.h>

static struct error *find_authz(struct nbd_security *security, const struct nbd_server_options *options)
{
    if (!options->tls_authz)
        return NULL;
    if (!security->tls)
        return error_new("tls-authz needs tls-creds");
    if (!tls_context_names_peers(security->tls))
        return error_new("tls-authz: with TLS credentials '%s' clients prove no name (verify-peer is off, or they are "
                         "anonymous)",
                         options->tls_creds);
    return error_wrap(authz_find(options->tls_authz, &security->authz), "tls-authz");
}

static void use(struct object *object, struct object_user *user, const char *name)
{
    if (!object)
        return;
    user->name = name;
    object_use(object, user);
}

struct error *nbd_security_init(struct nbd_security *security, const char *server_id,
                                const struct nbd_server_options *options)
{
    struct error *err = NULL;
    *security = (struct nbd_security){ 0 };
    if (options->tls_creds)
        err = tls_creds_find(options->tls_creds, Q_CRYPTO_TLS_CREDS_ENDPOINT_SERVER, &security->creds, &security->tls);
    if (!err)
        err = find_authz(security, options);
    if (err) {
        tls_context_unref(security->tls);
        *security = (struct nbd_security){ 0 };
        return err;
    }
    security->name = xasprintf("NBD server '%s'", server_id);
    security->asks = security->authz;
    use(security->creds, &security->creds_user, security->name);
    use(security->authz, &security->authz_user, security->name);
    return NULL;
}

void nbd_security_leave(struct nbd_security *security)
{
    if (security->creds)
        object_leave(&security->creds_user);
    if (security->authz)
        object_leave(&security->authz_user);
    security->creds = security->authz = NULL;
}

void nbd_security_fini(struct nbd_security *security)
{
    nbd_security_leave(security);
    tls_context_unref(security->tls);
    free(security->name);
}

/* Asking who it is ---------------------------------------------------------------------------------------------- */

struct question {
    struct nbd_connection *conn;
    const char *identity;
    struct error *why;
};

/* On the control thread. A server that stops cuts its connections before it leaves its objects. */
static int ask(void *arg)
{
    struct question *question = arg;
    struct nbd_connection *conn = question->conn;
    if (conn->dismiss_posted)
        return -ECANCELED;
    return authz_allows(conn->options.security->authz, question->identity, &question->why) ? 0 : -EACCES;
}

static bool is_let_in(struct nbd_connection *conn)
{
    struct question question = { .conn = conn, .identity = stream_peer_identity(conn->stream) };
    int ret = co_call_on(loop_control(), "NBD client: who is it", ask, &question);
    CLEANUP(error_free) struct error *why = question.why;
    if (ret == -EACCES && why)
        complain(conn->peer, "NBD client %s: '%s' is not let in: %s", conn->peer, question.identity,
                 error_message(why));
    else if (ret == -EACCES)
        complain(conn->peer, "NBD client %s: '%s' is not let in", conn->peer, question.identity);
    return ret == 0;
}

bool nbd_secure(struct nbd_connection *conn)
{
    const struct nbd_security *security = conn->options.security;
    CLEANUP(error_free) struct error *err = stream_start_tls(conn->stream, security->tls, NULL);
    if (err && !conn->gives_up)
        complain(conn->peer, "NBD client %s: TLS: %s", conn->peer, error_message(err));
    if (err)
        return false;
    return !security->asks || is_let_in(conn);
}
