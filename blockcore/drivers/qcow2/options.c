/* What the options say about caches and discards. Defaults and rules are QEMU's (docs/qcow2-cache). */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "schema/cairn_types.h"

#include <inttypes.h>
#include <string.h>

#define L2_CACHE_BYTES_MAX (UINT64_C(32) << 20) /* by default */
#define L2_TABLES_MIN 2
#define REFCOUNT_TABLES_MIN 4
#define SMALL_ENTRY_BYTES 4096 /* of an entry when the cache does not hold all tables */
#define CACHE_CLEAN_SECONDS 600

struct cache_sizes {
    uint64_t l2;
    uint64_t l2_entry;
    uint64_t refcounts;
};

/* Bytes of all L2 tables that the disk can have. */
static uint64_t all_l2_bytes(const struct qcow2 *q)
{
    uint64_t cluster = cluster_bytes(&q->geometry);
    return align_up(div_round_up(q->header.size, cluster) << q->geometry.l2_entry_bits, cluster);
}

static struct error *check_sizes(const struct qcow2 *q, const struct blockdev_options_qcow2 *own)
{
    if (own->has_cache_size && own->has_l2_cache_size && own->has_refcount_cache_size)
        return error_new("cache-size, l2-cache-size and refcount-cache-size cannot all be given");
    if (own->has_cache_size && own->has_l2_cache_size && own->l2_cache_size > own->cache_size)
        return error_new("l2-cache-size: must not be larger than cache-size");
    if (own->has_cache_size && own->has_refcount_cache_size && own->refcount_cache_size > own->cache_size)
        return error_new("refcount-cache-size: must not be larger than cache-size");
    int64_t entry = own->l2_cache_entry_size;
    if (own->has_l2_cache_entry_size &&
        (!is_power_of_two((uint64_t)entry) || (uint64_t)entry > cluster_bytes(&q->geometry)))
        return error_new("l2-cache-entry-size: %" PRId64 " is not a power of two between 512 and the cluster size",
                         entry);
    return NULL;
}

/* As much as possible of a common size goes to the L2 tables. */
static void share_size(uint64_t total, uint64_t l2_bytes, uint64_t refcounts_min, struct cache_sizes *sizes)
{
    if (total >= l2_bytes + refcounts_min) {
        sizes->l2 = l2_bytes;
        sizes->refcounts = total - l2_bytes;
    } else {
        sizes->refcounts = min_u64(total, refcounts_min);
        sizes->l2 = total - sizes->refcounts;
    }
}

static struct cache_sizes choose_sizes(const struct qcow2 *q, const struct blockdev_options_qcow2 *own)
{
    uint64_t l2_bytes = all_l2_bytes(q);
    uint64_t refcounts_min = REFCOUNT_TABLES_MIN * cluster_bytes(&q->geometry);
    struct cache_sizes sizes = { .l2 = min_u64(l2_bytes, L2_CACHE_BYTES_MAX), .refcounts = refcounts_min };
    uint64_t total = own->has_cache_size ? (uint64_t)own->cache_size : 0;
    if (own->has_l2_cache_size)
        sizes.l2 = min_u64((uint64_t)own->l2_cache_size, l2_bytes); /* more would never be used */
    if (own->has_refcount_cache_size)
        sizes.refcounts = (uint64_t)own->refcount_cache_size;
    if (own->has_cache_size && own->has_l2_cache_size)
        sizes.refcounts = total - sizes.l2;
    else if (own->has_cache_size && own->has_refcount_cache_size)
        sizes.l2 = total - sizes.refcounts;
    else if (own->has_cache_size)
        share_size(total, l2_bytes, refcounts_min, &sizes);

    sizes.l2_entry = cluster_bytes(&q->geometry);
    if (own->has_l2_cache_entry_size)
        sizes.l2_entry = (uint64_t)own->l2_cache_entry_size;
    else if (sizes.l2 < l2_bytes)
        sizes.l2_entry = min_u64(sizes.l2_entry, SMALL_ENTRY_BYTES);
    return sizes;
}

static struct error *check_own(const struct qcow2 *q, const struct blockdev_options_qcow2 *own)
{
    struct error *err = check_sizes(q, own);
    if (err)
        return err;
    if (own->has_lazy_refcounts && own->lazy_refcounts && q->geometry.version < 3)
        return error_new("lazy-refcounts: needs an image of version 3");
    if (own->has_discard_no_unref && own->discard_no_unref && q->geometry.version < 3)
        return error_new("discard-no-unref: needs an image of version 3");
    if (own->write_ahead_bitmaps && q->geometry.version < 3)
        return error_new("write-ahead-bitmaps: needs an image of version 3");
    if (own->data_file && !q->geometry.data_file)
        return error_new("data-file: the image has no external data file");
    return NULL;
}

static struct qcow2_settings settings_of(const struct qcow2 *q, const struct blockdev_options *options)
{
    const struct blockdev_options_qcow2 *own = &options->u.qcow2;
    bool unmap = options->has_discard && options->discard == BLOCKDEV_DISCARD_OPTIONS_UNMAP;
    bool pass_other = own->has_pass_discard_other && own->pass_discard_other;
    uint64_t clean_seconds = own->has_cache_clean_interval ? (uint64_t)own->cache_clean_interval : CACHE_CLEAN_SECONDS;
    struct cache_sizes sizes = choose_sizes(q, own);
    return (struct qcow2_settings){
        .l2_cache_bytes = sizes.l2,
        .l2_entry_bytes = sizes.l2_entry,
        .refcount_cache_bytes = sizes.refcounts,
        .pass_discard = {
            [FREED_BY_REQUEST] = own->has_pass_discard_request ? own->pass_discard_request : unmap,
            [FREED_BY_SNAPSHOT] = !own->has_pass_discard_snapshot || own->pass_discard_snapshot,
            [FREED_L2_TABLE] = pass_other,
            [FREED_OTHERWISE] = pass_other,
        },
        .keep_discarded = own->has_discard_no_unref && own->discard_no_unref,
        .lazy_refcounts = own->has_lazy_refcounts ? own->lazy_refcounts : (q->header.compatible & QCOW2_LAZY_REFCOUNTS),
        .overlap_checks = overlap_checks_of(own->overlap_check),
        .cache_clean_ms = UINT64_C(1000) * clean_seconds,
    };
}

struct error *qcow2_read_options(const struct qcow2 *q, const struct blockdev_options *options,
                                 struct qcow2_settings *settings)
{
    struct error *err = check_own(q, &options->u.qcow2);
    if (!err)
        *settings = settings_of(q, options);
    return err;
}

static void init_l2(struct qcow2 *q, uint64_t entry_bytes)
{
    table_cache_init(&q->l2, (size_t)entry_bytes, L2_TABLES_MIN);
    q->l2.load_event = "l2_load";
    q->l2.write_event = "l2_update";
}

void qcow2_apply_settings(struct qcow2 *q, const struct qcow2_settings *settings)
{
    if (settings->l2_entry_bytes != q->l2.table_bytes) {
        table_cache_fini(&q->l2);
        init_l2(q, settings->l2_entry_bytes);
    }
    q->l2.limit = (size_t)max_u64(settings->l2_cache_bytes / q->l2.table_bytes, L2_TABLES_MIN);
    q->refblocks.limit =
        (size_t)max_u64(settings->refcount_cache_bytes / q->refblocks.table_bytes, REFCOUNT_TABLES_MIN);
    memcpy(q->pass_discard, settings->pass_discard, sizeof(q->pass_discard));
    q->keep_discarded = settings->keep_discarded;
    q->lazy_refcounts = settings->lazy_refcounts;
    q->overlap_checks = settings->overlap_checks;
    q->cache_clean_ms = settings->cache_clean_ms;
}

struct error *qcow2_apply_options(struct qcow2 *q, const struct blockdev_options *options)
{
    struct qcow2_settings settings;
    struct error *err = qcow2_read_options(q, options, &settings);
    if (err)
        return err;
    init_l2(q, settings.l2_entry_bytes);
    table_cache_init(&q->refblocks, (size_t)cluster_bytes(&q->geometry), REFCOUNT_TABLES_MIN);
    q->refblocks.load_event = "refblock_load";
    q->refblocks.write_event = "refblock_update_part";
    qcow2_apply_settings(q, &settings);
    return NULL;
}
