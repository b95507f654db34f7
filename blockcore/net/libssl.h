/* libssl - OpenSSL's TLS, loaded when the first credentials are made
 *
 * Whoever uses a function of the table has seen libssl_load() succeed before. For net/ only. */
#ifndef CAIRN_NET_LIBSSL_H
#define CAIRN_NET_LIBSSL_H

#include "blockcore/base/error.h"
#include "blockcore/base/late_library.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

/* Those of libcrypto come along: libssl is linked with it. */
#define LIBSSL_FUNCTIONS(F)                                                                                            \
    F(ASN1_STRING_print_ex)                                                                                            \
    F(ASN1_TIME_print)                                                                                                 \
    F(BIO_clear_flags)                                                                                                 \
    F(BIO_ctrl)                                                                                                        \
    F(BIO_free)                                                                                                        \
    F(BIO_get_data)                                                                                                    \
    F(BIO_meth_free)                                                                                                   \
    F(BIO_meth_new)                                                                                                    \
    F(BIO_meth_set_ctrl)                                                                                               \
    F(BIO_meth_set_read_ex)                                                                                            \
    F(BIO_meth_set_write_ex)                                                                                           \
    F(BIO_new)                                                                                                         \
    F(BIO_new_mem_buf)                                                                                                 \
    F(BIO_s_mem)                                                                                                       \
    F(BIO_set_data)                                                                                                    \
    F(BIO_set_flags)                                                                                                   \
    F(BIO_set_init)                                                                                                    \
    F(BIO_write_ex)                                                                                                    \
    F(ERR_clear_error)                                                                                                 \
    F(ERR_peek_last_error)                                                                                             \
    F(ERR_reason_error_string)                                                                                         \
    F(EVP_PKEY_CTX_free)                                                                                               \
    F(EVP_PKEY_CTX_new_from_name)                                                                                      \
    F(EVP_PKEY_CTX_set_group_name)                                                                                     \
    F(EVP_PKEY_free)                                                                                                   \
    F(EVP_PKEY_generate)                                                                                               \
    F(EVP_PKEY_keygen_init)                                                                                            \
    F(OBJ_obj2txt)                                                                                                     \
    F(OPENSSL_init_ssl)                                                                                                \
    F(OPENSSL_sk_free)                                                                                                 \
    F(OPENSSL_sk_new_null)                                                                                             \
    F(OPENSSL_sk_push)                                                                                                 \
    F(PEM_read_bio_Parameters)                                                                                         \
    F(PEM_read_bio_PrivateKey)                                                                                         \
    F(PEM_read_bio_X509)                                                                                               \
    F(PEM_read_bio_X509_CRL)                                                                                           \
    F(SSL_CTX_add_client_CA)                                                                                           \
    F(SSL_CTX_ctrl)                                                                                                    \
    F(SSL_CTX_free)                                                                                                    \
    F(SSL_CTX_set_cert_store)                                                                                          \
    F(SSL_CTX_new)                                                                                                     \
    F(SSL_CTX_set0_tmp_dh_pkey)                                                                                        \
    F(SSL_CTX_set_cipher_list)                                                                                         \
    F(SSL_CTX_set_ciphersuites)                                                                                        \
    F(SSL_CTX_set_default_read_buffer_len)                                                                             \
    F(SSL_CTX_set_num_tickets)                                                                                         \
    F(SSL_CTX_set_options)                                                                                             \
    F(SSL_CTX_set_psk_client_callback)                                                                                 \
    F(SSL_CTX_set_psk_server_callback)                                                                                 \
    F(SSL_CTX_set_security_level)                                                                                      \
    F(SSL_CTX_set_verify)                                                                                              \
    F(SSL_CTX_use_PrivateKey)                                                                                          \
    F(SSL_CTX_use_certificate)                                                                                         \
    F(SSL_do_handshake)                                                                                                \
    F(SSL_ctrl)                                                                                                        \
    F(SSL_free)                                                                                                        \
    F(SSL_get0_param)                                                                                                  \
    F(SSL_get1_peer_certificate)                                                                                       \
    F(SSL_get_error)                                                                                                   \
    F(SSL_get_ex_data)                                                                                                 \
    F(SSL_get_verify_result)                                                                                           \
    F(SSL_new)                                                                                                         \
    F(SSL_read_ex)                                                                                                     \
    F(SSL_set0_rbio)                                                                                                   \
    F(SSL_set0_wbio)                                                                                                   \
    F(SSL_set_accept_state)                                                                                            \
    F(SSL_set_connect_state)                                                                                           \
    F(SSL_set_ex_data)                                                                                                 \
    F(SSL_shutdown)                                                                                                    \
    F(SSL_write_ex)                                                                                                    \
    F(TLS_client_method)                                                                                               \
    F(TLS_server_method)                                                                                               \
    F(X509_CRL_free)                                                                                                   \
    F(X509_NAME_ENTRY_get_data)                                                                                        \
    F(X509_NAME_ENTRY_get_object)                                                                                      \
    F(X509_NAME_ENTRY_set)                                                                                             \
    F(X509_NAME_entry_count)                                                                                           \
    F(X509_NAME_get_entry)                                                                                             \
    F(X509_STORE_CTX_free)                                                                                             \
    F(X509_STORE_CTX_get_error)                                                                                        \
    F(X509_STORE_CTX_init)                                                                                             \
    F(X509_STORE_CTX_new)                                                                                              \
    F(X509_STORE_CTX_set_default)                                                                                      \
    F(X509_STORE_CTX_set_error)                                                                                        \
    F(X509_STORE_CTX_set_verify_cb)                                                                                    \
    F(X509_STORE_add_cert)                                                                                             \
    F(X509_STORE_add_crl)                                                                                              \
    F(X509_STORE_free)                                                                                                 \
    F(X509_STORE_new)                                                                                                  \
    F(X509_STORE_set_flags)                                                                                            \
    F(X509_VERIFY_PARAM_set1_host)                                                                                     \
    F(X509_VERIFY_PARAM_set1_ip_asc)                                                                                   \
    F(X509_check_ca)                                                                                                   \
    F(X509_check_private_key)                                                                                          \
    F(X509_cmp_current_time)                                                                                           \
    F(X509_free)                                                                                                       \
    F(X509_get0_notAfter)                                                                                              \
    F(X509_get0_notBefore)                                                                                             \
    F(X509_get_extension_flags)                                                                                        \
    F(X509_get_extended_key_usage)                                                                                     \
    F(X509_get_key_usage)                                                                                              \
    F(X509_get_subject_name)                                                                                           \
    F(X509_verify_cert)                                                                                                \
    F(X509_verify_cert_error_string)

struct libssl {
    LIBSSL_FUNCTIONS(LATE_MEMBER)
};

extern struct libssl libssl;

/* On a thread that may block. */
struct error *libssl_load(void) MUST_CHECK;

/* "<formatted>: <what OpenSSL says last on this thread>"; nothing is left of what it said. */
struct error *libssl_error(const char *format, ...) PRINTF_LIKE(1, 2) MUST_CHECK;

#endif
