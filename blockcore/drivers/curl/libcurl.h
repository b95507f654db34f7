/* libcurl - HTTP, loaded when it is first needed
 *
 * A handle of it serves one request at a time and keeps its connection for the next one. What performs a request
 * blocks, the look-up of the name included, so it is called on the pool. */
#ifndef CAIRN_DRIVERS_CURL_LIBCURL_H
#define CAIRN_DRIVERS_CURL_LIBCURL_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/late_library.h"

/* Its checks of types are macros around the functions' names, which a table of functions cannot have. */
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#define LIBCURL_FUNCTIONS(F)                                                                                           \
    F(curl_global_init)                                                                                                \
    F(curl_easy_init)                                                                                                  \
    F(curl_easy_cleanup)                                                                                               \
    F(curl_easy_setopt)                                                                                                \
    F(curl_easy_getinfo)                                                                                               \
    F(curl_easy_perform)                                                                                               \
    F(curl_easy_strerror)                                                                                              \
    F(curl_slist_append)                                                                                               \
    F(curl_slist_free_all)                                                                                             \
    F(curl_url)                                                                                                        \
    F(curl_url_set)                                                                                                    \
    F(curl_url_get)                                                                                                    \
    F(curl_url_cleanup)                                                                                                \
    F(curl_free)

struct libcurl {
    LIBCURL_FUNCTIONS(LATE_MEMBER)
};

/* Valid once libcurl_load() has succeeded. */
extern struct libcurl libcurl;

/* Awaits the pool the first time. */
struct error *libcurl_load(void) CO_FN MUST_CHECK;

#endif
