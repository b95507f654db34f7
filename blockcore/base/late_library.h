/* late_library - a shared library that is loaded when it is first needed
 *
 * Linking against large libraries that few users need (ciphers, http) makes every start of the process slow: the
 * dynamic linker loads and relocates them before main. Such a library is opened when something first needs it instead,
 * and one that is not installed is an error of that one thing.
 *
 *     #define CRYPTO_FUNCTIONS(F) F(EVP_CIPHER_fetch) F(EVP_CIPHER_free)
 *     #define CRYPTO_SYMBOL(name) LATE_SYMBOL(crypto, name)
 *
 *     static struct {
 *         CRYPTO_FUNCTIONS(LATE_MEMBER)
 *     } crypto;
 *     static const struct late_symbol symbols[] = { CRYPTO_FUNCTIONS(CRYPTO_SYMBOL) };
 *     static struct late_library library = LATE_LIBRARY("libcrypto.so.3", "libssl3", symbols);
 *
 * The types come from the library's own headers, so a call is checked like any other: crypto.EVP_CIPHER_free(cipher).
 * Loading reads disks: in a coroutine use co_load_library() (runtime/load_library.h), which does it on the pool.
 *
 * Invariant: whoever has seen loading succeed sees the whole table; a library stays until the process ends. */
#ifndef CAIRN_BASE_LATE_LIBRARY_H
#define CAIRN_BASE_LATE_LIBRARY_H

#include "blockcore/base/error.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct late_symbol {
    const char *name;
    void *pointer; /* to the function pointer that is set */
};

struct late_library {
    const char *soname;  /* with the version of its interface: "libcrypto.so.3" */
    const char *package; /* of Debian, for the message when it is not there */
    const struct late_symbol *symbols;
    size_t symbol_count;
    struct error *(*init)(void); /* called once, when the table is filled in; may be absent */
    pthread_mutex_t mutex;       /* held while loading */
    _Atomic bool loaded;
};

#define LATE_MEMBER(name) __typeof__(&name) name;
#define LATE_SYMBOL(table, function) { #function, &(table).function },
/* What follows the table of symbols are further members: .init = ... */
#define LATE_LIBRARY(soname_, package_, symbols_, ...)                                                                 \
    {                                                                                                                  \
        .soname = (soname_), .package = (package_), .symbols = (symbols_), .symbol_count = ARRAY_SIZE(symbols_),       \
        .mutex = PTHREAD_MUTEX_INITIALIZER, ##__VA_ARGS__                                                              \
    }

/* Opens the library and fills in the table, unless that has been done. Any thread, several at once; blocks while
 * the library is read. After an error nothing is kept and the next call tries again. */
struct error *late_library_load(struct late_library *library) MUST_CHECK;

/* Any thread; never blocks. */
bool late_library_is_loaded(const struct late_library *library);

#endif
