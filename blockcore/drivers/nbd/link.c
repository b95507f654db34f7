#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"
#include "blockcore/drivers/nbd/link_private.h"
#include "blockcore/drivers/nbd/tunnel.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/notice.h"
#include "blockcore/net/address.h"
#include "blockcore/net/resolve.h"
#include "blockcore/net/tls_context.h"
#include "blockcore/runtime/fd_watch.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)
#define HANDSHAKE_MS 30000 /* a server that has not answered by then is none */
#define CONNECTION_MS 1000 /* one that was shorter is not followed by another at once */
#define RETRY_FIRST_MS 100 /* between attempts to connect; then twice as long each time */
#define RETRY_MAX_MS 5000
#define LAST_MS 8000 /* when the process is about to end: for what was sent, and the last flush */

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
    else if (link->tunnel)
        tunnel_cut(link->tunnel); /* it is being opened */
}

void link_tell(const struct nbd_link *link, const char *what, const char *why)
{
    CLEANUP(free) char *message = xasprintf("%s '%s'%s%s", what, link->server_text, why ? ": " : "", why ? why : "");
    notice_give(&(struct notice){ .kind = NOTICE_SERVER, .node_name = link->node_name, .message = message });
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
    TRACE(nbd_link_connect, link->node_name);
    struct error *err = link_connect(link, deadline_ns);
    if (err)
        return err;
    TRACE(nbd_link_connected, link->node_name);
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

/* Tells why there is no connection, unless it did so before. */
static void tell_reason(const struct nbd_link *link, const char *why, char **told)
{
    if (*told && strcmp(*told, why) == 0)
        return;
    link_tell(link, "no connection yet to", why);
    free(*told);
    *told = xstrdup(why);
}

/* Again and again. */
static void connect_again(struct nbd_link *link) CO_FN;

static void connect_again(struct nbd_link *link)
{
    uint64_t retry_ms = RETRY_FIRST_MS;
    CLEANUP(free) char *told = NULL;
    while (is_wanted(link)) {
        struct error *err = attempt(link, loop_now_ns() + HANDSHAKE_MS * NS_PER_MS);
        if (!err) {
            link_tell(link, "there is a connection again to", NULL);
            return;
        }
        if (is_wanted(link))
            tell_reason(link, error_message(err), &told);
        error_free(err);
        TRACE(nbd_link_retry, link->node_name, retry_ms);
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
            link_serve(link);
            TRACE(nbd_link_lost, link->node_name);
            link_lost(link);
        }
        if (loop_now_ns() - begin < CONNECTION_MS * NS_PER_MS && is_wanted(link))
            link_nap(link, RETRY_FIRST_MS);
        connect_again(link);
        if (!link->handle && !link->closing)
            link_nap(link, 0); /* given up: the end will come */
    }
}

/* Up to the task of close: whatever was posted to this loop before has run by then. */
static void link_main(void *arg)
{
    struct nbd_link *link = arg;
    link->delay = timer_create_on_loop(link_delay_is_over, link);
    link->cut = timer_create_on_loop(link_cut_if_silent, link);
    link->open_error = connect_first(link);
    link->opened = !link->open_error;
    co_event_set(&link->open_done);
    if (link->opened)
        keep_connected(link);
    while (!link->closing)
        link_nap(link, 0);
    link_disconnect(link);
    timer_destroy(link->delay);
    timer_destroy(link->cut);
    link_forget_abandoned(link);
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
    link_fail_waiting(link);
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
    error_free(link->open_error);
    address_free(link->server);
    free(link->node_name);
    free(link->server_text);
    free(link->export);
    free(link->context);
    free(link->tls_host);
    tls_context_unref(link->tls);
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
        .tls = tls_context_ref(options->tls),
        .tls_host = xstrdup_or_null(options->tls_host),
        .reconnect_delay_ms = options->reconnect_delay_ms,
        .open_timeout_ms = options->open_timeout_ms,
        .fd = -1,
        .close_task.run = close_here,
    };
    list_init(&link->sent);
    list_init(&link->waiting);
    list_init(&link->abandoned);
    co_event_init(&link->open_done);
    co_event_init(&link->ended);
    list_append(&links, &link->in_links);
    co_start_on(link->home, "nbd client", link_main, link);
    bool wanted = co_event_wait_unless_cancelled(&link->open_done, "an NBD server");
    if (wanted && !link->open_error) {
        *out = link;
        *properties = link->properties;
        return NULL;
    }
    struct error *err =
        wanted ? steal(&link->open_error) : error_errno(ECANCELED, "connecting to '%s'", link->server_text);
    nbd_link_close(link);
    return err;
}

const char *nbd_link_comes_back_by(const struct nbd_link *link)
{
    return atomic_load(&link->may_be_self) ? link->export : NULL;
}

/* Nothing is posted for it after this task, and what was posted before has run when this one has. */
void nbd_link_close(struct nbd_link *link)
{
    list_remove(&link->in_links);
    loop_post(link->home, &link->close_task);
    co_event_wait(&link->ended, "an NBD server");
    link_free(link);
}
