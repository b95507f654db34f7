#include "blockcore/drivers/curl/libcurl.h"

#include "blockcore/crypto/libcrypto.h"
#include "blockcore/runtime/load_library.h"

struct libcurl libcurl;

#define LIBCURL_SYMBOL(name) LATE_SYMBOL(libcurl, name)

static const struct late_symbol symbols[] = { LIBCURL_FUNCTIONS(LIBCURL_SYMBOL) };

static struct error *init(void)
{
    CURLcode code = libcurl.curl_global_init(CURL_GLOBAL_DEFAULT);
    return code == CURLE_OK ? NULL : error_new("cannot be started: %s", libcurl.curl_easy_strerror(code));
}

static struct late_library library = LATE_LIBRARY("libcurl.so.4", "libcurl4", symbols, .init = init);

/* Who starts OpenSSL first decides whether it is taken down at exit, under threads that may be at work: so we do. */
struct error *libcurl_load(void)
{
    struct error *err = libcrypto_load();
    return err ? err : co_load_library(&library);
}
