/* tls_creds - credentials for TLS by name
 *
 * An object of one of the kinds tls-creds-x509, tls-creds-psk and tls-creds-anon knows the directory where certificates
 * and keys are, and what is to be asked of the other side. Servers and drivers name one ("tls-creds"). */
#ifndef CAIRN_OBJECTS_TLS_CREDS_H
#define CAIRN_OBJECTS_TLS_CREDS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdbool.h>

struct object;
struct tls_context;

enum tls_creds_kind {
    TLS_CREDS_ANON,
    TLS_CREDS_PSK,
    TLS_CREDS_X509,
};

/* What a client needs to know whose library reads the files itself. Strings live as long as the object. */
struct tls_creds_client {
    enum tls_creds_kind kind;
    const char *dir;      /* may be NULL for TLS_CREDS_ANON */
    const char *username; /* of TLS_CREDS_PSK: never NULL; else NULL */
    const char *priority; /* in the words of GnuTLS; NULL: not given */
    bool verify_peer;
};

#define TLS_CREDS_USERNAME_DEFAULT "qemu"

/* Credentials for the client's side. Who keeps what it is told becomes a user of *object (object_use). Errors: there is
 * no object @id; it is something else; it is for servers. */
struct error *tls_creds_for_client(const char *id, struct object **object,
                                   struct tls_creds_client *out) CONTROL_FN MUST_CHECK;

/* Credentials for the server's side. *out is a reference on what connections need; it may outlive the object. Errors as
 * above. */
struct error *tls_creds_for_server(const char *id, struct object **object,
                                   struct tls_context **out) CONTROL_FN MUST_CHECK;

#endif
