#include "rpc/output.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define KEEP_CAPACITY (16 * 1024) /* of an idle client */

void output_fini(struct output *output)
{
    text_fini(&output->text);
    output->sent = 0;
}

/* Moving what is pending costs as much as it is long, and gains what is sent. */
void output_make_room(struct output *output)
{
    size_t pending = output_pending(output);
    if (output->sent < pending || output->sent == 0)
        return;
    memcpy(output->text.data, output->text.data + output->sent, pending);
    output->text.length = pending;
    output->sent = 0;
}

void output_move(struct output *output, struct text *from)
{
    if (output_pending(output) == 0) {
        output_fini(output);
        output->text = *from;
        *from = (struct text){ 0 };
        return;
    }
    output_make_room(output);
    text_append(&output->text, from->data, from->length);
    text_fini(from);
}

/* All is sent: an idle client holds little memory. */
static void become_empty(struct output *output)
{
    output->text.length = 0;
    output->sent = 0;
    if (output->text.capacity > KEEP_CAPACITY)
        text_fini(&output->text);
}

int output_send(struct output *output, int fd)
{
    while (output_pending(output) > 0) {
        size_t pending = output_pending(output);
        ssize_t sent = send(fd, output->text.data + output->sent, pending, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN ? 0 : -errno;
        output->sent += (size_t)sent;
        if ((size_t)sent < pending)
            return 0; /* the socket is full */
    }
    become_empty(output);
    return 0;
}
