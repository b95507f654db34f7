/* frame - where one JSON text ends and the next begins
 *
 * Messages come as a stream of bytes. A frame finds the end of each by counting brackets outside of strings, so that it
 * depends neither on line ends nor on how the server indents. Every byte is looked at once. */
#ifndef CAIRN_CLIENT_FRAME_H
#define CAIRN_CLIENT_FRAME_H

#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct frame {
    char *data; /* bytes received and not yet taken */
    size_t used;
    size_t capacity;
    size_t scanned; /* bytes of data that have been looked at */
    unsigned depth; /* brackets open at that point */
    bool in_string;
    bool escaped; /* the byte before was a backslash inside a string */
};

void frame_init(struct frame *frame);
void frame_fini(struct frame *frame);

/* Room for at least 64 KiB: *@bytes says how much. Valid until the next call. NULL when @max bytes are waiting for
 * their end. */
char *frame_reserve(struct frame *frame, size_t max, size_t *bytes);

/* @bytes bytes were written into what frame_reserve() gave. */
void frame_received(struct frame *frame, size_t bytes);

/* Bytes of the first complete text (leading white space included), or 0 when it is not complete yet. An error when what
 * comes is no object. */
struct error *frame_complete(struct frame *frame, size_t *bytes) MUST_CHECK;

/* Drops the first @bytes bytes, which frame_complete() told. */
void frame_take(struct frame *frame, size_t bytes);

#endif
