/* tls_priority - which versions, ciphers and groups of TLS are used
 *
 * Operators write them as QEMU's users do, as a priority string of GnuTLS; OpenSSL wants lists in words of its own:
 *
 *     "SECURE256:-VERS-TLS1.2"  -->  sets of versions, ciphers, key exchanges, MACs, groups  -->  lists for OpenSSL
 *
 * A string is a word that fills the sets, and changes to them: "+X" adds, "-X" removes, "!X" removes for good. What is
 * never offered here (TLS 1.1 and older, RC4, MD5 ...) may be removed, which changes nothing, and not added. */
#ifndef CAIRN_NET_TLS_PRIORITY_H
#define CAIRN_NET_TLS_PRIORITY_H

#include "blockcore/base/error.h"

#include <stdbool.h>

/* How the sides prove who they are: this limits the key exchanges. */
enum tls_proof {
    TLS_PROOF_NONE,
    TLS_PROOF_KEY,         /* pre-shared */
    TLS_PROOF_CERTIFICATE, /* X.509 */
};

struct tls_priority {
    bool tls12; /* at least one of the two */
    bool tls13;
    int security_level;  /* of OpenSSL: SSL_CTX_set_security_level(3) */
    bool server_prefers; /* the server's order counts, not the client's */
    char ciphers[2048];  /* for TLS 1.2; not empty where tls12 */
    char suites[256];    /* for TLS 1.3; not empty where tls13 */
    char groups[128];
};

#define TLS_PRIORITY_DEFAULT "NORMAL"
#define TLS_PRIORITY_BYTES_MAX 4096

/* A pure function. Errors: what is not understood, with what is; what leaves nothing to talk with. */
struct error *tls_priority_parse(const char *text, enum tls_proof proof, struct tls_priority *out) MUST_CHECK;

#endif
