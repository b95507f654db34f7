/* tls_keys - pre-shared keys, from a file as `psktool` of GnuTLS writes it
 *
 *     alice:00112233445566778899aabbccddeeff
 *     bob:e6b3...
 *
 * One line for each user: the name, a colon, the key in hexadecimal digits. A name of other bytes than usual is written
 * in hexadecimal digits too, with a '#' before them. Empty lines and remarks after a '#' mean nothing. */
#ifndef CAIRN_NET_TLS_KEYS_H
#define CAIRN_NET_TLS_KEYS_H

#include "blockcore/base/cleanup.h"
#include "blockcore/base/error.h"

#include <stddef.h>
#include <stdint.h>

#define TLS_KEY_BYTES_MAX 256  /* what OpenSSL takes in TLS 1.2 */
#define TLS_KEY_BYTES_MIN 4    /* what protects nothing is not called a key; psktool makes 32 */
#define TLS_USER_BYTES_MAX 128 /* of a name, as OpenSSL takes it in TLS 1.2 */
#define TLS_KEYS_MAX 10000

struct tls_keys;

/* Errors tell the line, and never show a key. A pure function. */
struct error *tls_keys_parse(const char *text, size_t bytes, struct tls_keys **out) MUST_CHECK;

/* Overwrites the keys. NULL is allowed. */
void tls_keys_free(struct tls_keys *keys);
DEFINE_CLEANUP(tls_keys_free, struct tls_keys *)

/* The key of @user and its length; NULL: there is no such user. Any thread. */
const uint8_t *tls_keys_find(const struct tls_keys *keys, const char *user, size_t *bytes);

#endif
