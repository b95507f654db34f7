/* output - bytes on their way to a client
 *
 * Replies and events are appended to the text; what is there is written with one system call whenever the socket takes
 * it. The text grows as needed: whoever appends looks at output_pending() first (session.h says who stops at which
 * limit). */
#ifndef CAIRN_RPC_OUTPUT_H
#define CAIRN_RPC_OUTPUT_H

#include "schema/codec/text.h"

/* All zero is empty. */
struct output {
    struct text text; /* append here; see output_make_room() */
    size_t sent;      /* bytes of it */
};

void output_fini(struct output *output);

/* To be called before appending: gives up what is sent, where that pays. */
void output_make_room(struct output *output);

/* Appends all of @from, which is empty afterwards; without copying if nothing is pending. */
void output_move(struct output *output, struct text *from);

static inline size_t output_pending(const struct output *output)
{
    return output->text.length - output->sent;
}

/* Sends what the socket @fd takes without waiting. 0 (also when only part was sent) or -errno when the connection is
 * broken. Raises no SIGPIPE. */
int output_send(struct output *output, int fd);

#endif
