/* A connection at work: requests go to libnbd, replies come from it. */
#include "blockcore/drivers/nbd/link_private.h"
#include "blockcore/io/block_status.h"
#include "blockcore/runtime/fd_watch.h"

#include <errno.h>
#include <string.h>

static bool is_alive(const struct nbd_link *link)
{
    return libnbd.nbd_aio_is_dead(link->handle) <= 0 && libnbd.nbd_aio_is_closed(link->handle) <= 0;
}

static bool wants(const struct nbd_link *link, unsigned direction)
{
    return libnbd.nbd_aio_get_direction(link->handle) & direction;
}

/* libnbd says so of commands that were on their way when the connection ended; a server cannot. */
static bool is_lost(int errnum)
{
    return errnum == ENOTCONN;
}

/* It has not been done for want of a connection: it waits for the next one. */
static void put_off(struct nbd_link *link, struct nbd_request *request)
{
    list_append(&link->waiting, &request->in_link);
    if (link->watch)
        fd_watch_cancel(link->watch); /* whoever serves the connection shall see that it is over */
}

/* Called by libnbd, inside one of its functions. */
static int completed(void *arg, int *error)
{
    struct nbd_request *request = arg;
    struct nbd_link *link = request->link;
    if (link->submitting == request)
        link->submitting = NULL;
    list_remove(&request->in_link);
    link->answers++;
    if (is_lost(*error))
        put_off(link, request);
    else
        request_finish(request, -*error);
    return 1; /* libnbd forgets the command */
}

/* The last extent may reach beyond what was asked; a server may tell less than that. */
static int told_extents(void *arg, const char *context, uint64_t offset, uint32_t *entries, size_t count, int *error)
{
    struct nbd_request *request = arg;
    (void)error;
    if (strcmp(context, request->link->context) != 0)
        return 0;
    struct extents *extents = request->extents;
    for (size_t i = 0; i + 1 < count && !extents_full(extents); i += 2) {
        struct range part = range_intersect(range_make(offset, entries[i]), request->range);
        struct extent extent = { .offset = part.offset, .bytes = part.bytes, .flags = entries[i + 1] };
        bool follows = extents->count == 0 ? part.offset == request->range.offset : part.offset == offset;
        if (part.bytes == 0 || !follows)
            break;
        extents_append(extents, &extent);
        offset += entries[i];
    }
    return 0;
}

static int64_t hand_over(struct nbd_link *link, struct nbd_request *request)
{
    struct nbd_handle *handle = link->handle;
    nbd_completion_callback done = { .callback = completed, .user_data = request };
    uint64_t offset = request->range.offset;
    uint64_t bytes = request->range.bytes;
    unsigned flags = request->flags;
    switch (request->type) {
    case NBD_LINK_READ:
        return libnbd.nbd_aio_pread(handle, request->data, (size_t)bytes, offset, done, flags);
    case NBD_LINK_WRITE:
        return libnbd.nbd_aio_pwrite(handle, request->data, (size_t)bytes, offset, done, flags);
    case NBD_LINK_ZERO:
        return libnbd.nbd_aio_zero(handle, bytes, offset, done, flags);
    case NBD_LINK_TRIM:
        return libnbd.nbd_aio_trim(handle, bytes, offset, done, flags);
    case NBD_LINK_FLUSH:
        return libnbd.nbd_aio_flush(handle, done, flags);
    case NBD_LINK_STATUS: {
        nbd_extent_callback told = { .callback = told_extents, .user_data = request };
        request->extents->count = 0;
        return libnbd.nbd_aio_block_status(handle, bytes, offset, told, done, flags);
    }
    }
    return -1;
}

static void write_more(struct nbd_link *link);

void link_submit(struct nbd_link *link, struct nbd_request *request)
{
    list_append(&link->sent, &request->in_link);
    link->submitting = request;
    int64_t cookie = hand_over(link, request);
    bool unseen = link->submitting == request; /* otherwise it is done, and may be gone */
    link->submitting = NULL;
    if (cookie < 0 && unseen) {
        int errnum = libnbd.nbd_get_errno();
        list_remove(&request->in_link);
        if (is_lost(errnum) || !is_alive(link))
            put_off(link, request);
        else
            request_finish(request, errnum ? -errnum : -EIO);
    }
    write_more(link);
}

/* While libnbd has something to write that did not fit. */
static void writer_entry(void *arg)
{
    struct nbd_link *link = arg;
    while (is_alive(link) && wants(link, LIBNBD_AIO_DIRECTION_WRITE)) {
        if (fd_watch_writable(link->watch, FD_WATCH_FOREVER) < 0)
            break;
        if (is_alive(link) && wants(link, LIBNBD_AIO_DIRECTION_WRITE))
            libnbd.nbd_aio_notify_write(link->handle);
    }
    link->writing = false;
    if (!is_alive(link))
        fd_watch_cancel(link->watch); /* the reader shall see it */
    if (link->writing_ends)
        co_event_set(link->writing_ends);
}

static void write_more(struct nbd_link *link)
{
    if (link->writing || !is_alive(link) || !wants(link, LIBNBD_AIO_DIRECTION_WRITE))
        return;
    link->writing = true;
    co_start("nbd client, writing", writer_entry, link);
}

void link_serve(struct nbd_link *link)
{
    link->up = true;
    link->too_late = false;
    timer_stop(link->delay);
    struct list again;
    list_init(&again);
    list_splice(&again, &link->waiting);
    struct list *first;
    while ((first = list_take_first(&again)))
        link_submit(link, list_entry(first, struct nbd_request, in_link));
    while (!link->closing && is_alive(link)) {
        if (fd_watch_readable(link->watch, FD_WATCH_FOREVER) < 0)
            break;
        if (is_alive(link) && wants(link, LIBNBD_AIO_DIRECTION_READ))
            libnbd.nbd_aio_notify_read(link->handle);
        write_more(link);
    }
    link->up = false;
}
