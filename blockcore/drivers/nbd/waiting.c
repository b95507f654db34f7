/* Requests without a connection: they wait for the next one, until their time is over or nobody wants them any more. */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/nbd/link_private.h"
#include "blockcore/runtime/fd_watch.h"

#include <errno.h>

#define NS_PER_MS UINT64_C(1000000)
#define CUT_MS 3000 /* a server that nobody waits for any more answers something in this time, or loses us */

/* This process ends and was its own server: what was written is with the node that it served, which flushes itself. */
static bool needs_no_server(const struct nbd_link *link, const struct nbd_request *request)
{
    return request->type == NBD_LINK_FLUSH && link->given_up && link->is_self;
}

static void finish_without_server(const struct nbd_link *link, struct nbd_request *request)
{
    request_finish(request, needs_no_server(link, request) ? 0 : -EIO);
}

void link_fail_waiting(struct nbd_link *link)
{
    struct list *first;
    while ((first = list_take_first(&link->waiting)))
        finish_without_server(link, list_entry(first, struct nbd_request, in_link));
}

/* What the server was sent is lost with the connection. */
static void cut(struct nbd_link *link)
{
    if (link->up)
        fd_watch_cancel(link->watch);
}

/* Those that nobody wants ------------------------------------------------------------------------------------------ */

/* Whose requests nobody wants any more. */
struct abandoned {
    struct list in_link;
    uint64_t owner;
};

static struct abandoned *find_abandoned(const struct nbd_link *link, uint64_t owner)
{
    struct abandoned *abandoned;
    list_for_each (abandoned, &link->abandoned, in_link) {
        if (abandoned->owner == owner)
            return abandoned;
    }
    return NULL;
}

static void fail_abandoned(struct nbd_link *link)
{
    struct nbd_request *request;
    struct nbd_request *following;
    list_for_each_safe (request, following, &link->waiting, in_link) {
        if (find_abandoned(link, request->owner)) {
            list_remove(&request->in_link);
            finish_without_server(link, request);
        }
    }
}

static bool all_sent_are_abandoned(const struct nbd_link *link)
{
    const struct nbd_request *request;
    list_for_each (request, &link->sent, in_link) {
        if (!find_abandoned(link, request->owner))
            return false;
    }
    return true;
}

static void watch_answers(struct nbd_link *link)
{
    link->answers_at_cut = link->answers;
    timer_start(link->cut, CUT_MS);
}

void link_cut_if_silent(void *arg)
{
    struct nbd_link *link = arg;
    bool silent = link->answers == link->answers_at_cut && !list_empty(&link->sent);
    if (link->up && silent && all_sent_are_abandoned(link)) {
        link_tell(link, "gave up requests that nobody waits for, with the connection to", "it does not answer");
        cut(link);
    }
    if (!list_empty(&link->abandoned))
        watch_answers(link);
}

void link_forget_abandoned(struct nbd_link *link)
{
    struct list *first;
    while ((first = list_take_first(&link->abandoned)))
        free(list_entry(first, struct abandoned, in_link));
}

struct abandon_task {
    struct loop_task task;
    struct nbd_link *link;
    uint64_t owner;
    bool abandoned;
};

static void abandon_owner(struct nbd_link *link, uint64_t owner)
{
    struct abandoned *abandoned = xcalloc(1, sizeof(*abandoned));
    abandoned->owner = owner;
    if (list_empty(&link->abandoned))
        watch_answers(link);
    list_append(&link->abandoned, &abandoned->in_link);
    fail_abandoned(link);
}

static void forget_owner(struct nbd_link *link, uint64_t owner)
{
    struct abandoned *abandoned = find_abandoned(link, owner);
    if (abandoned)
        list_remove(&abandoned->in_link);
    free(abandoned);
    if (list_empty(&link->abandoned))
        timer_stop(link->cut);
}

static void abandon_here(struct loop_task *posted)
{
    struct abandon_task *task = CONTAINER_OF(posted, struct abandon_task, task);
    if (task->abandoned)
        abandon_owner(task->link, task->owner);
    else
        forget_owner(task->link, task->owner);
    free(task);
}

void nbd_link_abandon(struct nbd_link *link, uint64_t owner, bool abandoned)
{
    if (list_empty(&link->in_links))
        return; /* it is being closed: nothing may be posted to it any more */
    struct abandon_task *task = xmalloc(sizeof(*task));
    *task = (struct abandon_task){ .task.run = abandon_here, .link = link, .owner = owner, .abandoned = abandoned };
    loop_post(link->home, &task->task);
}

/* Those that waited too long --------------------------------------------------------------------------------------- */

/* The end of the delay of a request that waits: counted from when it first had to, since a server may take connections
 * and drop each of them. */
static uint64_t end_of_delay(const struct nbd_link *link, uint64_t lost_ns)
{
    return (lost_ns ? lost_ns : link->down_ns) + link->reconnect_delay_ms * NS_PER_MS;
}

/* Fails what has waited long enough, and comes again when the next one will have. */
static void fail_overdue(struct nbd_link *link)
{
    struct nbd_request *request;
    struct nbd_request *following;
    uint64_t now = loop_now_ns();
    uint64_t next = end_of_delay(link, link->down_ns);
    link->too_late = link->given_up || now >= next;
    list_for_each_safe (request, following, &link->waiting, in_link) {
        uint64_t end = end_of_delay(link, request->lost_ns);
        if (link->too_late || now >= end) {
            list_remove(&request->in_link);
            finish_without_server(link, request);
        } else {
            next = min_u64(next, end);
        }
    }
    if (!link->too_late)
        timer_start(link->delay, div_round_up(next - now, NS_PER_MS));
}

void link_delay_is_over(void *arg)
{
    struct nbd_link *link = arg;
    if (link->up)
        cut(link); /* the process ends, and the server hangs */
    else
        fail_overdue(link);
}

/* Coming and going ------------------------------------------------------------------------------------------------- */

static void arrives(struct loop_task *task)
{
    struct nbd_request *request = CONTAINER_OF(task, struct nbd_request, task);
    struct nbd_link *link = request->link;
    if (link->up)
        link_submit(link, request);
    else if (link->too_late || link->given_up || find_abandoned(link, request->owner))
        finish_without_server(link, request);
    else
        list_append(&link->waiting, &request->in_link);
}

int nbd_link_run(struct nbd_link *link, struct nbd_request *request)
{
    request->link = link;
    request->owner = co_owner();
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

/* What was sent and not answered waits with the rest: each of our requests may be done twice. */
void link_lost(struct nbd_link *link)
{
    struct nbd_request *request;
    link_disconnect(link);
    list_splice(&link->waiting, &link->sent);
    if (link->closing)
        return;
    if (!link->given_up)
        link_tell(link, "lost the connection to", NULL);
    link->down_ns = loop_now_ns();
    list_for_each (request, &link->waiting, in_link)
        request->lost_ns = request->lost_ns ? request->lost_ns : link->down_ns;
    fail_abandoned(link);
    fail_overdue(link);
}
