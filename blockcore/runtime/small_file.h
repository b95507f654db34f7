/* small_file - the whole of a file that somebody named, without waiting for its storage on a loop
 *
 * For files that are read once and looked at as a whole. Each is read in a domain of its own, so that one on a server
 * that does not answer costs itself only. */
#ifndef CAIRN_RUNTIME_SMALL_FILE_H
#define CAIRN_RUNTIME_SMALL_FILE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stddef.h>

/* Reads all of @path, which may be anything that ends and holds at most @bytes_max bytes. The caller frees *@text,
 * behind which a zero byte stands. Errors name the file. */
struct error *small_file_read(const char *path, size_t bytes_max, char **text, size_t *bytes) CO_FN MUST_CHECK;

/* The same at once, on a thread that may block: for what is already on the pool. */
struct error *small_file_read_now(const char *path, size_t bytes_max, char **text, size_t *bytes) MUST_CHECK;

#endif
