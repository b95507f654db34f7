#include "blockcore/drivers/curl/readahead.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/sync.h"

#include <errno.h>
#include <stdlib.h>

struct window {
    struct readahead *ahead;
    struct range range; /* of 0 bytes: empty. Of a load that failed, what had come by then */
    char *data;         /* room_bytes */
    size_t room_bytes;
    unsigned users; /* who copies out of it, or waits for what comes */
    bool loading;
    int result;              /* of the last load */
    uint64_t used;           /* when: a count */
    _Atomic uint64_t there;  /* bytes from the begin that have come */
    _Atomic uint64_t wanted; /* the least that somebody waits for */
};

struct readahead {
    struct readahead_source source;
    uint64_t ahead_bytes;
    struct spinlock lock; /* of all that follows */
    struct co_queue changed;
    unsigned loads; /* that are running */
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
    for (size_t i = 0; i < READAHEAD_WINDOWS_MAX; i++)
        ahead->windows[i].ahead = ahead;
    return ahead;
}

void readahead_destroy(struct readahead *ahead)
{
    if (!ahead)
        return;
    spinlock_lock(&ahead->lock);
    while (ahead->loads > 0)
        co_queue_wait_spin(&ahead->changed, &ahead->lock, "the end of a fetch");
    spinlock_unlock(&ahead->lock);
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
        if (window->users == 0 && !window->loading && (!oldest || window->used < oldest->used))
            oldest = window;
    }
    return oldest;
}

/* Loading ---------------------------------------------------------------------------------------------------------- */

/* Who comes to wait sets wanted and then looks at what is there; here it is the other way round: one of the two sees
 * what the other did. */
static void arrived(void *arg, uint64_t bytes)
{
    struct window *window = arg;
    atomic_store(&window->there, bytes);
    if (bytes < atomic_load(&window->wanted))
        return;
    spinlock_lock(&window->ahead->lock);
    atomic_store(&window->wanted, UINT64_MAX);
    co_queue_wake_all(&window->ahead->changed);
    spinlock_unlock(&window->ahead->lock);
}

/* Nothing of the window or of what it belongs to is touched after the lock is released: it may be gone. */
static void end_load(struct window *window, int ret)
{
    struct readahead *ahead = window->ahead;
    spinlock_lock(&ahead->lock);
    window->loading = false;
    window->result = ret;
    if (ret == 0)
        atomic_store(&window->there, window->range.bytes);
    else
        window->range.bytes = atomic_load(&window->there);
    ahead->loads--;
    co_queue_wake_all(&ahead->changed);
    spinlock_unlock(&ahead->lock);
}

static void load_entry(void *arg)
{
    struct window *window = arg;
    const struct readahead_source *source = &window->ahead->source;
    const struct arrival arrival = { .arrived = arrived, .arg = window };
    buffer_put(window->data, window->room_bytes);
    window->room_bytes = window->range.bytes;
    window->data = buffer_get(window->room_bytes);
    end_load(window, window->data ? source->fetch(source->arg, window->range, window->data, &arrival) : -ENOMEM);
}

/* A load outlives the read that began it, which waits for its own bytes only. */
static void claim(struct readahead *ahead, struct window *window, struct range wanted)
{
    uint64_t left = ahead->source.length - wanted.offset;
    window->range = range_make(wanted.offset, min_u64(wanted.bytes + ahead->ahead_bytes, left));
    window->loading = true;
    atomic_store(&window->there, 0);
    atomic_store(&window->wanted, UINT64_MAX);
    ahead->loads++;
}

/* Reading ---------------------------------------------------------------------------------------------------------- */

/* Waits with the lock held, which others have meanwhile, until @bytes from the begin are there. 0, or what the load
 * failed with. */
static int wait_for(struct readahead *ahead, struct window *window, uint64_t bytes) CO_FN;

static int wait_for(struct readahead *ahead, struct window *window, uint64_t bytes)
{
    while (window->loading) {
        atomic_store(&window->wanted, min_u64(atomic_load(&window->wanted), bytes));
        if (atomic_load(&window->there) >= bytes)
            return 0;
        co_queue_wait_spin(&ahead->changed, &ahead->lock, "bytes that are on their way");
    }
    return atomic_load(&window->there) >= bytes ? 0 : window->result;
}

/* Makes the caller a user of the window that holds the first of the bytes, or will; *part is what of them. NULL:
 * something has changed meanwhile. */
static struct window *enter_window(struct readahead *ahead, struct range wanted, struct range *part) CO_FN;

static struct window *enter_window(struct readahead *ahead, struct range wanted, struct range *part)
{
    spinlock_lock(&ahead->lock);
    struct window *window = window_at(ahead, wanted.offset);
    bool fetch = !window;
    if (fetch)
        window = oldest_window(ahead);
    if (!window) {
        co_queue_wait_spin(&ahead->changed, &ahead->lock, "a connection");
    } else {
        if (fetch)
            claim(ahead, window, wanted);
        window->users++;
        window->used = ++ahead->uses;
        *part = range_intersect(wanted, window->range);
    }
    spinlock_unlock(&ahead->lock);
    if (window && fetch)
        co_start("reading ahead", load_entry, window);
    return window;
}

static int use_window(struct readahead *ahead, struct window *window, struct range part, const struct iov *iov) CO_FN;

static int use_window(struct readahead *ahead, struct window *window, struct range part, const struct iov *iov)
{
    uint64_t begin = part.offset - window->range.offset;
    spinlock_lock(&ahead->lock);
    int ret = wait_for(ahead, window, begin + part.bytes);
    spinlock_unlock(&ahead->lock);
    if (ret == 0)
        iov_copy_from(iov, window->data + begin);
    spinlock_lock(&ahead->lock);
    if (--window->users == 0)
        co_queue_wake_all(&ahead->changed);
    spinlock_unlock(&ahead->lock);
    return ret;
}

int readahead_read(struct readahead *ahead, struct range range, const struct iov *iov)
{
    int ret = 0;
    while (range.bytes > 0 && ret == 0) {
        struct range part;
        struct window *window = enter_window(ahead, range, &part);
        if (!window)
            continue;
        struct iov piece = iov_slice(iov, iov->bytes - range.bytes, part.bytes);
        ret = use_window(ahead, window, part, &piece);
        range = range_make(range.offset + part.bytes, range.bytes - part.bytes);
    }
    return ret;
}
