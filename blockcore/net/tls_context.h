/* tls_context - what a server or a client shows to the other side of TLS, and what it wants to see
 *
 * Made of the files of a directory when credentials are made (objects/tls_creds), then shared by connections of all
 * threads, for as long as the last of them lives. What the files hold later does not matter to it. */
#ifndef CAIRN_NET_TLS_CONTEXT_H
#define CAIRN_NET_TLS_CONTEXT_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/cleanup.h"
#include "blockcore/base/error.h"
#include "blockcore/net/tls_priority.h"

#include <stdbool.h>

struct key_bytes;
struct tls_context;

struct tls_settings {
    enum tls_proof proof;
    bool server;
    const char *dir;      /* may be NULL for TLS_PROOF_NONE */
    const char *priority; /* NULL: the default */
    /* Of TLS_PROOF_KEY, on a client: */
    const char *username;
    /* Of TLS_PROOF_CERTIFICATE: */
    bool verify_peer;
    bool sanity_check;
    const struct key_bytes *password; /* of the key; NULL: none */
};

/* *out has one reference. *warning, which the caller frees, is what is not good but may be
 * wanted; else it stays. Errors name the file and say what was expected. */
struct error *tls_context_create(const struct tls_settings *settings, struct tls_context **out, struct error **warning)
    CO_FN MUST_CHECK;

struct tls_context *tls_context_ref(struct tls_context *context); /* NULL stays NULL */
void tls_context_unref(struct tls_context *context);              /* NULL is allowed */
DEFINE_CLEANUP(tls_context_unref, struct tls_context *)

bool tls_context_is_server(const struct tls_context *context);

/* Does a client prove a name, so that somebody can be asked whether it may come in? */
bool tls_context_names_peers(const struct tls_context *context);

/* Does a client look for the name of its server in a certificate, so that it has to know that name? */
bool tls_context_wants_host(const struct tls_context *context);

#endif
