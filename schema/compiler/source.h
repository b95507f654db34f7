/* source - the files of a schema, places in them, and what is said about them
 *
 * A compilation is one struct compilation: an arena that holds everything it learns, and the messages it gives. There
 * is no other state, so a program can run any number of them. The first error ends a compilation; notes may follow it.
 */
#ifndef SCHEMAC_SOURCE_H
#define SCHEMAC_SOURCE_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

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

/* "FILE:LINE:COL: note: ...", after an error: names the member or the way out. */
void compilation_note(struct compilation *compilation, struct location at, const char *format, ...) PRINTF_LIKE(3, 4);

/* Reads @path. Returns NULL and sets *errnum when it cannot be read or is larger than SOURCE_BYTES_MAX (EFBIG). */
struct source *source_read(struct arena *arena, const char *path, int *errnum);

/* A source whose text is in memory already; copies both. */
struct source *source_from_text(struct arena *arena, const char *path, const char *text, size_t length);

/* Whether both name the same file, by device and inode. */
bool source_same_file(const char *path, const char *other_path);

#endif
