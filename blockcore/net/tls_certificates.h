/* tls_certificates - the certificates and keys of a directory, and whether they can be of use
 *
 *     ca-cert.pem                        whom we believe; several, one after the other
 *     ca-crl.pem                         whom no more; may be absent
 *     server-cert.pem, server-key.pem    who we are (client-...: on that side), followed by those between it and the CA
 *
 * The names are those of libvirt and QEMU. Everything here blocks: it is for threads of the pool. */
#ifndef CAIRN_NET_TLS_CERTIFICATES_H
#define CAIRN_NET_TLS_CERTIFICATES_H

#include "blockcore/net/libssl.h"

#include <stdbool.h>

struct key_bytes;

#define TLS_FILE_BYTES_MAX (4 * 1024 * 1024) /* of each file */
#define TLS_CERTIFICATES_MAX 1000            /* in each file */

struct tls_certificates {
    X509 **authorities;
    unsigned authorities_count;
    X509_CRL **revocations;
    unsigned revocations_count;
    X509 **own; /* the first is ours, the others are between it and the CA; none: there is none */
    unsigned own_count;
    EVP_PKEY *key;       /* NULL where own_count is 0 */
    bool key_is_exposed; /* others than its owner and group may read the file */
};

struct tls_certificates_wanted {
    const char *dir;
    bool server;
    bool verify_peer;                 /* a server that does not look at its clients needs no CA */
    const struct key_bytes *password; /* of the key; NULL: none */
};

/* Errors name the file. The caller releases what is in *out, which is zeroed on failure. */
struct error *tls_certificates_load(const struct tls_certificates_wanted *wanted,
                                    struct tls_certificates *out) MUST_CHECK;
void tls_certificates_fini(struct tls_certificates *certificates);

/* Can a peer ever accept them? Errors name the file, the certificate and what was expected of it. */
struct error *tls_certificates_check(const struct tls_certificates_wanted *wanted,
                                     const struct tls_certificates *certificates) MUST_CHECK;

/* A store of what is believed, and whom no more. The caller frees it. */
X509_STORE *tls_certificates_store(const struct tls_certificates *certificates);

/* For X509_STORE_CTX and SSL_CTX: a CA that nothing is known of may have revoked nobody. */
int tls_certificates_verify(int good, X509_STORE_CTX *context);

#endif
