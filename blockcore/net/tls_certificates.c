#include "blockcore/net/tls_certificates.h"

#include "blockcore/base/memory.h"
#include "blockcore/crypto/random.h"
#include "blockcore/net/tls_name.h"
#include "blockcore/runtime/small_file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define CA_CERT "ca-cert.pem"
#define CA_CRL "ca-crl.pem"

/* Files --------------------------------------------------------------------------------------------------------- */

static const char *own_cert(bool server)
{
    return server ? "server-cert.pem" : "client-cert.pem";
}

static const char *own_key(bool server)
{
    return server ? "server-key.pem" : "client-key.pem";
}

/* A file of the directory, to read objects from; NULL without an error: it is absent and may be. */
struct pem_file {
    char *path;
    char *text;
    size_t bytes;
    BIO *bio;
};

static void pem_file_close(struct pem_file *file)
{
    libssl.BIO_free(file->bio);
    if (file->text)
        explicit_bzero(file->text, file->bytes);
    free(file->text);
    free(file->path);
}

static void pem_file_close_cleanup(struct pem_file *file)
{
    pem_file_close(file);
}

static struct error *pem_file_open(const char *dir, const char *name, struct pem_file *out)
{
    out->path = xasprintf("%s/%s", dir, name);
    struct error *err = small_file_read_now(out->path, TLS_FILE_BYTES_MAX, &out->text, &out->bytes);
    if (err)
        return err;
    out->bio = libssl.BIO_new_mem_buf(out->text, (int)out->bytes);
    return out->bio ? NULL : error_errno(ENOMEM, "'%s'", out->path);
}

/* At the end of a file OpenSSL says that nothing begins; anything else is a mistake in it. */
static bool at_end(void)
{
    unsigned long code = libssl.ERR_peek_last_error();
    bool end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    if (end)
        libssl.ERR_clear_error();
    return end;
}

static struct error *read_certificates(const char *dir, const char *name, X509 ***out, unsigned *count)
{
    CLEANUP(pem_file_close) struct pem_file file = { 0 };
    struct error *err = pem_file_open(dir, name, &file);
    if (err)
        return err;
    X509 *one;
    libssl.ERR_clear_error();
    while ((one = libssl.PEM_read_bio_X509(file.bio, NULL, NULL, NULL))) {
        *out = xrealloc_array(*out, *count + 1, sizeof(**out));
        (*out)[(*count)++] = one;
        if (*count > TLS_CERTIFICATES_MAX)
            return error_new("'%s': holds more than %d certificates", file.path, TLS_CERTIFICATES_MAX);
    }
    if (!at_end())
        return libssl_error("'%s': certificate %u cannot be read", file.path, *count + 1);
    return *count > 0 ? NULL : error_new("'%s': expected a certificate in PEM, there is none", file.path);
}

static struct error *read_revocations(const char *dir, struct tls_certificates *out)
{
    CLEANUP(pem_file_close) struct pem_file file = { 0 };
    CLEANUP(error_free) struct error *err = pem_file_open(dir, CA_CRL, &file);
    if (err)
        return error_errnum(err) == ENOENT ? NULL : steal(&err);
    X509_CRL *one;
    libssl.ERR_clear_error();
    while ((one = libssl.PEM_read_bio_X509_CRL(file.bio, NULL, NULL, NULL))) {
        out->revocations = xrealloc_array(out->revocations, out->revocations_count + 1, sizeof(X509_CRL *));
        out->revocations[out->revocations_count++] = one;
        if (out->revocations_count > TLS_CERTIFICATES_MAX)
            return error_new("'%s': holds more than %d lists", file.path, TLS_CERTIFICATES_MAX);
    }
    if (!at_end())
        return libssl_error("'%s': list %u cannot be read", file.path, out->revocations_count + 1);
    return out->revocations_count > 0
               ? NULL
               : error_new("'%s': expected a list of revoked certificates, there is none", file.path);
}

/* OpenSSL asks for the password. */
static int give_password(char *buffer, int room, int writing, void *arg)
{
    const struct key_bytes *password = arg;
    (void)writing;
    if (!password || password->bytes > (size_t)room)
        return -1;
    memcpy(buffer, password->data, password->bytes);
    return (int)password->bytes;
}

static struct error *read_key(const struct tls_certificates_wanted *wanted, struct tls_certificates *out)
{
    CLEANUP(pem_file_close) struct pem_file file = { 0 };
    struct stat st;
    struct error *err = pem_file_open(wanted->dir, own_key(wanted->server), &file);
    if (err)
        return err;
    out->key_is_exposed = stat(file.path, &st) == 0 && st.st_mode & S_IROTH;
    bool encrypted = memmem(file.text, file.bytes, "ENCRYPTED", strlen("ENCRYPTED"));
    libssl.ERR_clear_error();
    out->key = libssl.PEM_read_bio_PrivateKey(file.bio, NULL, give_password, (void *)(uintptr_t)wanted->password);
    if (out->key)
        return NULL;
    if (encrypted && !wanted->password) {
        libssl.ERR_clear_error();
        return error_new("'%s': the key is encrypted, passwordid has to name the secret with its password", file.path);
    }
    return libssl_error(encrypted ? "'%s': the key cannot be decrypted with the password of passwordid"
                                  : "'%s': expected a private key in PEM",
                        file.path);
}

static struct error *load_authorities(const struct tls_certificates_wanted *wanted, struct tls_certificates *out)
{
    CLEANUP(error_free)
    struct error *err = read_certificates(wanted->dir, CA_CERT, &out->authorities, &out->authorities_count);
    bool needed = !wanted->server || wanted->verify_peer;
    if (err)
        return error_errnum(err) == ENOENT && !needed ? NULL : steal(&err);
    return read_revocations(wanted->dir, out);
}

/* A client may have none. */
static struct error *load_own(const struct tls_certificates_wanted *wanted, struct tls_certificates *out)
{
    CLEANUP(error_free)
    struct error *err = read_certificates(wanted->dir, own_cert(wanted->server), &out->own, &out->own_count);
    if (err)
        return error_errnum(err) == ENOENT && !wanted->server ? NULL : steal(&err);
    err = read_key(wanted, out);
    if (!err && !libssl.X509_check_private_key(out->own[0], out->key))
        err = error_new("'%s/%s': is not the key of the certificate in '%s'", wanted->dir, own_key(wanted->server),
                        own_cert(wanted->server));
    libssl.ERR_clear_error();
    return steal(&err);
}

struct error *tls_certificates_load(const struct tls_certificates_wanted *wanted, struct tls_certificates *out)
{
    *out = (struct tls_certificates){ 0 };
    struct error *err = load_authorities(wanted, out);
    if (!err)
        err = load_own(wanted, out);
    if (err)
        tls_certificates_fini(out);
    return err;
}

static void free_certificates(X509 **certificates, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        libssl.X509_free(certificates[i]);
    free(certificates);
}

void tls_certificates_fini(struct tls_certificates *certificates)
{
    free_certificates(certificates->authorities, certificates->authorities_count);
    free_certificates(certificates->own, certificates->own_count);
    for (unsigned i = 0; i < certificates->revocations_count; i++)
        libssl.X509_CRL_free(certificates->revocations[i]);
    free(certificates->revocations);
    if (certificates->key)
        libssl.EVP_PKEY_free(certificates->key);
    *certificates = (struct tls_certificates){ 0 };
}

/* Checks -------------------------------------------------------------------------------------------------------- */

static char *time_text(const ASN1_TIME *time)
{
    BIO *out = libssl.BIO_new(libssl.BIO_s_mem());
    char *text = NULL;
    long length = 0;
    if (out && libssl.ASN1_TIME_print(out, time))
        length = libssl.BIO_ctrl(out, BIO_CTRL_INFO, 0, &text);
    char *copy = xstrndup(length > 0 ? text : "?", length > 0 ? (size_t)length : 1);
    libssl.BIO_free(out);
    return copy;
}

static struct error *check_times(X509 *certificate)
{
    const ASN1_TIME *begin = libssl.X509_get0_notBefore(certificate);
    const ASN1_TIME *end = libssl.X509_get0_notAfter(certificate);
    if (libssl.X509_cmp_current_time(begin) > 0) {
        CLEANUP(free) char *when = time_text(begin);
        return error_new("is not valid before %s", when);
    }
    if (libssl.X509_cmp_current_time(end) < 0) {
        CLEANUP(free) char *when = time_text(end);
        return error_new("has expired on %s", when);
    }
    return NULL;
}

static struct error *check_authority(X509 *certificate)
{
    struct error *err = check_times(certificate);
    if (err)
        return err;
    if (libssl.X509_check_ca(certificate))
        return NULL;
    if (libssl.X509_get_extension_flags(certificate) & EXFLAG_CA)
        return error_new("may not sign others (keyUsage: keyCertSign is expected)");
    return error_new("is not that of a CA (basicConstraints: CA:TRUE is expected)");
}

/* Where a certificate says nothing, everything is allowed, and OpenSSL has all bits set. */
static struct error *check_own(X509 *certificate, bool server)
{
    uint32_t purpose = server ? XKU_SSL_SERVER : XKU_SSL_CLIENT;
    struct error *err = check_times(certificate);
    if (err)
        return err;
    if (libssl.X509_check_ca(certificate) == 1)
        return error_new("is that of a CA (basicConstraints), one of a %s is expected", server ? "server" : "client");
    if (!(libssl.X509_get_key_usage(certificate) & KU_DIGITAL_SIGNATURE))
        return error_new("may not sign a handshake (keyUsage: digitalSignature is expected)");
    if (!(libssl.X509_get_extended_key_usage(certificate) & (purpose | XKU_ANYEKU)))
        return error_new("is not for a %s (extendedKeyUsage: %s is expected)", server ? "server" : "client",
                         server ? "serverAuth" : "clientAuth");
    return NULL;
}

static struct error *about(struct error *err, const char *dir, const char *file, const X509 *certificate)
{
    if (!err)
        return NULL;
    CLEANUP(free) char *name = tls_name_of(certificate);
    return error_prepend(err, "'%s/%s': certificate '%s' ", dir, file, name ? name : "?");
}

/* Does a chain lead to a CA that is believed? */
static struct error *check_chain(const struct tls_certificates *certificates, bool server)
{
    X509_STORE *store = tls_certificates_store(certificates);
    X509_STORE_CTX *context = libssl.X509_STORE_CTX_new();
    STACK_OF(X509) *others = (STACK_OF(X509) *)libssl.OPENSSL_sk_new_null();
    struct error *err = NULL;
    for (unsigned i = 1; others && i < certificates->own_count; i++)
        libssl.OPENSSL_sk_push((OPENSSL_STACK *)others, certificates->own[i]);
    if (!store || !context || !others || !libssl.X509_STORE_CTX_init(context, store, certificates->own[0], others) ||
        !libssl.X509_STORE_CTX_set_default(context, server ? "ssl_server" : "ssl_client")) {
        err = libssl_error("cannot be checked");
    } else {
        libssl.X509_STORE_CTX_set_verify_cb(context, tls_certificates_verify);
        if (libssl.X509_verify_cert(context) != 1)
            err = error_new("is not accepted with what " CA_CERT " holds: %s",
                            libssl.X509_verify_cert_error_string(libssl.X509_STORE_CTX_get_error(context)));
    }
    libssl.OPENSSL_sk_free((OPENSSL_STACK *)others);
    libssl.X509_STORE_CTX_free(context);
    libssl.X509_STORE_free(store);
    libssl.ERR_clear_error();
    return err;
}

struct error *tls_certificates_check(const struct tls_certificates_wanted *wanted,
                                     const struct tls_certificates *certificates)
{
    const char *file = own_cert(wanted->server);
    struct error *err = NULL;
    for (unsigned i = 0; i < certificates->authorities_count && !err; i++)
        err = about(check_authority(certificates->authorities[i]), wanted->dir, CA_CERT, certificates->authorities[i]);
    if (err || certificates->own_count == 0)
        return err;
    err = about(check_own(certificates->own[0], wanted->server), wanted->dir, file, certificates->own[0]);
    if (!err && certificates->authorities_count > 0)
        err = about(check_chain(certificates, wanted->server), wanted->dir, file, certificates->own[0]);
    return err;
}

/* Use ----------------------------------------------------------------------------------------------------------- */

X509_STORE *tls_certificates_store(const struct tls_certificates *certificates)
{
    X509_STORE *store = libssl.X509_STORE_new();
    bool ok = store;
    for (unsigned i = 0; ok && i < certificates->authorities_count; i++)
        ok = libssl.X509_STORE_add_cert(store, certificates->authorities[i]);
    for (unsigned i = 0; ok && i < certificates->revocations_count; i++)
        ok = libssl.X509_STORE_add_crl(store, certificates->revocations[i]);
    if (ok && certificates->revocations_count > 0)
        ok = libssl.X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    if (ok)
        return store;
    libssl.X509_STORE_free(store);
    return NULL;
}

int tls_certificates_verify(int good, X509_STORE_CTX *context)
{
    if (good || libssl.X509_STORE_CTX_get_error(context) != X509_V_ERR_UNABLE_TO_GET_CRL)
        return good;
    libssl.X509_STORE_CTX_set_error(context, X509_V_OK);
    return 1;
}
