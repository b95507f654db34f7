/* opening - what becomes of an open that nobody wants any more
 *
 * A driver that opens waits for storage, which may never answer. Once its coroutine is cancelled it has to come back
 * all the same, since it holds names and edges that others need. What it waits for decides how:
 *
 *     a call in the kernel (open, stat, read, close)    is left behind on its thread, with memory and a descriptor of
 *                                                       its own (runtime/pool.h, runtime/file_io.h)
 *     a connection that is being made                   is given up by its driver
 *     a request to a server                             is abandoned, as when a node is closed (haste.c)
 *     a write, a lock, a filter that holds requests     is waited for: its effects must not come later
 *
 * So the driver's open fails, and whoever began it takes everything down that was made, without waiting for it. */
#include "blockcore/graph/layout.h"

#include "blockcore/graph/node.h"
#include "blockcore/graph/open_private.h"
#include "blockcore/runtime/coroutine.h"

/* Control thread. */
static struct list openings = LIST_INIT(openings);
static bool given_up;

static void abandon_requests(struct co_on_cancel *on_cancel)
{
    struct opening *opening = CONTAINER_OF(on_cancel, struct opening, on_cancel);
    if (opening->abandoned)
        return;
    opening->abandoned = true;
    haste_begin_for(&opening->haste, opening->owner);
    haste_below(&opening->haste, opening->node);
}

void opening_begin(struct opening *opening, struct node *node)
{
    *opening = (struct opening){
        .node = node,
        .co = co_self(),
        .owner_before = co_owner(),
        .may_leave_before = co_set_may_leave(true),
    };
    opening->owner = opening->owner_before ? opening->owner_before : ++graph.owners_made;
    co_set_owner(opening->owner);
    co_on_cancel_begin(&opening->on_cancel, abandon_requests);
    list_append(&openings, &opening->link);
}

void opening_end(struct opening *opening)
{
    list_remove(&opening->link);
    co_on_cancel_end(&opening->on_cancel);
    if (opening->abandoned)
        haste_end(&opening->haste);
    co_set_owner(opening->owner_before);
    co_set_may_leave(opening->may_leave_before);
}

bool opening_is_wanted(void)
{
    return !given_up && !co_cancelled();
}

/* Nothing runs before this ends, so the list stays as it is. */
void node_open_give_up(void)
{
    struct opening *opening;
    given_up = true;
    list_for_each (opening, &openings, link)
        co_cancel(opening->co);
}
