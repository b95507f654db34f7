/* tls_context_private - the layout of a context, for the sessions that are made of it */
#ifndef CAIRN_NET_TLS_CONTEXT_PRIVATE_H
#define CAIRN_NET_TLS_CONTEXT_PRIVATE_H

#include "blockcore/net/libssl.h"
#include "blockcore/net/tls_context.h"

struct tls_keys;

struct tls_context {
    _Atomic unsigned refs;
    enum tls_proof proof;
    bool server;
    bool verify_peer;
    SSL_CTX *ctx;
    BIO_METHOD *pipe;      /* between OpenSSL and the socket: tls_session.c */
    struct tls_keys *keys; /* of TLS_PROOF_KEY */
    char *username;        /* of a client of TLS_PROOF_KEY */
};

/* tls_session.c */
BIO_METHOD *tls_session_pipe(void);
/* OpenSSL asks for the key of a user; SSL_get_ex_data(ssl, 0) is the session. */
unsigned tls_session_find_key(SSL *ssl, const char *user, unsigned char *key, unsigned room);
/* The same for a client, who says which user it is. */
unsigned tls_session_show_key(SSL *ssl, const char *hint, char *user, unsigned user_room, unsigned char *key,
                              unsigned room);

#endif
