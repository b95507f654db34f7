#include "blockcore/jobs/copier.h"

#include "blockcore/base/dirty_map.h"
#include "blockcore/base/memory.h"
#include "blockcore/graph/handle.h"
#include "blockcore/io/block_status.h"
#include "blockcore/jobs/job.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>

#define PIECES_MAX 16
#define BYTES_MAX (UINT64_C(32) << 20)
#define CHUNK_MAX (UINT64_C(4) << 20)
#define CHUNK_BEGIN (UINT64_C(1) << 20)
#define CHUNK_MIN (UINT64_C(64) << 10)
#define ZERO_PIECE_MAX (UINT64_C(1) << 30) /* so that a pause need not wait for long */
#define PLAN_EXTENTS 256

#define NS_PER_MS UINT64_C(1000000)
/* A piece that takes less lets the next ones be larger; one that takes longer, smaller. */
#define PIECE_SHORT_NS (5 * NS_PER_MS)
#define PIECE_LONG_NS (100 * NS_PER_MS)
#define RETRY_NS (100 * NS_PER_MS)
#define GRACE_NS (500 * NS_PER_MS)
/* With a limit of speed, pieces are this part of a second long: so that it is smooth, and can change soon. */
#define SPEED_PARTS 8

enum interrupt {
    INTERRUPT_NONE,
    INTERRUPT_PAUSE,
    INTERRUPT_ABANDON,
};

struct copier {
    struct copier_options options;
    struct loop *loop;
    struct dirty_map left; /* the control thread's while it does not run, the loop's while it does */
    uint64_t cursor;       /* bytes: where the next plan begins */
    struct extents plan;
    size_t plan_at;
    struct range planned; /* what it is of */
    bool planning;        /* that is in flight, too */
    int plan_result;
    uint64_t chunk;

    unsigned in_flight;
    uint64_t bytes_in_flight;
    int result;
    uint64_t not_before_ns; /* the next piece of data */
    struct co_event *parked;
    struct timer *timer;

    _Atomic unsigned interrupt; /* enum interrupt */
    _Atomic uint64_t speed;
    _Atomic bool speed_changed;
    _Atomic bool told_posted;
    struct loop_task told;

    bool abandoned;
    bool ending; /* the maker has gone */
    void (*released)(void *arg);
    void *released_arg;
    struct loop_task release;
};

struct flying_piece {
    struct copier *copier;
    struct copier_piece piece;
    uint64_t begun_ns;
};

/* Making ------------------------------------------------------------------------------------------------------- */

static struct range granules_of(const struct copier *copier, struct range range)
{
    return range_between(range.offset / copier->options.granule,
                         div_round_up(range_end(range), copier->options.granule));
}

static void wake(struct copier *copier)
{
    struct co_event *parked = steal(&copier->parked);
    if (parked)
        co_event_set(parked);
}

static void time_is_up(void *arg)
{
    wake(arg);
}

static void run_told(struct loop_task *task)
{
    struct copier *copier = CONTAINER_OF(task, struct copier, told);
    atomic_store(&copier->told_posted, false);
    wake(copier);
}

/* It is still there when the task runs: copier_destroy() goes through the same queue. */
static void tell(struct copier *copier)
{
    if (!atomic_exchange(&copier->told_posted, true))
        loop_post(copier->loop, &copier->told);
}

struct error *copier_create(const struct copier_options *options, struct copier **out)
{
    struct copier *copier = xcalloc(1, sizeof(*copier));
    copier->options = *options;
    copier->options.chunk_max = max_u64(options->chunk_max ? options->chunk_max : CHUNK_MAX, options->granule);
    copier->options.bytes_max = max_u64(options->bytes_max ? options->bytes_max : BYTES_MAX, options->granule);
    copier->options.pieces_max = options->pieces_max ? options->pieces_max : PIECES_MAX;
    copier->chunk = min_u64(max_u64(CHUNK_BEGIN, options->granule), copier->options.chunk_max);
    copier->speed = options->speed;
    copier->told.run = run_told;
    if (!dirty_map_init(&copier->left, div_round_up(options->bytes, options->granule))) {
        free(copier);
        return error_new("no memory to note %llu bytes in granules of %llu", (unsigned long long)options->bytes,
                         (unsigned long long)options->granule);
    }
    extents_init(&copier->plan, PLAN_EXTENTS);
    copier->loop = loop_io_next();
    *out = copier;
    return NULL;
}

static void run_release(struct loop_task *task)
{
    struct copier *copier = CONTAINER_OF(task, struct copier, release);
    copier->released(copier->released_arg);
    dirty_map_fini(&copier->left);
    extents_fini(&copier->plan);
    free(copier);
}

static void release_if_over(struct copier *copier)
{
    if (!copier->ending || copier->in_flight > 0)
        return;
    copier->release.run = run_release;
    loop_post(loop_control(), &copier->release);
}

static void run_destroy(struct loop_task *task)
{
    struct copier *copier = CONTAINER_OF(task, struct copier, release);
    copier->ending = true;
    release_if_over(copier);
}

void copier_destroy(struct copier *copier, void (*released)(void *arg), void *arg)
{
    if (!copier) {
        released(arg);
        return;
    }
    copier->released_arg = arg;
    copier->released = released;
    copier->release.run = run_destroy;
    loop_post(copier->loop, &copier->release);
}

void copier_add(struct copier *copier, struct range range)
{
    dirty_map_set(&copier->left, granules_of(copier, range));
}

struct range copier_next_left(const struct copier *copier, uint64_t offset)
{
    const struct copier_options *options = &copier->options;
    const struct dirty_map *left = &copier->left;
    uint64_t first = dirty_map_next_set(left, min_u64(div_round_up(offset, options->granule), left->count));
    uint64_t end = first < left->count ? dirty_map_next_clear(left, first) : first;
    return range_between(min_u64(first * options->granule, options->bytes),
                         min_u64(end * options->granule, options->bytes));
}

uint64_t copier_left(const struct copier *copier)
{
    return dirty_map_set_count(&copier->left) * copier->options.granule;
}

/* Told from outside -------------------------------------------------------------------------------------------- */

void copier_interrupt(struct copier *copier)
{
    unsigned none = INTERRUPT_NONE;
    atomic_compare_exchange_strong(&copier->interrupt, &none, INTERRUPT_PAUSE);
    tell(copier);
}

void copier_abandon(struct copier *copier)
{
    atomic_store(&copier->interrupt, INTERRUPT_ABANDON);
    tell(copier);
}

void copier_set_speed(struct copier *copier, uint64_t bytes_per_second)
{
    atomic_store(&copier->speed, bytes_per_second);
    atomic_store(&copier->speed_changed, true);
    tell(copier);
}

/* Waits until somebody wakes it, at most until @deadline_ns; 0: for ever. */
static void park(struct copier *copier, uint64_t deadline_ns, const char *what) CO_FN;

static void park(struct copier *copier, uint64_t deadline_ns, const char *what)
{
    struct co_event event;
    co_event_init(&event);
    copier->parked = &event;
    if (deadline_ns) {
        uint64_t now = loop_now_ns();
        timer_start(copier->timer, deadline_ns > now ? div_round_up(deadline_ns - now, NS_PER_MS) : 0);
    }
    co_event_wait(&event, what);
    timer_stop(copier->timer);
}

/* Planning ----------------------------------------------------------------------------------------------------- */

static void advance(struct copier *copier, uint64_t bytes)
{
    if (copier->options.job && !copier->abandoned)
        job_progress_add(copier->options.job, bytes);
}

static void put_back(struct copier *copier, struct range range)
{
    dirty_map_set(&copier->left, granules_of(copier, range));
}

/* What of the plan has not begun. */
static void drop_plan(struct copier *copier)
{
    for (; copier->plan_at < copier->plan.count; copier->plan_at++) {
        const struct extent *extent = &copier->plan.items[copier->plan_at];
        put_back(copier, range_make(extent->offset, extent->bytes));
    }
    copier->plan.count = copier->plan_at = 0;
}

/* The next run of granules that are left, from the cursor on and then from the begin; empty when there is none. */
static struct range next_left(const struct copier *copier)
{
    const struct dirty_map *left = &copier->left;
    uint64_t first = dirty_map_next_set(left, min_u64(copier->cursor / copier->options.granule, left->count));
    if (first == left->count)
        first = dirty_map_next_set(left, 0);
    if (first == left->count)
        return range_make(0, 0);
    uint64_t end = dirty_map_next_clear(left, first);
    return range_between(first * copier->options.granule,
                         min_u64(end * copier->options.granule, copier->options.bytes));
}

/* A plan ends at a granule's end, since bits are taken off it; what cannot be told apart inside of one is copied. */
static void plan_to_granules(struct copier *copier, struct range range)
{
    struct extents *plan = &copier->plan;
    const struct extent *last = &plan->items[plan->count - 1];
    uint64_t end = last->offset + last->bytes;
    if (end == range_end(range) || is_aligned(end, copier->options.granule))
        return;
    uint64_t cut = align_down(end, copier->options.granule);
    if (cut <= range.offset) {
        cut = min_u64(range.offset + copier->options.granule, range_end(range));
        plan->items[0] =
            (struct extent){ .offset = range.offset, .bytes = cut - range.offset, .flags = EXTENT_ALLOCATED };
        plan->count = 1;
        return;
    }
    while (plan->items[plan->count - 1].offset >= cut)
        plan->count--;
    plan->items[plan->count - 1].bytes = cut - plan->items[plan->count - 1].offset;
}

static void answer_failure(struct copier *copier, const struct copier_piece *piece, int ret) CO_FN;

static void answer_failure(struct copier *copier, const struct copier_piece *piece, int ret)
{
    enum copier_answer answer =
        copier->abandoned ? COPIER_GIVE_UP : copier->options.ops->failed(copier->options.arg, piece, ret);
    if (answer == COPIER_LEAVE_OUT) {
        advance(copier, piece->range.bytes);
        return;
    }
    put_back(copier, piece->range);
    if (answer == COPIER_TRY_AGAIN)
        copier->not_before_ns = loop_now_ns() + RETRY_NS;
    else if (copier->result == 0)
        copier->result = ret;
}

/* Asks what there is of the range, beside the copier: storage may hang here as well. */
static void plan_entry(void *arg)
{
    struct copier *copier = arg;
    const struct copier_options *options = &copier->options;
    handle_enter(options->handle);
    copier->plan_result = options->ops->plan(options->arg, copier->planned, &copier->plan);
    handle_leave(options->handle);
    copier->planning = false;
    copier->in_flight--;
    wake(copier);
    release_if_over(copier);
}

static void answer_plan(struct copier *copier) CO_FN;

static void answer_plan(struct copier *copier)
{
    struct range range = copier->planned;
    if (copier->plan_result < 0) {
        struct copier_piece piece = { .range =
                                          range_make(range.offset, min_u64(range.bytes, copier->options.granule)) };
        copier->plan.count = 0;
        dirty_map_clear(&copier->left, granules_of(copier, piece.range));
        copier->cursor = range_end(piece.range);
        answer_failure(copier, &piece, copier->plan_result);
        return;
    }
    plan_to_granules(copier, range);
    const struct extent *last = &copier->plan.items[copier->plan.count - 1];
    copier->cursor = last->offset + last->bytes;
    dirty_map_clear(&copier->left, granules_of(copier, range_between(range.offset, copier->cursor)));
}

static void make_plan(struct copier *copier, struct range range) CO_FN;

static void make_plan(struct copier *copier, struct range range)
{
    extents_fini(&copier->plan);
    extents_init(&copier->plan, PLAN_EXTENTS);
    copier->plan_at = 0;
    copier->planned = range;
    copier->planning = true;
    copier->in_flight++;
    co_start("plan of a copy", plan_entry, copier);
    while (copier->planning && atomic_load(&copier->interrupt) != INTERRUPT_ABANDON)
        park(copier, 0, "a plan of a copy");
    if (!copier->planning)
        answer_plan(copier);
}

static uint64_t piece_limit(const struct copier *copier, bool zero)
{
    uint64_t granule = copier->options.granule;
    if (zero)
        return max_u64(ZERO_PIECE_MAX, granule);
    uint64_t speed = atomic_load(&copier->speed);
    uint64_t limit = speed ? min_u64(copier->chunk, speed / SPEED_PARTS) : copier->chunk;
    return max_u64(align_down(limit, granule), granule);
}

/* The first piece of what is planned; false when the plan is used up. */
static bool first_planned(struct copier *copier, struct copier_piece *piece)
{
    for (; copier->plan_at < copier->plan.count; copier->plan_at++) {
        const struct extent *extent = &copier->plan.items[copier->plan_at];
        if (extent->flags & EXTENT_ALLOCATED) {
            bool zero = extent->flags & EXTENT_ZERO;
            uint64_t end = align_down(extent->offset, copier->options.granule) + piece_limit(copier, zero);
            struct range range = range_make(extent->offset, extent->bytes);
            *piece = (struct copier_piece){
                .range = range_intersect(range, range_between(extent->offset, end)),
                .zero = zero,
            };
            return true;
        }
        advance(copier, extent->bytes);
    }
    return false;
}

static void take_planned(struct copier *copier, const struct copier_piece *piece)
{
    struct extent *extent = &copier->plan.items[copier->plan_at];
    extent->offset += piece->range.bytes;
    extent->bytes -= piece->range.bytes;
    if (extent->bytes == 0)
        copier->plan_at++;
}

/* Pieces ------------------------------------------------------------------------------------------------------- */

static void adapt_chunk(struct copier *copier, const struct flying_piece *flying)
{
    uint64_t took = loop_now_ns() - flying->begun_ns;
    if (flying->piece.zero || flying->piece.range.bytes < copier->chunk)
        return;
    if (took < PIECE_SHORT_NS)
        copier->chunk = min_u64(copier->chunk * 2, copier->options.chunk_max);
    else if (took > PIECE_LONG_NS)
        copier->chunk = max_u64(copier->chunk / 2, max_u64(CHUNK_MIN, copier->options.granule));
}

static uint64_t weight(const struct copier_piece *piece)
{
    return piece->zero ? 0 : piece->range.bytes;
}

static void piece_entry(void *arg)
{
    struct flying_piece *flying = arg;
    struct copier *copier = flying->copier;
    const struct copier_options *options = &copier->options;
    handle_enter(options->handle);
    flying->begun_ns = loop_now_ns();
    int ret = options->ops->copy(options->arg, &flying->piece);
    handle_leave(options->handle);
    adapt_chunk(copier, flying);
    if (ret < 0)
        answer_failure(copier, &flying->piece, ret);
    else
        advance(copier, flying->piece.range.bytes);
    copier->in_flight--;
    copier->bytes_in_flight -= weight(&flying->piece);
    free(flying);
    wake(copier);
    release_if_over(copier);
}

static void start_piece(struct copier *copier, const struct copier_piece *piece) CO_FN;

static void start_piece(struct copier *copier, const struct copier_piece *piece)
{
    struct flying_piece *flying = xmalloc(sizeof(*flying));
    *flying = (struct flying_piece){ .copier = copier, .piece = *piece };
    take_planned(copier, piece);
    copier->in_flight++;
    copier->bytes_in_flight += weight(piece);
    uint64_t speed = atomic_load(&copier->speed);
    if (speed && !piece->zero)
        copier->not_before_ns = max_u64(copier->not_before_ns, loop_now_ns()) +
                                (uint64_t)((double)piece->range.bytes / (double)speed * 1e9);
    co_start("piece of a copy", piece_entry, flying);
    co_yield (); /* a piece in the page cache has ended already, without letting others run */
}

/* Running ------------------------------------------------------------------------------------------------------ */

static bool has_room(const struct copier *copier, const struct copier_piece *piece)
{
    return copier->in_flight < copier->options.pieces_max &&
           (copier->bytes_in_flight == 0 || copier->bytes_in_flight + weight(piece) <= copier->options.bytes_max);
}

/* One step: a piece is started, or something is waited for. False when nothing is left. */
static bool step(struct copier *copier) CO_FN;

static bool step(struct copier *copier)
{
    struct copier_piece piece;
    if (atomic_exchange(&copier->speed_changed, false))
        copier->not_before_ns = 0;
    if (!first_planned(copier, &piece)) {
        struct range range = next_left(copier);
        if (range.bytes > 0 && loop_now_ns() >= copier->not_before_ns)
            make_plan(copier, range);
        else if (range.bytes > 0)
            park(copier, copier->not_before_ns, "the rate of a copy");
        else if (copier->in_flight > 0)
            park(copier, 0, "pieces of a copy");
        else
            return false;
    } else if (!has_room(copier, &piece)) {
        park(copier, 0, "pieces of a copy");
    } else if (!piece.zero && copier->not_before_ns > loop_now_ns()) {
        park(copier, copier->not_before_ns, "the rate of a copy");
    } else {
        start_piece(copier, &piece);
    }
    return true;
}

/* Pieces on their way end, or are left behind. */
static void land(struct copier *copier) CO_FN;

static void land(struct copier *copier)
{
    uint64_t deadline_ns = 0;
    while (copier->in_flight > 0) {
        if (atomic_load(&copier->interrupt) == INTERRUPT_ABANDON) {
            copier->abandoned = true;
            deadline_ns = deadline_ns ? deadline_ns : loop_now_ns() + GRACE_NS;
            if (loop_now_ns() >= deadline_ns)
                return;
        }
        park(copier, deadline_ns, "pieces of a copy");
    }
}

static int run(void *arg)
{
    struct copier *copier = arg;
    copier->timer = timer_create_on_loop(time_is_up, copier);
    copier->result = 0;
    bool more = true;
    while (more && copier->result == 0 && atomic_load(&copier->interrupt) == INTERRUPT_NONE)
        more = step(copier);
    if (!copier->planning) /* else it is abandoned */
        drop_plan(copier);
    land(copier);
    timer_destroy(steal(&copier->timer));
    if (copier->result < 0)
        return copier->result;
    unsigned pause = INTERRUPT_PAUSE;
    bool paused = atomic_compare_exchange_strong(&copier->interrupt, &pause, INTERRUPT_NONE);
    return paused || pause == INTERRUPT_ABANDON ? -EINTR : 0;
}

int copier_run(struct copier *copier)
{
    assert(copier->in_flight == 0);
    return co_call_on(copier->loop, "copier", run, copier);
}
