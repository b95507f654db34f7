/* blkdebug - a filter that fails requests on demand
 *
 * Formats above say what they are about to do (events); rules answer to events. Of the rules for one event those apply
 * that are for the state the filter is in, or for any state:
 *
 *     inject-error   becomes active, and what was active before is not any more: from now on requests that fit it fail
 *     set-state      the filter goes to another state; it begins in state 1
 *
 * The event "none" happens once, at the end of opening: its rules are active from the start. Reopening with other rules
 * begins anew, with the same ones it changes nothing.
 * Source of the rules: QEMU, docs/devel/testing/blkdebug.rst and qapi/block-core.json. */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/filters/blkdebug_config.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/request.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/small_file.h"
#include "blockcore/runtime/sync.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define SECTOR 512
#define STATE_FIRST 1
#define STATE_ANY 0

struct injection {
    const char *event; /* static text */
    int64_t state;
    unsigned iotypes; /* bits of enum blkdebug_io_type */
    int errnum;
    bool anywhere;
    uint64_t offset; /* unless anywhere: requests that touch this byte */
    bool once;
    bool immediately;
    bool active;
    bool spent; /* was to happen once, and has */
};

struct transition {
    const char *event; /* static text */
    int64_t state;
    int64_t new_state;
};

struct rules {
    struct injection *injections;
    size_t injections_count;
    struct transition *transitions;
    size_t transitions_count;
};

struct blkdebug {
    struct child *image;
    unsigned take_perms;
    unsigned unshare_perms;
    struct spinlock lock;
    struct rules rules; /* GUARDED_BY(lock) */
    int64_t state;      /* GUARDED_BY(lock) */
};

/* Rules -------------------------------------------------------------------------------------------------------- */

static bool rule_applies(const char *rule_event, int64_t rule_state, const char *event, int64_t state)
{
    return strcmp(rule_event, event) == 0 && (rule_state == STATE_ANY || rule_state == state);
}

static void activate(struct blkdebug *blkdebug, const char *event)
{
    bool any = false;

    for (size_t i = 0; i < blkdebug->rules.injections_count; i++) {
        const struct injection *injection = &blkdebug->rules.injections[i];
        any = any || rule_applies(injection->event, injection->state, event, blkdebug->state);
    }
    for (size_t i = 0; i < blkdebug->rules.injections_count && any; i++) {
        struct injection *injection = &blkdebug->rules.injections[i];
        injection->active = rule_applies(injection->event, injection->state, event, blkdebug->state);
    }
}

static void change_state(struct blkdebug *blkdebug, const char *event)
{
    for (size_t i = 0; i < blkdebug->rules.transitions_count; i++) {
        const struct transition *transition = &blkdebug->rules.transitions[i];
        if (rule_applies(transition->event, transition->state, event, blkdebug->state)) {
            blkdebug->state = transition->new_state;
            return;
        }
    }
}

static void blkdebug_debug_event(struct node *node, const char *event)
{
    struct blkdebug *blkdebug = node_state(node);

    spinlock_lock(&blkdebug->lock);
    activate(blkdebug, event);
    change_state(blkdebug, event);
    spinlock_unlock(&blkdebug->lock);
}

static bool fits(const struct injection *injection, struct range range, enum blkdebug_io_type iotype)
{
    if (!injection->active || injection->spent || !(injection->iotypes & (1u << iotype)))
        return false;
    return injection->anywhere || range_contains(range, range_make(injection->offset, 1));
}

/* Takes the first rule that fits, as a copy. */
static bool find_injection(struct blkdebug *blkdebug, struct range range, enum blkdebug_io_type iotype,
                           struct injection *found)
{
    bool any = false;

    spinlock_lock(&blkdebug->lock);
    for (size_t i = 0; i < blkdebug->rules.injections_count && !any; i++) {
        struct injection *injection = &blkdebug->rules.injections[i];
        any = fits(injection, range, iotype);
        if (any) {
            *found = *injection;
            injection->spent = injection->once;
        }
    }
    spinlock_unlock(&blkdebug->lock);
    return any;
}

/* 0, or the -errno that the request is to fail with. */
static int interfere(struct blkdebug *blkdebug, struct range range, enum blkdebug_io_type iotype) CO_FN;

static int interfere(struct blkdebug *blkdebug, struct range range, enum blkdebug_io_type iotype)
{
    struct injection injection;

    if (!find_injection(blkdebug, range, iotype, &injection))
        return 0;
    if (!injection.immediately)
        co_yield (); /* as storage would fail: later, not inside the call */
    return -injection.errnum;
}

/* Requests ----------------------------------------------------------------------------------------------------- */

static int blkdebug_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct blkdebug *blkdebug = node_state(node);
    int ret = interfere(blkdebug, range, BLKDEBUG_IO_TYPE_READ);

    return ret < 0 ? ret : child_preadv(blkdebug->image, range, iov, flags);
}

static int blkdebug_pwritev(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct blkdebug *blkdebug = node_state(node);
    int ret = interfere(blkdebug, range, BLKDEBUG_IO_TYPE_WRITE);

    return ret < 0 ? ret : child_pwritev(blkdebug->image, range, iov, flags);
}

/* Less than the preferred size is what io/ writes the slow way: that is to be seen. */
static int blkdebug_pwrite_zeroes(struct node *node, struct range range, unsigned flags)
{
    struct blkdebug *blkdebug = node_state(node);
    if (range.bytes < node_limits(node)->zero_granularity)
        return -ENOTSUP;
    int ret = interfere(blkdebug, range, BLKDEBUG_IO_TYPE_WRITE_ZEROES);

    return ret < 0 ? ret : child_pwrite_zeroes(blkdebug->image, range, flags);
}

static int blkdebug_pdiscard(struct node *node, struct range range)
{
    struct blkdebug *blkdebug = node_state(node);
    int ret = interfere(blkdebug, range, BLKDEBUG_IO_TYPE_DISCARD);

    return ret < 0 ? ret : child_pdiscard(blkdebug->image, range);
}

/* The node below is flushed by io/ afterwards. */
static int blkdebug_flush(struct node *node)
{
    return interfere(node_state(node), range_make(0, 0), BLKDEBUG_IO_TYPE_FLUSH);
}

static int blkdebug_block_status(struct node *node, struct range range, unsigned ask, struct extents *extents)
{
    (void)ask;
    (void)extents;
    return interfere(node_state(node), range, BLKDEBUG_IO_TYPE_BLOCK_STATUS);
}

/* Options ------------------------------------------------------------------------------------------------------ */

static struct injection injection_of(const struct blkdebug_inject_error_options *options)
{
    bool anywhere = !options->has_sector || options->sector == -1;

    return (struct injection){
        .event = blkdebug_event_name(options->event),
        .state = options->has_state ? options->state : STATE_ANY,
        .iotypes = options->has_iotype ? 1u << options->iotype : ~(1u << BLKDEBUG_IO_TYPE_BLOCK_STATUS),
        .errnum = options->has_errno ? (int)options->errno_ : EIO,
        .anywhere = anywhere,
        .offset = anywhere ? 0 : (uint64_t)options->sector * SECTOR,
        .once = options->has_once && options->once,
        .immediately = options->has_immediately && options->immediately,
    };
}

static struct transition transition_of(const struct blkdebug_set_state_options *options)
{
    return (struct transition){
        .event = blkdebug_event_name(options->event),
        .state = options->has_state ? options->state : STATE_ANY,
        .new_state = options->new_state,
    };
}

static void add_injections(struct rules *rules, const struct blkdebug_inject_error_options *options, size_t count)
{
    rules->injections =
        xrealloc_array(rules->injections, rules->injections_count + count + 1, sizeof(struct injection));
    for (size_t i = 0; i < count; i++)
        rules->injections[rules->injections_count++] = injection_of(&options[i]);
}

static void add_transitions(struct rules *rules, const struct blkdebug_set_state_options *options, size_t count)
{
    rules->transitions =
        xrealloc_array(rules->transitions, rules->transitions_count + count + 1, sizeof(struct transition));
    for (size_t i = 0; i < count; i++)
        rules->transitions[rules->transitions_count++] = transition_of(&options[i]);
}

static struct error *read_config(const char *path, struct rules *rules) CO_FN;

static struct error *read_config(const char *path, struct rules *rules)
{
    CLEANUP(free) char *text = NULL;
    size_t bytes;
    struct error *err = small_file_read(path, BLKDEBUG_CONFIG_BYTES_MAX, &text, &bytes);
    if (err)
        return error_wrap(err, "config");
    struct blkdebug_config config;
    err = blkdebug_config_parse(text, bytes, &config);
    if (!err) {
        add_injections(rules, config.injections, config.injections_count);
        add_transitions(rules, config.transitions, config.transitions_count);
    }
    blkdebug_config_fini(&config);
    return error_wrap(err, "config: '%s'", path);
}

/* Those of the file come first. */
static struct error *read_rules(const struct blockdev_options_blkdebug *own, struct rules *rules) CO_FN;

static struct error *read_rules(const struct blockdev_options_blkdebug *own, struct rules *rules)
{
    struct error *err = own->config ? read_config(own->config, rules) : NULL;
    if (err)
        return err;
    add_injections(rules, own->inject_error, own->inject_error_count);
    add_transitions(rules, own->set_state, own->set_state_count);
    return NULL;
}

static void rules_fini(struct rules *rules)
{
    free(rules->injections);
    free(rules->transitions);
}

/* Whatever has become of them. */
static bool injections_equal(const struct injection *a, const struct injection *b)
{
    return a->event == b->event && a->state == b->state && a->iotypes == b->iotypes && a->errnum == b->errnum &&
           a->anywhere == b->anywhere && a->offset == b->offset && a->once == b->once &&
           a->immediately == b->immediately;
}

static bool transitions_equal(const struct transition *a, const struct transition *b)
{
    return a->event == b->event && a->state == b->state && a->new_state == b->new_state;
}

static bool rules_equal(const struct rules *a, const struct rules *b)
{
    bool equal = a->injections_count == b->injections_count && a->transitions_count == b->transitions_count;

    for (size_t i = 0; equal && i < a->injections_count; i++)
        equal = injections_equal(&a->injections[i], &b->injections[i]);
    for (size_t i = 0; equal && i < a->transitions_count; i++)
        equal = transitions_equal(&a->transitions[i], &b->transitions[i]);
    return equal;
}

static unsigned permission_mask(const enum block_permission *list, size_t count)
{
    static const unsigned masks[] = {
        [BLOCK_PERMISSION_CONSISTENT_READ] = PERM_CONSISTENT_READ,
        [BLOCK_PERMISSION_WRITE] = PERM_WRITE,
        [BLOCK_PERMISSION_WRITE_UNCHANGED] = PERM_WRITE_UNCHANGED,
        [BLOCK_PERMISSION_RESIZE] = PERM_RESIZE,
    };
    unsigned mask = 0;

    for (size_t i = 0; i < count; i++)
        mask |= masks[list[i]];
    return mask;
}

/* A limit that is to be pretended: positive and a multiple of @unit; a granularity is a power of two besides. */
static struct error *read_limit(const char *name, bool given, int64_t value, uint64_t unit, bool granularity,
                                uint64_t *limit)
{
    if (!given || value == 0)
        return NULL;
    if (value < 0 || value >= INT_MAX || (uint64_t)value % unit != 0)
        return error_new("%s: %lld is not a positive multiple of %llu", name, (long long)value,
                         (unsigned long long)unit);
    if (granularity && !is_power_of_two((uint64_t)value))
        return error_new("%s: %lld is not a power of two", name, (long long)value);
    *limit = (uint64_t)value;
    return NULL;
}

static struct error *set_limits(struct node *node, const struct blockdev_options_blkdebug *own)
{
    uint64_t align = 1;
    uint64_t zero_granularity = 1;
    uint64_t discard_granularity = 1;
    struct node_limits *limits = node_limits_mutable(node);
    struct error *err = read_limit("align", own->has_align, own->align, 1, true, &align);

    if (!err)
        err = read_limit("max-transfer", own->has_max_transfer, own->max_transfer, align, false, &limits->max_transfer);
    if (!err)
        err =
            read_limit("opt-write-zero", own->has_opt_write_zero, own->opt_write_zero, align, true, &zero_granularity);
    if (!err)
        err = read_limit("max-write-zero", own->has_max_write_zero, own->max_write_zero,
                         max_u64(align, zero_granularity), false, &limits->max_write_zeroes);
    if (!err)
        err = read_limit("opt-discard", own->has_opt_discard, own->opt_discard, align, true, &discard_granularity);
    if (!err)
        err = read_limit("max-discard", own->has_max_discard, own->max_discard, max_u64(align, discard_granularity),
                         false, &limits->max_discard);
    limits->request_alignment = (uint32_t)align;
    limits->zero_granularity = (uint32_t)zero_granularity;
    limits->discard_granularity = (uint32_t)discard_granularity;
    return err;
}

static void blkdebug_close(struct node *node)
{
    struct blkdebug *blkdebug = node_state(node);

    rules_fini(&blkdebug->rules);
}

static struct error *blkdebug_open(struct node *node, const struct blockdev_options *options,
                                   const struct open_context *context)
{
    const struct blockdev_options_blkdebug *own = &options->u.blkdebug;
    struct blkdebug *blkdebug = node_state(node);

    spinlock_init(&blkdebug->lock);
    blkdebug->state = STATE_FIRST;
    blkdebug->take_perms = permission_mask(own->take_child_perms, own->take_child_perms_count);
    blkdebug->unshare_perms = permission_mask(own->unshare_child_perms, own->unshare_child_perms_count);
    struct error *err = read_rules(own, &blkdebug->rules);
    if (!err)
        err = set_limits(node, own);
    if (!err)
        err = child_open(node, "image", CHILD_FILTERED, own->image, context, &blkdebug->image);
    if (err) {
        blkdebug_close(node);
        return err;
    }
    node_set_filename(node, node_filename(child_node(blkdebug->image)));
    blkdebug_debug_event(node, blkdebug_event_name(BLKDEBUG_EVENT_NONE));
    return NULL;
}

static void blkdebug_child_permissions(const struct node *node, const struct child *child, unsigned perm,
                                       unsigned shared, unsigned *child_perm, unsigned *child_shared)
{
    const struct blkdebug *blkdebug = node_state((struct node *)(uintptr_t)node);

    (void)child;
    *child_perm = perm | blkdebug->take_perms;
    *child_shared = shared & ~blkdebug->unshare_perms;
}

static const char *const blkdebug_reopenable[] = { "config", "inject-error", "set-state", NULL };

static struct error *blkdebug_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                             struct reopen *reopen)
{
    (void)node;
    struct rules *rules = xcalloc(1, sizeof(*rules));
    reopen_set_state(reopen, rules);
    struct error *err = read_rules(&options->u.blkdebug, rules);
    return err ? err : reopen_child(reopen, "image", options->u.blkdebug.image);
}

static void blkdebug_reopen_commit(struct node *node, struct reopen *reopen)
{
    struct blkdebug *blkdebug = node_state(node);
    struct rules *rules = reopen_state(reopen);
    if (rules_equal(rules, &blkdebug->rules))
        return;
    struct rules old = blkdebug->rules;
    spinlock_lock(&blkdebug->lock);
    blkdebug->rules = *rules;
    blkdebug->state = STATE_FIRST;
    spinlock_unlock(&blkdebug->lock);
    *rules = old;
    blkdebug_debug_event(node, blkdebug_event_name(BLKDEBUG_EVENT_NONE));
}

static void blkdebug_reopen_end(struct node *node, struct reopen *reopen)
{
    struct rules *rules = reopen_state(reopen);
    (void)node;
    if (rules)
        rules_fini(rules);
    free(rules);
}

const struct driver blkdebug_driver = {
    .name = "blkdebug",
    .kind = DRIVER_FILTER,
    .state_size = sizeof(struct blkdebug),
    .write_flags = REQ_FUA | REQ_COMPRESSED,
    .open = blkdebug_open,
    .reopen_prepare = blkdebug_reopen_prepare,
    .reopen_commit = blkdebug_reopen_commit,
    .reopen_abort = blkdebug_reopen_end,
    .reopen_end = blkdebug_reopen_end,
    .reopenable = blkdebug_reopenable,
    .close = blkdebug_close,
    .preadv = blkdebug_preadv,
    .pwritev = blkdebug_pwritev,
    .pwrite_zeroes = blkdebug_pwrite_zeroes,
    .pdiscard = blkdebug_pdiscard,
    .flush = blkdebug_flush,
    .block_status = blkdebug_block_status,
    .child_permissions = blkdebug_child_permissions,
    .debug_event = blkdebug_debug_event,
};
