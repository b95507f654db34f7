#include "blockcore/runtime/tracking.h"

void tracker_init(struct tracker *tracker)
{
    spinlock_init(&tracker->lock);
    list_init(&tracker->requests);
    tracker->open = false;
}

static bool must_wait(const struct tracked *later, const struct tracked *earlier)
{
    return (later->serialising || earlier->serialising) && range_overlaps(later->range, earlier->range);
}

/* The oldest request before @tracked that it has to wait for. */
static struct tracked *find_earlier(struct tracker *tracker, struct tracked *tracked)
{
    struct tracked *earlier;
    list_for_each (earlier, &tracker->requests, link) {
        if (earlier == tracked)
            return NULL;
        if (must_wait(tracked, earlier))
            return earlier;
    }
    return NULL;
}

void tracked_begin(struct tracker *tracker, struct tracked *tracked, struct range range, bool serialising)
{
    *tracked = (struct tracked){ .range = range, .serialising = serialising };
    co_queue_init(&tracked->waiters);

    spinlock_lock(&tracker->lock);
    list_append(&tracker->requests, &tracked->link);
    struct tracked *earlier;
    while (!tracker->open && (earlier = find_earlier(tracker, tracked)))
        co_queue_wait_spin(&earlier->waiters, &tracker->lock, "overlapping request");
    spinlock_unlock(&tracker->lock);
}

void tracked_end(struct tracker *tracker, struct tracked *tracked)
{
    /* Waiters take the lock before they look again, and none can queue up once the link is gone: after the unlock
     * nobody knows this request any more. */
    spinlock_lock(&tracker->lock);
    list_remove(&tracked->link);
    co_queue_wake_all(&tracked->waiters);
    spinlock_unlock(&tracker->lock);
}

void tracker_open(struct tracker *tracker)
{
    spinlock_lock(&tracker->lock);
    tracker->open = true;
    struct tracked *tracked;
    list_for_each (tracked, &tracker->requests, link)
        co_queue_wake_all(&tracked->waiters);
    spinlock_unlock(&tracker->lock);
}
