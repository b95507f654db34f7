/* tls_creds - credentials for TLS by name
 *
 * An object of one of the kinds tls-creds-x509, tls-creds-psk and tls-creds-anon knows the directory where certificates
 * and keys are, and what is to be asked of the other side. Servers and drivers name one ("tls-creds"). */
#ifndef CAIRN_OBJECTS_TLS_CREDS_H
#define CAIRN_OBJECTS_TLS_CREDS_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include "schema/cairn_types.h"

struct object;
struct tls_context;

#define TLS_CREDS_USERNAME_DEFAULT "qemu"

/* Credentials for one side. Who keeps them becomes a user of *object (object_use). *out is a reference on what
 * connections need; it may outlive the object. Errors: there is no object @id; it is something else; it is for the
 * other side. */
struct error *tls_creds_find(const char *id, enum q_crypto_tls_creds_endpoint endpoint, struct object **object,
                             struct tls_context **out) CONTROL_FN MUST_CHECK;

#endif
