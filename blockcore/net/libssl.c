#include "blockcore/net/libssl.h"

#include "blockcore/base/memory.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

struct libssl libssl;

#define LIBSSL_SYMBOL(name) LATE_SYMBOL(libssl, name)
static const struct late_symbol symbols[] = { LIBSSL_FUNCTIONS(LIBSSL_SYMBOL) };

/* As in crypto/libcrypto.c. Whoever comes first decides, and both say the same. */
static struct error *init(void)
{
    if (!libssl.OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL))
        return error_new("cannot be started; the configuration of OpenSSL may be wrong");
    return NULL;
}

static struct late_library library = LATE_LIBRARY("libssl.so.3", "libssl3", symbols, .init = init);

struct error *libssl_load(void)
{
    return late_library_load(&library);
}

/* Errors of the system have no text in OpenSSL's tables. */
static const char *reason_of(unsigned long code)
{
    if (ERR_SYSTEM_ERROR(code))
        return strerror(ERR_GET_REASON(code));
    const char *reason = libssl.ERR_reason_error_string(code);
    return reason ? reason : "unknown reason";
}

struct error *libssl_error(const char *format, ...)
{
    unsigned long code = libssl.ERR_peek_last_error();
    va_list args;
    va_start(args, format);
    CLEANUP(free) char *text = xvasprintf(format, args);
    va_end(args);
    libssl.ERR_clear_error();
    return error_new("%s: %s", text, code ? reason_of(code) : "unknown reason");
}
