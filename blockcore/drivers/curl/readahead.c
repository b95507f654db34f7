#include "blockcore/drivers/curl/readahead.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/sync.h"

#include <errno.h>
#include <stdlib.h>

struct window {
    struct range range; /* of 0 bytes: empty */
    char *data;         /* room_bytes */
    size_t room_bytes;
    unsigned users; /* who copies out of it, or loads it */
    bool loading;
    uint64_t load;   /* which load it is, or was: they are counted through the node */
    uint64_t failed; /* the load that failed last */
    int result;      /* of that one */
    uint64_t used;   /* when: a count */
};

struct readahead {
    struct readahead_source source;
    uint64_t ahead_bytes;
    struct spinlock lock; /* of all that follows */
    struct co_queue changed;
    uint64_t loads;
    uint64_t uses;
    struct window windows[READAHEAD_WINDOWS_MAX];
};

struct readahead *readahead_create(const struct readahead_source *source, uint64_t ahead_bytes)
{
    struct readahead *ahead = xcalloc(1, sizeof(*ahead));
    ahead->source = *source;
    ahead->ahead_bytes = ahead_bytes;
    spinlock_init(&ahead->lock);
    co_queue_init(&ahead->changed);
    return ahead;
}

void readahead_destroy(struct readahead *ahead)
{
    if (!ahead)
        return;
    for (size_t i = 0; i < READAHEAD_WINDOWS_MAX; i++)
        buffer_put(ahead->windows[i].data, ahead->windows[i].room_bytes);
    co_queue_fini(&ahead->changed);
    free(ahead);
}

static struct window *window_at(struct readahead *ahead, uint64_t offset)
{
    for (size_t i = 0; i < READAHEAD_WINDOWS_MAX; i++) {
        struct window *window = &ahead->windows[i];
        if (offset >= window->range.offset && offset < range_end(window->range))
            return window;
    }
    return NULL;
}

/* NULL: all are in use. */
static struct window *oldest_window(struct readahead *ahead)
{
    struct window *oldest = NULL;
    for (size_t i = 0; i < READAHEAD_WINDOWS_MAX; i++) {
        struct window *window = &ahead->windows[i];
        if (window->users == 0 && (!oldest || window->used < oldest->used))
            oldest = window;
    }
    return oldest;
}

/* Waits with the lock held, which others have meanwhile. */
static int wait_for_load(struct readahead *ahead, struct window *window) CO_FN;

static int wait_for_load(struct readahead *ahead, struct window *window)
{
    uint64_t load = window->load;
    while (window->loading && window->load == load)
        co_queue_wait_spin(&ahead->changed, &ahead->lock, "bytes that are on their way");
    return window->failed == load ? window->result : 0;
}

static void claim(struct readahead *ahead, struct window *window, struct range wanted)
{
    uint64_t left = ahead->source.length - wanted.offset;
    window->range = range_make(wanted.offset, min_u64(wanted.bytes + ahead->ahead_bytes, left));
    window->users = 1;
    window->loading = true;
    window->load = ++ahead->loads;
}

/* A claimed window; without the lock. */
static int load(struct readahead *ahead, struct window *window) CO_FN;

static int load(struct readahead *ahead, struct window *window)
{
    buffer_put(window->data, window->room_bytes);
    window->room_bytes = window->range.bytes;
    window->data = buffer_get(window->room_bytes);
    int ret = window->data ? ahead->source.fetch(ahead->source.arg, window->range, window->data) : -ENOMEM;
    spinlock_lock(&ahead->lock);
    window->loading = false;
    if (ret < 0) {
        window->range.bytes = 0;
        window->users = 0;
        window->failed = window->load;
        window->result = ret;
    }
    spinlock_unlock(&ahead->lock);
    co_queue_wake_all(&ahead->changed);
    return ret;
}

/* Out of a window that the caller is a user of. Returns how much it was. */
static size_t copy_and_leave(struct readahead *ahead, struct window *window, struct range range, const struct iov *iov)
{
    uint64_t begin = range.offset - window->range.offset;
    size_t bytes = min_u64(range.bytes, window->range.bytes - begin);
    struct iov part = iov_slice(iov, iov->bytes - range.bytes, bytes);
    iov_copy_from(&part, window->data + begin);
    spinlock_lock(&ahead->lock);
    bool unused = --window->users == 0;
    spinlock_unlock(&ahead->lock);
    if (unused)
        co_queue_wake_all(&ahead->changed);
    return bytes;
}

/* A window that holds the first of the bytes, which the caller becomes a user of. 0, -EAGAIN when something has changed
 * meanwhile, or what a fetch failed with. */
static int enter_window(struct readahead *ahead, struct range wanted, struct window **out) CO_FN;

static int enter_window(struct readahead *ahead, struct range wanted, struct window **out)
{
    int ret = -EAGAIN;
    spinlock_lock(&ahead->lock);
    struct window *window = window_at(ahead, wanted.offset);
    bool fetch = !window;
    if (fetch)
        window = oldest_window(ahead);
    if (!window) {
        co_queue_wait_spin(&ahead->changed, &ahead->lock, "a connection");
    } else if (fetch) {
        claim(ahead, window, wanted);
        window->used = ++ahead->uses;
        ret = 0;
    } else if (window->loading) {
        ret = wait_for_load(ahead, window);
        ret = ret < 0 ? ret : -EAGAIN;
    } else {
        window->users++;
        window->used = ++ahead->uses;
        ret = 0;
    }
    spinlock_unlock(&ahead->lock);
    if (ret == 0 && fetch)
        ret = load(ahead, window);
    *out = window;
    return ret;
}

int readahead_read(struct readahead *ahead, struct range range, const struct iov *iov)
{
    while (range.bytes > 0) {
        struct window *window;
        int ret = enter_window(ahead, range, &window);
        if (ret == -EAGAIN)
            continue;
        if (ret < 0)
            return ret;
        size_t copied = copy_and_leave(ahead, window, range, iov);
        range = range_make(range.offset + copied, range.bytes - copied);
    }
    return 0;
}
