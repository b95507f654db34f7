/* tls_name - the distinguished name of a certificate, as text
 *
 *     CN=laptop,O=Example\, Inc,L=London,ST=London,C=GB
 *
 * Written as GnuTLS, and so QEMU, gives it to those who say who is let in: in the order of the certificate (which is
 * the reverse of RFC 4514), the parts of one level joined by '+', attributes called as GnuTLS calls them, or by their
 * numbers with the value as '#' and the digits of its encoding. Special characters have '\' before them, and what
 * cannot be seen is written as '\' and two digits: no name can look like another one. */
#ifndef CAIRN_NET_TLS_NAME_H
#define CAIRN_NET_TLS_NAME_H

#include "blockcore/net/libssl.h"

#define TLS_NAME_BYTES_MAX 4096

/* The caller frees it. NULL: it is longer than TLS_NAME_BYTES_MAX, or cannot be told. */
char *tls_name_of(const X509 *certificate);

#endif
