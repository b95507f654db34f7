#include "blockcore/base/memory.h"
#include "blockcore/drivers/nbd/link_private.h"
#include "blockcore/graph/notice.h"
#include "blockcore/io/block_status.h"
#include "blockcore/net/address.h"
#include "blockcore/net/resolve.h"
#include "blockcore/runtime/fd_watch.h"

#include <errno.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)
#define HANDSHAKE_MS 30000 /* a server that has not answered by then is none */
#define CONNECTION_MS 1000 /* one that was shorter is not followed by another at once */
#define RETRY_FIRST_MS 100 /* between attempts to connect; then twice as long each time */
#define LAST_MS 8000       /* when the process is about to end: for what was sent, and the last flush */
#define RETRY_MAX_MS 5000

/* Control thread. */
static struct list links = LIST_INIT(links);
static bool all_given_up;

/* Sleeping ------------------------------------------------------------------------------------------------------ */

static void nap_is_over(void *arg)
{
    link_wake(arg);
}

void link_nap(struct nbd_link *link, uint64_t ms)
{
    struct co_event event;
    struct timer *timer = NULL;
    co_event_init(&event);
    link->nap = &event;
    if (ms > 0) {
        timer = timer_create_on_loop(nap_is_over, link);
        timer_start(timer, ms);
    }
    co_event_wait(&event, "a server");
    timer_destroy(timer);
}

void link_wake(struct nbd_link *link)
{
    struct co_event *nap = link->nap;
    link->nap = NULL;
    if (nap)
        co_event_set(nap);
}

void link_interrupt(struct nbd_link *link)
{
    link_wake(link);
    if (link->watch)
        fd_watch_cancel(link->watch);
}

/* Requests ------------------------------------------------------------------------------------------------------ */

static void finish(struct nbd_request *request, int ret)
{
    request->ret = ret;
    co_event_set(&request->done);
}

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
    if (is_lost(*error))
        put_off(link, request);
    else
        finish(request, -*error);
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

static void submit(struct nbd_link *link, struct nbd_request *request)
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
            finish(request, errnum ? -errnum : -EIO);
    }
    write_more(link);
}

/* This process ends and was its own server: what was written is with the node that it served, which flushes itself. */
static bool needs_no_server(const struct nbd_link *link, const struct nbd_request *request)
{
    return request->type == NBD_LINK_FLUSH && link->given_up && link->is_self;
}

static void finish_without_server(const struct nbd_link *link, struct nbd_request *request)
{
    finish(request, needs_no_server(link, request) ? 0 : -EIO);
}

static void fail_waiting(struct nbd_link *link)
{
    struct list *first;
    while ((first = list_take_first(&link->waiting)))
        finish_without_server(link, list_entry(first, struct nbd_request, in_link));
}

static void arrives(struct loop_task *task)
{
    struct nbd_request *request = CONTAINER_OF(task, struct nbd_request, task);
    struct nbd_link *link = request->link;
    if (link->up)
        submit(link, request);
    else if (link->too_late || link->given_up)
        finish_without_server(link, request);
    else
        list_append(&link->waiting, &request->in_link);
}

int nbd_link_run(struct nbd_link *link, struct nbd_request *request)
{
    request->link = link;
    request->task.run = arrives;
    list_init(&request->in_link);
    co_event_init(&request->done);
    if (loop_is_current(link->home))
        arrives(&request->task);
    else
        loop_post(link->home, &request->task);
    co_event_wait(&request->done, "an NBD server");
    return request->ret;
}

/* A connection at work ------------------------------------------------------------------------------------------ */

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

/* Until the connection is lost or the link is closed. */
static void serve(struct nbd_link *link) CO_FN;

static void serve(struct nbd_link *link)
{
    link->up = true;
    link->too_late = false;
    timer_stop(link->delay);
    struct list again;
    list_init(&again);
    list_splice(&again, &link->waiting);
    struct list *first;
    while ((first = list_take_first(&again)))
        submit(link, list_entry(first, struct nbd_request, in_link));
    while (!link->closing && is_alive(link)) {
        if (fd_watch_readable(link->watch, FD_WATCH_FOREVER) < 0)
            break;
        if (is_alive(link) && wants(link, LIBNBD_AIO_DIRECTION_READ))
            libnbd.nbd_aio_notify_read(link->handle);
        write_more(link);
    }
    link->up = false;
}

static void tell(const struct nbd_link *link, const char *what, const char *why)
{
    CLEANUP(free) char *message = xasprintf("%s '%s'%s%s", what, link->server_text, why ? ": " : "", why ? why : "");
    notice_give(&(struct notice){ .kind = NOTICE_SERVER, .node_name = link->node_name, .message = message });
}

static void delay_is_over(void *arg)
{
    struct nbd_link *link = arg;
    link->too_late = true;
    if (link->up && link->given_up)
        fd_watch_cancel(link->watch); /* the server hangs: what it was sent is lost with the connection */
    fail_waiting(link);
}

/* A server may take connections and drop each of them: a request waits no longer for that than without a server. */
static void fail_overdue(struct nbd_link *link)
{
    struct nbd_request *request;
    struct nbd_request *following;
    uint64_t now = loop_now_ns();
    list_for_each_safe (request, following, &link->waiting, in_link) {
        if (!request->lost_ns) {
            request->lost_ns = now;
        } else if (now - request->lost_ns >= link->reconnect_delay_ms * NS_PER_MS) {
            list_remove(&request->in_link);
            finish_without_server(link, request);
        }
    }
}

/* What was sent and not answered waits with the rest: each of our requests may be done twice. */
static void lost(struct nbd_link *link) CO_FN;

static void lost(struct nbd_link *link)
{
    link_disconnect(link);
    list_splice(&link->waiting, &link->sent);
    if (link->closing)
        return;
    if (!link->given_up)
        tell(link, "lost the connection to", NULL);
    fail_overdue(link);
    if (link->reconnect_delay_ms > 0 && !link->given_up)
        timer_start(link->delay, link->reconnect_delay_ms);
    else
        delay_is_over(link);
}

/* Connecting ---------------------------------------------------------------------------------------------------- */

static uint32_t block_size(struct nbd_handle *handle, int type)
{
    int64_t bytes = libnbd.nbd_get_block_size(handle, type);
    return bytes > 0 && bytes <= UINT32_MAX ? (uint32_t)bytes : 0;
}

static struct error *ask_properties(struct nbd_link *link, struct nbd_properties *out)
{
    struct nbd_handle *handle = link->handle;
    int64_t bytes = libnbd.nbd_get_size(handle);
    if (bytes < 0 || (uint64_t)bytes > NODE_LENGTH_MAX)
        return error_new("'%s' says that export '%s' has %lld bytes", link->server_text, link->export,
                         (long long)bytes);
    *out = (struct nbd_properties){
        .bytes = (uint64_t)bytes,
        .block_min = block_size(handle, LIBNBD_SIZE_MINIMUM),
        .block_preferred = block_size(handle, LIBNBD_SIZE_PREFERRED),
        .block_max = block_size(handle, LIBNBD_SIZE_MAXIMUM),
        .read_only = libnbd.nbd_is_read_only(handle) > 0,
        .can_flush = libnbd.nbd_can_flush(handle) > 0,
        .can_fua = libnbd.nbd_can_fua(handle) > 0,
        .can_trim = libnbd.nbd_can_trim(handle) > 0,
        .can_zero = libnbd.nbd_can_zero(handle) > 0,
        .can_fast_zero = libnbd.nbd_can_fast_zero(handle) > 0,
        .can_tell_status = libnbd.nbd_can_meta_context(handle, link->context) > 0,
    };
    return NULL;
}

/* Users of the node were told what it can do and rely on that. */
static struct error *compare_properties(const struct nbd_link *link, const struct nbd_properties *now)
{
    const struct nbd_properties *then = &link->properties;
    bool less = (then->can_flush && !now->can_flush) || (then->can_fua && !now->can_fua) ||
                (then->can_trim && !now->can_trim) || (then->can_zero && !now->can_zero) ||
                (then->can_fast_zero && !now->can_fast_zero) || (then->can_tell_status && !now->can_tell_status) ||
                (!then->read_only && now->read_only);
    if (now->bytes != then->bytes)
        return error_new("the export has %llu bytes now, not %llu", (unsigned long long)now->bytes,
                         (unsigned long long)then->bytes);
    if (less || now->block_min != then->block_min || now->block_max != then->block_max)
        return error_new("the server offers something else now");
    return NULL;
}

static struct error *attempt(struct nbd_link *link, uint64_t deadline_ns) CO_FN;

static struct error *attempt(struct nbd_link *link, uint64_t deadline_ns)
{
    struct nbd_properties properties;
    struct error *err = link_connect(link, deadline_ns);
    if (err)
        return err;
    err = ask_properties(link, &properties);
    if (!err && link->opened)
        err = compare_properties(link, &properties);
    if (err)
        link_disconnect(link);
    else
        link->properties = properties;
    return err;
}

static bool is_wanted(const struct nbd_link *link)
{
    return !link->closing && !link->given_up;
}

static struct error *connect_first(struct nbd_link *link) CO_FN;

static struct error *connect_first(struct nbd_link *link)
{
    uint64_t end = loop_now_ns() + link->open_timeout_ms * NS_PER_MS;
    uint64_t retry_ms = RETRY_FIRST_MS;
    for (;;) {
        uint64_t handshake_end = loop_now_ns() + HANDSHAKE_MS * NS_PER_MS;
        struct error *err = attempt(link, link->open_timeout_ms ? min_u64(end, handshake_end) : handshake_end);
        uint64_t now = loop_now_ns();
        if (!err || now >= end || !is_wanted(link))
            return err;
        error_free(err);
        link_nap(link, min_u64(retry_ms, div_round_up(end - now, NS_PER_MS)));
        retry_ms = min_u64(2 * retry_ms, RETRY_MAX_MS);
    }
}

/* Again and again; the reason is told once. */
static void connect_again(struct nbd_link *link) CO_FN;

static void connect_again(struct nbd_link *link)
{
    uint64_t retry_ms = RETRY_FIRST_MS;
    bool told = false;
    while (is_wanted(link)) {
        struct error *err = attempt(link, loop_now_ns() + HANDSHAKE_MS * NS_PER_MS);
        if (!err) {
            tell(link, "there is a connection again to", NULL);
            return;
        }
        if (!told && is_wanted(link))
            tell(link, "no connection yet to", error_message(err));
        told = true;
        error_free(err);
        if (is_wanted(link))
            link_nap(link, retry_ms);
        retry_ms = min_u64(2 * retry_ms, RETRY_MAX_MS);
    }
}

/* Life ---------------------------------------------------------------------------------------------------------- */

static void keep_connected(struct nbd_link *link) CO_FN;

static void keep_connected(struct nbd_link *link)
{
    while (!link->closing) {
        uint64_t begin = loop_now_ns();
        if (link->handle) {
            serve(link);
            lost(link);
        }
        if (loop_now_ns() - begin < CONNECTION_MS * NS_PER_MS && is_wanted(link))
            link_nap(link, RETRY_FIRST_MS);
        connect_again(link);
        if (!link->handle && !link->closing)
            link_nap(link, 0); /* given up: the end will come */
    }
}

static void link_main(void *arg)
{
    struct nbd_link *link = arg;
    link->delay = timer_create_on_loop(delay_is_over, link);
    link->open_error = connect_first(link);
    link->opened = !link->open_error;
    co_event_set(&link->open_done);
    if (link->opened)
        keep_connected(link);
    link_disconnect(link);
    timer_destroy(link->delay);
    co_event_set(&link->ended);
}

static void close_here(struct loop_task *task)
{
    struct nbd_link *link = CONTAINER_OF(task, struct nbd_link, close_task);
    link->closing = true;
    link_interrupt(link);
}

/* A connection that stands may serve a little longer. */
static void give_up_here(struct loop_task *task)
{
    struct nbd_link *link = CONTAINER_OF(task, struct nbd_link, give_up_task);
    link->given_up = true;
    if (link->up) {
        timer_start(link->delay, LAST_MS);
        return;
    }
    fail_waiting(link);
    link_interrupt(link);
}

void nbd_links_give_up(void)
{
    struct nbd_link *link;
    all_given_up = true;
    list_for_each (link, &links, in_links) {
        link->give_up_task.run = give_up_here;
        loop_post(link->home, &link->give_up_task);
    }
}

static void link_free(struct nbd_link *link)
{
    list_remove(&link->in_links);
    address_free(link->server);
    free(link->node_name);
    free(link->server_text);
    free(link->export);
    free(link->context);
    free(link);
}

struct error *nbd_link_open(const struct nbd_link_options *options, struct nbd_link **out,
                            struct nbd_properties *properties)
{
    if (all_given_up)
        return error_new("nothing is connected any more: the process is about to end");
    struct nbd_link *link = xcalloc(1, sizeof(*link));
    *link = (struct nbd_link){
        .home = loop_io_next(),
        .node_name = xstrdup(options->node_name),
        .server = address_copy(options->server),
        .server_text = address_describe(options->server),
        .export = xstrdup(options->export),
        .context = xstrdup(options->context),
        .reconnect_delay_ms = options->reconnect_delay_ms,
        .open_timeout_ms = options->open_timeout_ms,
        .fd = -1,
        .close_task.run = close_here,
    };
    list_init(&link->sent);
    list_init(&link->waiting);
    co_event_init(&link->open_done);
    co_event_init(&link->ended);
    list_append(&links, &link->in_links);
    co_start_on(link->home, "nbd client", link_main, link);
    co_event_wait(&link->open_done, "an NBD server");
    if (!link->open_error) {
        *out = link;
        *properties = link->properties;
        return NULL;
    }
    struct error *err = link->open_error;
    co_event_wait(&link->ended, "an NBD server");
    link_free(link);
    return err;
}

void nbd_link_close(struct nbd_link *link)
{
    loop_post(link->home, &link->close_task);
    co_event_wait(&link->ended, "an NBD server");
    link_free(link);
}
