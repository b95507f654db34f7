#include "blockcore/net/tls_context_private.h"

#include "blockcore/base/memory.h"
#include "blockcore/net/tls_certificates.h"
#include "blockcore/net/tls_keys.h"
#include "blockcore/runtime/pool.h"
#include "blockcore/runtime/small_file.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#define DH_PARAMS "dh-params.pem"
#define KEYS "keys.psk"

/* A chunk of what the socket has is read at once: several records of up to 16 KiB, so that there are few system calls.
 * The memory is there only while there is something in it. */
#define READ_BYTES (128 * 1024)

struct tls_context *tls_context_ref(struct tls_context *context)
{
    if (context)
        atomic_fetch_add(&context->refs, 1);
    return context;
}

void tls_context_unref(struct tls_context *context)
{
    if (!context || atomic_fetch_sub(&context->refs, 1) != 1)
        return;
    libssl.SSL_CTX_free(context->ctx);
    libssl.BIO_meth_free(context->pipe);
    tls_keys_free(context->keys);
    free(context->username);
    free(context);
}

bool tls_context_is_server(const struct tls_context *context)
{
    return context->server;
}

bool tls_context_names_peers(const struct tls_context *context)
{
    return context->proof == TLS_PROOF_KEY || context->verify_peer;
}

bool tls_context_wants_host(const struct tls_context *context)
{
    return !context->server && context->proof == TLS_PROOF_CERTIFICATE && context->verify_peer;
}

/* Settings that all have ---------------------------------------------------------------------------------------- */

static struct error *set_priority(SSL_CTX *ctx, const struct tls_priority *priority, bool anonymous)
{
    long oldest = priority->tls12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    long newest = priority->tls13 ? TLS1_3_VERSION : TLS1_2_VERSION;
    /* Ciphers that prove nothing are below all levels. */
    libssl.SSL_CTX_set_security_level(ctx, anonymous ? 0 : priority->security_level);
    bool ok = libssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, oldest, NULL) &&
              libssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MAX_PROTO_VERSION, newest, NULL);
    if (ok && priority->tls12)
        ok = libssl.SSL_CTX_set_cipher_list(ctx, priority->ciphers);
    if (ok && priority->tls13)
        ok = libssl.SSL_CTX_set_ciphersuites(ctx, priority->suites);
    if (ok)
        ok = libssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_GROUPS_LIST, 0, (void *)(uintptr_t)priority->groups) == 1;
    if (ok && priority->server_prefers)
        libssl.SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    return ok ? NULL : libssl_error("priority: OpenSSL does not take it");
}

/* Nothing is resumed: a ticket would outlive the revocation of its certificate. */
static void set_behaviour(SSL_CTX *ctx)
{
    libssl.SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
    libssl.SSL_CTX_set_num_tickets(ctx, 0);
    libssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
    libssl.SSL_CTX_ctrl(ctx, SSL_CTRL_MODE,
                        SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS,
                        NULL);
    libssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_READ_AHEAD, 1, NULL);
    libssl.SSL_CTX_set_default_read_buffer_len(ctx, READ_BYTES);
}

/* What to agree on keys with where neither certificates nor elliptic curves are: from the file if there is one. */
static struct error *read_dh(const char *dir, EVP_PKEY **out)
{
    CLEANUP(free) char *path = xasprintf("%s/%s", dir, DH_PARAMS);
    CLEANUP(free) char *text = NULL;
    size_t bytes;
    struct error *err = small_file_read_now(path, TLS_FILE_BYTES_MAX, &text, &bytes);
    if (err && error_errnum(err) == ENOENT) {
        error_free(err);
        return NULL;
    }
    if (err)
        return err;
    BIO *bio = libssl.BIO_new_mem_buf(text, (int)bytes);
    libssl.ERR_clear_error();
    *out = bio ? libssl.PEM_read_bio_Parameters(bio, NULL) : NULL;
    err = *out ? NULL : libssl_error("'%s': expected parameters of Diffie-Hellman in PEM", path);
    libssl.BIO_free(bio);
    return err;
}

static struct error *set_dh(SSL_CTX *ctx, const char *dir)
{
    EVP_PKEY *dh = NULL;
    struct error *err = dir ? read_dh(dir, &dh) : NULL;
    if (err)
        return err;
    if (!dh) {
        /* A well-known group that is large enough; what OpenSSL would choose for anonymous clients is not. */
        EVP_PKEY_CTX *making = libssl.EVP_PKEY_CTX_new_from_name(NULL, "DH", NULL);
        bool made = making && libssl.EVP_PKEY_keygen_init(making) == 1 &&
                    libssl.EVP_PKEY_CTX_set_group_name(making, "ffdhe3072") == 1 &&
                    libssl.EVP_PKEY_generate(making, &dh) == 1;
        libssl.EVP_PKEY_CTX_free(making);
        if (!made)
            return libssl_error("parameters of Diffie-Hellman");
    }
    if (libssl.SSL_CTX_set0_tmp_dh_pkey(ctx, dh) == 1)
        return NULL;
    libssl.EVP_PKEY_free(dh);
    return libssl_error("'%s/%s': parameters of Diffie-Hellman are not accepted", dir ? dir : "", DH_PARAMS);
}

/* Certificates -------------------------------------------------------------------------------------------------- */

static struct error *use_certificates(struct tls_context *context, const struct tls_certificates *certificates,
                                      bool verify_peer)
{
    SSL_CTX *ctx = context->ctx;
    bool ok = certificates->own_count == 0 || (libssl.SSL_CTX_use_certificate(ctx, certificates->own[0]) == 1 &&
                                               libssl.SSL_CTX_use_PrivateKey(ctx, certificates->key) == 1);
    for (unsigned i = 1; ok && i < certificates->own_count; i++)
        ok = libssl.SSL_CTX_ctrl(ctx, SSL_CTRL_CHAIN_CERT, 1, certificates->own[i]) == 1;
    for (unsigned i = 0; ok && context->server && verify_peer && i < certificates->authorities_count; i++)
        ok = libssl.SSL_CTX_add_client_CA(ctx, certificates->authorities[i]) == 1;
    if (!ok)
        return libssl_error("the certificates are not accepted");
    X509_STORE *store = tls_certificates_store(certificates);
    if (!store)
        return libssl_error("the CA is not accepted");
    libssl.SSL_CTX_set_cert_store(ctx, store);
    context->verify_peer = verify_peer;
    if (verify_peer)
        libssl.SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, tls_certificates_verify);
    return NULL;
}

static struct error *set_certificates(struct tls_context *context, const struct tls_settings *settings,
                                      struct error **warning)
{
    const struct tls_certificates_wanted wanted = {
        .dir = settings->dir,
        .server = settings->server,
        .verify_peer = settings->verify_peer,
        .password = settings->password,
    };
    struct tls_certificates certificates;
    struct error *err = tls_certificates_load(&wanted, &certificates);
    if (err)
        return err;
    if (settings->sanity_check)
        err = tls_certificates_check(&wanted, &certificates);
    if (!err)
        err = use_certificates(context, &certificates, settings->verify_peer);
    if (!err && certificates.key_is_exposed)
        *warning = error_new("'%s/%s-key.pem' can be read by everybody, only its owner should", settings->dir,
                             settings->server ? "server" : "client");
    tls_certificates_fini(&certificates);
    return err;
}

/* Keys ---------------------------------------------------------------------------------------------------------- */

static struct error *check_user(const struct tls_keys *keys, const struct tls_settings *settings)
{
    size_t bytes;
    if (settings->server || tls_keys_find(keys, settings->username, &bytes))
        return NULL;
    return error_new("there is no key of user '%s'", settings->username);
}

static struct error *set_keys(struct tls_context *context, const struct tls_settings *settings, struct error **warning)
{
    CLEANUP(free) char *path = xasprintf("%s/%s", settings->dir, KEYS);
    CLEANUP(tls_keys_free) struct tls_keys *keys = NULL;
    char *text;
    size_t bytes;
    struct stat st;
    struct error *err = small_file_read_now(path, TLS_FILE_BYTES_MAX, &text, &bytes);
    if (err)
        return err;
    err = tls_keys_parse(text, bytes, &keys);
    explicit_bzero(text, bytes);
    free(text);
    if (!err)
        err = check_user(keys, settings);
    if (err)
        return error_wrap(err, "'%s'", path);
    if (stat(path, &st) == 0 && st.st_mode & S_IROTH)
        *warning = error_new("'%s' can be read by everybody, only its owner should", path);
    context->keys = steal(&keys);
    if (context->server) {
        libssl.SSL_CTX_set_psk_server_callback(context->ctx, tls_session_find_key);
    } else {
        context->username = xstrdup(settings->username);
        libssl.SSL_CTX_set_psk_client_callback(context->ctx, tls_session_show_key);
    }
    return NULL;
}

/* Making -------------------------------------------------------------------------------------------------------- */

static struct error *context_new(const struct tls_settings *settings, const struct tls_priority *priority,
                                 struct tls_context **out)
{
    CLEANUP(tls_context_unref) struct tls_context *context = xcalloc(1, sizeof(*context));
    atomic_store(&context->refs, 1);
    context->proof = settings->proof;
    context->server = settings->server;
    libssl.ERR_clear_error();
    context->ctx = libssl.SSL_CTX_new(settings->server ? libssl.TLS_server_method() : libssl.TLS_client_method());
    context->pipe = context->ctx ? tls_session_pipe() : NULL;
    if (!context->pipe)
        return libssl_error("OpenSSL");
    struct error *err = set_priority(context->ctx, priority, settings->proof == TLS_PROOF_NONE);
    if (!err && settings->server)
        err = set_dh(context->ctx, settings->dir);
    if (err)
        return err;
    set_behaviour(context->ctx);
    *out = steal(&context);
    return NULL;
}

struct making {
    const struct tls_settings *settings;
    struct tls_context *context;
    struct error *warning;
    struct error *err;
};

static struct error *make(struct making *making)
{
    const struct tls_settings *settings = making->settings;
    struct tls_priority priority;
    struct error *err =
        tls_priority_parse(settings->priority ? settings->priority : TLS_PRIORITY_DEFAULT, settings->proof, &priority);
    if (!err)
        err = libssl_load();
    if (!err)
        err = context_new(settings, &priority, &making->context);
    if (err)
        return err;
    if (settings->proof == TLS_PROOF_CERTIFICATE)
        return set_certificates(making->context, settings, &making->warning);
    return settings->proof == TLS_PROOF_KEY ? set_keys(making->context, settings, &making->warning) : NULL;
}

static int make_on_pool(void *arg)
{
    struct making *making = arg;
    making->err = make(making);
    return 0;
}

struct error *tls_context_create(const struct tls_settings *settings, struct tls_context **out, struct error **warning)
{
    struct making making = { .settings = settings };
    struct pool_domain *domain = pool_domain_create(settings->dir ? settings->dir : "TLS", 1);
    co_blocking(domain, make_on_pool, &making);
    pool_domain_unref(domain);
    if (making.err) {
        tls_context_unref(making.context);
        error_free(making.warning);
        return making.err;
    }
    *out = making.context;
    if (making.warning)
        *warning = making.warning;
    return NULL;
}
