#include "blockcore/crypto/libcrypto.h"

#include "blockcore/runtime/load_library.h"

struct libcrypto libcrypto;

#define LIBCRYPTO_SYMBOL(name) LATE_SYMBOL(libcrypto, name)
static const struct late_symbol symbols[] = { LIBCRYPTO_FUNCTIONS(LIBCRYPTO_SYMBOL) };

/* The settings of the host are read now, on a thread that may block. Nothing is taken down at exit: threads may still
 * be at work then. */
static struct error *init(void)
{
    if (!libcrypto.OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL))
        return error_new("cannot be started; the configuration of OpenSSL may be wrong");
    return NULL;
}

static struct late_library library = LATE_LIBRARY("libcrypto.so.3", "libssl3", symbols, .init = init);

struct error *libcrypto_load(void)
{
    return co_load_library(&library);
}
