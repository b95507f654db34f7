/* source - the files of a schema, places in them, and what is said about them
 *
 * A compilation is one struct compilation: an arena that holds everything it learns, and the messages it gives. There
 * is no other state, so a program can run any number of them. The first error ends a compilation; notes may follow it.
 */
#ifndef SCHEMAC_SOURCE_H
#define SCHEMAC_SOURCE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/arena.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

struct source;

struct location {
    const struct source *source;
    unsigned line;   /* from 1; 0 for what no file defines */
    unsigned column; /* from 1, a tab reaches to the next multiple of 8 */
};

struct source {
    const char *path; /* as reached from the command line: directory of the including file plus the name it wrote */
    const char *text; /* length bytes, then a zero byte */
    size_t length;
    dev_t device; /* with the inode: which file it is; 0 and 0 when it is none */
    ino_t inode;
    struct location included_at;
    const struct source *includer; /* NULL for the main file */
};

struct compilation {
    struct arena *arena;
    FILE *messages; /* where errors and notes go */
    bool failed;
    /* How files are read; NULL: source_read(). */
    struct source *(*read)(struct arena *arena, const char *path, int *errnum);
};

enum {
    SOURCE_BYTES_MAX = 16 << 20,
    SOURCES_MAX = 1000,
};

/* "FILE:LINE:COL: error: ...". Marks the compilation as failed; returns false, to be returned by the caller. */
bool compilation_error(struct compilation *compilation, struct location at, const char *format, ...) PRINTF_LIKE(3, 4);

bool compilation_verror(struct compilation *compilation, struct location at, const char *format, va_list args)
    PRINTF_LIKE(3, 0);

/* "note: did you mean ...?", if there is a suggestion. */
struct suggestion;
void compilation_suggest(struct compilation *compilation, struct location at, const struct suggestion *suggestion);

/* "FILE:LINE:COL: note: ...", after an error: names the member or the way out. */
void compilation_note(struct compilation *compilation, struct location at, const char *format, ...) PRINTF_LIKE(3, 4);

/* Reads @path; ends of lines become single newlines. Returns NULL and sets *errnum when it cannot be read or is larger
 * than SOURCE_BYTES_MAX (EFBIG). */
struct source *source_read(struct arena *arena, const char *path, int *errnum);

/* A source whose text is in memory already; copies both. */
struct source *source_from_text(struct arena *arena, const char *path, const char *text, size_t length);

/* What @path names, to be compared with sources. A file that does not exist is known by its path alone. */
struct source_identity {
    const char *path;
    dev_t device;
    ino_t inode;
};
struct source_identity source_identify(const char *path);
bool source_is(const struct source *source, const struct source_identity *identity);

/* The place of the first byte that is not UTF-8; its line is 0 if there is none. */
struct location source_find_bad_byte(const struct source *source);

#endif
