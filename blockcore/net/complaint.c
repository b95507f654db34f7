#include "blockcore/net/complaint.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/graph/notice.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/sync.h"

#define NS_PER_MS UINT64_C(1000000)

static struct {
    struct spinlock lock;
    uint64_t credit GUARDED_BY(lock);   /* lines that may be written at once */
    uint64_t since_ns GUARDED_BY(lock); /* when the last one was added */
    unsigned left_out GUARDED_BY(lock);
} limit = { .lock = { ATOMIC_FLAG_INIT }, .credit = COMPLAINTS_BURST };

/* Lines that were left out before this one; -1 when it is left out itself. */
static int take_line(void)
{
    uint64_t now = loop_now_ns();
    int left_out = -1;
    spinlock_lock(&limit.lock);
    if (now >= limit.since_ns + COMPLAINT_MS * NS_PER_MS) { /* loops do not agree on the time to the nanosecond */
        uint64_t lines = (now - limit.since_ns) / (COMPLAINT_MS * NS_PER_MS);
        limit.credit = min_u64(limit.credit + lines, COMPLAINTS_BURST);
        limit.since_ns = now;
    }
    if (limit.credit > 0) {
        limit.credit--;
        left_out = (int)limit.left_out;
        limit.left_out = 0;
    } else {
        limit.left_out++;
    }
    spinlock_unlock(&limit.lock);
    return left_out;
}

static void give(const char *client, const char *message)
{
    notice_give(&(struct notice){ .kind = NOTICE_CLIENT, .node_name = "", .message = message, .client = client });
}

void complain(const char *client, const char *format, ...)
{
    int left_out = take_line();
    if (left_out < 0)
        return;
    va_list args;
    va_start(args, format);
    CLEANUP(free) char *message = xvasprintf(format, args);
    va_end(args);
    if (left_out > 0) {
        CLEANUP(free) char *longer = xasprintf("%s (and %d such lines were left out before)", message, left_out);
        give(client, longer);
    } else {
        give(client, message);
    }
}
