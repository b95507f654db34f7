/* blockdev-create: a new image, written table by table through the node that will hold it.
 *
 *     | header | refcount table | refcount blocks | L1 table | L2 tables | data |
 *                                                             `- if preallocated -'
 * Every cluster has one reference. What may have been a header before goes first and the new one comes last, so that
 * half an image is none. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/drivers/qcow2/refcount_field.h"
#include "blockcore/graph/handle.h"
#include "blockcore/runtime/buffer.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define CLUSTER_BYTES_DEFAULT (64 * 1024)
#define REFCOUNT_BITS_DEFAULT 16
#define SECTOR_BYTES 512

struct creation {
    struct qcow2_header header;
    struct geometry geometry;
    struct handle *handle;
    uint8_t *cluster; /* one cluster of memory */
    enum prealloc_mode preallocation;
    bool reads_zero; /* what is not written reads as zeroes */
    /* Clusters of each part, in the order of the file. */
    uint64_t reftable;
    uint64_t refblocks;
    uint64_t l1;
    uint64_t l2;
    uint64_t data;
};

static uint32_t log2_of(uint64_t power_of_two)
{
    return (uint32_t)__builtin_ctzll(power_of_two);
}

static bool wants_extended(const struct blockdev_create_options_qcow2 *options)
{
    return options->has_extended_l2 && options->extended_l2;
}

/* What can be asked for, but not made yet, and what excludes what. */
static struct error *check_features(const struct blockdev_create_options_qcow2 *options)
{
    bool v2 = options->has_version && options->version == BLOCKDEV_QCOW2_VERSION_V2;
    if (options->data_file || (options->has_data_file_raw && options->data_file_raw))
        return error_new("data-file: external data files are not supported");
    if (v2 && options->has_lazy_refcounts && options->lazy_refcounts)
        return error_new("lazy-refcounts: needs version 'v3'");
    if (v2 && options->has_compression_type && options->compression_type != QCOW2_COMPRESSION_TYPE_ZLIB)
        return error_new("compression-type: 'zstd' needs version 'v3'");
    if (options->backing_file && !options->has_backing_fmt)
        return error_new("backing-fmt: is missing; the format of backing-file '%s' is not guessed",
                         options->backing_file);
    if (options->has_backing_fmt && !options->backing_file)
        return error_new("backing-fmt: needs backing-file");
    if (options->backing_file && options->has_preallocation && options->preallocation != PREALLOC_MODE_OFF &&
        !wants_extended(options))
        return error_new("preallocation: would hide backing-file '%s'; with extended-l2 it does not",
                         options->backing_file);
    return NULL;
}

static struct error *check_numbers(const struct blockdev_create_options_qcow2 *options, uint64_t cluster, int64_t bits)
{
    bool v2 = options->has_version && options->version == BLOCKDEV_QCOW2_VERSION_V2;
    if (!is_power_of_two(cluster))
        return error_new("cluster-size: %" PRIu64 " is not a power of two between 512 bytes and 2 MiB", cluster);
    if (wants_extended(options) && v2)
        return error_new("extended-l2: needs version 'v3'");
    if (wants_extended(options) && cluster < 1u << QCOW2_EXTENDED_CLUSTER_BITS_MIN)
        return error_new("extended-l2: needs a cluster-size of at least 16 KiB, not %" PRIu64, cluster);
    if (!is_power_of_two((uint64_t)bits))
        return error_new("refcount-bits: %" PRId64 " is not a power of two up to 64", bits);
    if (v2 && bits != REFCOUNT_BITS_DEFAULT)
        return error_new("refcount-bits: %" PRId64 " needs version 'v3'", bits);
    return NULL;
}

static struct error *set_size(struct qcow2_header *header, uint64_t size)
{
    uint64_t entries = qcow2_l1_entries_for(header, size);
    if (size > INT64_MAX || entries > QCOW2_L1_BYTES_MAX / sizeof(uint64_t))
        return error_new("size: %" PRIu64 " is too large for clusters of %" PRIu64 " bytes", size,
                         UINT64_C(1) << header->cluster_bits);
    header->size = size;
    /* An empty disk has a table as well, which counts as used. */
    header->l1_entries = (uint32_t)max_u64(entries, 1);
    return NULL;
}

/* How many clusters each part takes. Refcount blocks count themselves and the table that leads to them. */
static void plan_refcounts(struct creation *creation)
{
    uint64_t entries = UINT64_C(1) << creation->geometry.refblock_bits;
    uint64_t pointers = cluster_bytes(&creation->geometry) / sizeof(uint64_t);
    uint64_t rest = 1 + creation->l1 + creation->l2 + creation->data;
    uint64_t before;
    creation->reftable = 1;
    creation->refblocks = 1;
    do {
        before = creation->reftable + creation->refblocks;
        creation->refblocks = div_round_up(rest + before, entries);
        creation->reftable = div_round_up(creation->refblocks, pointers);
    } while (creation->reftable + creation->refblocks != before);
}

static struct error *plan(struct creation *creation)
{
    struct qcow2_header *header = &creation->header;
    uint64_t cluster = cluster_bytes(&creation->geometry);
    creation->l1 = div_round_up(header->l1_entries * sizeof(uint64_t), cluster);
    if (creation->preallocation != PREALLOC_MODE_OFF && header->size > 0) {
        creation->l2 = header->l1_entries;
        creation->data = div_round_up(header->size, cluster);
    }
    plan_refcounts(creation);
    if (creation->reftable * cluster > QCOW2_REFTABLE_BYTES_MAX)
        return error_new("size: %" PRIu64 " is too large to be preallocated with this cluster size", header->size);
    header->reftable_offset = cluster;
    header->reftable_clusters = (uint32_t)creation->reftable;
    header->l1_offset = (1 + creation->reftable + creation->refblocks) * cluster;
    return NULL;
}

static struct error *parse_options(const struct blockdev_create_options_qcow2 *options, struct creation *creation)
{
    uint64_t cluster = options->has_cluster_size ? options->cluster_size : CLUSTER_BYTES_DEFAULT;
    int64_t bits = options->has_refcount_bits ? options->refcount_bits : REFCOUNT_BITS_DEFAULT;
    struct error *err = check_features(options);
    if (!err)
        err = check_numbers(options, cluster, bits);
    if (err)
        return err;
    struct qcow2_header *header = &creation->header;
    header->version = options->has_version && options->version == BLOCKDEV_QCOW2_VERSION_V2 ? 2 : 3;
    header->cluster_bits = log2_of(cluster);
    if (wants_extended(options))
        header->incompatible |= QCOW2_EXTENDED_L2;
    err = set_size(header, options->size);
    if (err)
        return err;
    header->refcount_order = log2_of((uint64_t)bits);
    if (options->has_lazy_refcounts && options->lazy_refcounts)
        header->compatible = QCOW2_LAZY_REFCOUNTS;
    if (options->has_compression_type && options->compression_type == QCOW2_COMPRESSION_TYPE_ZSTD) {
        header->compression = QCOW2_ZSTD;
        header->incompatible |= QCOW2_COMPRESSION;
    }
    header->backing_file = xstrdup_or_null(options->backing_file);
    if (options->has_backing_fmt)
        header->backing_format = xstrdup(blockdev_driver_name(options->backing_fmt));
    creation->geometry = geometry_of(header);
    creation->preallocation = options->has_preallocation ? options->preallocation : PREALLOC_MODE_OFF;
    return plan(creation);
}

/* Writing ----------------------------------------------------------------------------------------------------- */

static uint64_t total_clusters(const struct creation *creation)
{
    return 1 + creation->reftable + creation->refblocks + creation->l1 + creation->l2 + creation->data;
}

/* Writes the cluster in memory as cluster @index of the file. */
static int put_cluster(struct creation *creation, uint64_t index)
{
    uint64_t bytes = cluster_bytes(&creation->geometry);
    struct iovec piece;
    struct iov iov = iov_of(&piece, creation->cluster, (size_t)bytes);
    return handle_pwritev(creation->handle, range_make(index * bytes, bytes), &iov, 0);
}

/* A table of @entries pointers in a row: to clusters @target, @target + 1 and so on, with @flags. */
static int put_pointers(struct creation *creation, uint64_t index, uint64_t entries, uint64_t target, uint64_t flags)
{
    uint64_t per_cluster = cluster_bytes(&creation->geometry) / sizeof(uint64_t);
    int ret = 0;
    for (uint64_t done = 0; done < entries && ret == 0; done += per_cluster) {
        memset(creation->cluster, 0, (size_t)cluster_bytes(&creation->geometry));
        for (uint64_t i = 0; i < per_cluster && done + i < entries; i++)
            store_be64(creation->cluster + i * sizeof(uint64_t),
                       (target + done + i) << creation->geometry.cluster_bits | flags);
        ret = put_cluster(creation, index + done / per_cluster);
    }
    return ret;
}

/* What the entry of a preallocated cluster says. Its bytes read as zeroes, so they are data, and writing them changes
 * no entry any more; unless a backing file is to show through until then, which only subclusters can say. */
static struct l2_entry preallocated_entry(const struct creation *creation, uint64_t host)
{
    struct cluster cluster = { .valid = true, .has_host = true, .own = true, .host = host };
    if (!creation->header.backing_file)
        cluster.data = creation->geometry.units;
    return entry_of_cluster(&creation->geometry, &cluster);
}

/* L2 tables in a row, for clusters in a row from @target on. */
static int put_l2_tables(struct creation *creation, uint64_t index, uint64_t target)
{
    const struct geometry *geometry = &creation->geometry;
    uint64_t per_table = UINT64_C(1) << geometry->l2_bits;
    int ret = 0;
    for (uint64_t done = 0; done < creation->data && ret == 0; done += per_table) {
        memset(creation->cluster, 0, (size_t)cluster_bytes(geometry));
        for (uint64_t i = 0; i < per_table && done + i < creation->data; i++) {
            uint8_t *at = creation->cluster + (i << geometry->l2_entry_bits);
            struct l2_entry entry = preallocated_entry(creation, (target + done + i) << geometry->cluster_bits);
            store_be64(at, entry.descriptor);
            if (geometry_is_extended(geometry))
                store_be64(at + sizeof(uint64_t), entry.bitmap);
        }
        ret = put_cluster(creation, index + done / per_table);
    }
    return ret;
}

static int put_refblocks(struct creation *creation, uint64_t index)
{
    uint64_t entries = UINT64_C(1) << creation->geometry.refblock_bits;
    uint64_t left = total_clusters(creation);
    int ret = 0;
    for (uint64_t i = 0; i < creation->refblocks && ret == 0; i++) {
        memset(creation->cluster, 0, (size_t)cluster_bytes(&creation->geometry));
        for (uint64_t k = 0; k < entries && left > 0; k++, left--)
            refcount_set(creation->cluster, creation->geometry.refcount_order, (size_t)k, 1);
        ret = put_cluster(creation, index + i);
    }
    return ret;
}

static int put_zeroes(struct creation *creation, uint64_t index, uint64_t clusters)
{
    uint64_t bytes = cluster_bytes(&creation->geometry);
    return clusters ? handle_pwrite_zeroes(creation->handle, range_make(index * bytes, clusters * bytes), 0) : 0;
}

/* Stable before anything else is written. One sector, which disks write as a whole: there is the old image, or none. */
static int put_no_header(struct creation *creation)
{
    int ret = handle_pwrite_zeroes(creation->handle, range_make(0, SECTOR_BYTES), 0);
    return ret < 0 ? ret : handle_flush(creation->handle);
}

static int put_tables(struct creation *creation)
{
    uint64_t refblocks = 1 + creation->reftable;
    uint64_t l1 = refblocks + creation->refblocks;
    uint64_t l2 = l1 + creation->l1;
    uint64_t data = l2 + creation->l2;
    int ret = put_pointers(creation, 1, creation->refblocks, refblocks, 0);
    if (ret == 0)
        ret = put_refblocks(creation, refblocks);
    if (ret == 0 && creation->l2 == 0)
        ret = put_zeroes(creation, l1, creation->l1);
    if (ret == 0)
        ret = put_pointers(creation, l1, creation->l2, l2, ENTRY_COPIED);
    if (ret == 0)
        ret = put_l2_tables(creation, l2, data);
    if (ret == 0 && !creation->reads_zero)
        ret = put_zeroes(creation, data, creation->data);
    return ret;
}

static enum truncate_mode truncate_mode_of(enum prealloc_mode preallocation)
{
    switch (preallocation) {
    case PREALLOC_MODE_FALLOC:
        return TRUNCATE_FALLOC;
    case PREALLOC_MODE_FULL:
        return TRUNCATE_FULL;
    default:
        return TRUNCATE_SPARSE;
    }
}

/* Empties the file and makes it as long as the image. What has a fixed length must be long enough as it is. */
static struct error *make_room(struct creation *creation)
{
    uint64_t bytes = total_clusters(creation) << creation->geometry.cluster_bits;
    creation->reads_zero = handle_truncate(creation->handle, 0, TRUNCATE_SPARSE) == 0;
    int ret = handle_truncate(creation->handle, bytes, truncate_mode_of(creation->preallocation));
    if (ret == 0)
        return NULL;
    if (!creation->reads_zero && node_length(handle_node(creation->handle)) >= bytes)
        return NULL;
    return error_errno(-ret, "cannot make the file %" PRIu64 " bytes long", bytes);
}

static struct error *write_image(struct creation *creation)
{
    uint64_t bytes = cluster_bytes(&creation->geometry);
    creation->cluster = buffer_get((size_t)bytes);
    if (!creation->cluster)
        return error_errno(ENOMEM, "cannot make the image");
    /* Before anything is written: does all of it fit into the header? */
    struct error *err = qcow2_header_format(&creation->header, creation->cluster);
    if (!err)
        err = make_room(creation);
    if (err)
        return err;
    int ret = put_no_header(creation);
    if (ret == 0)
        ret = put_tables(creation);
    if (ret == 0)
        ret = handle_flush(creation->handle);
    if (ret == 0) {
        err = qcow2_header_format(&creation->header, creation->cluster);
        ret = err ? 0 : put_cluster(creation, 0);
    }
    if (ret == 0 && !err)
        ret = handle_flush(creation->handle);
    return ret < 0 ? error_errno(-ret, "cannot write the image") : err;
}

static struct error *create_on(struct creation *creation, const struct blockdev_ref *file)
{
    struct node *node;
    struct error *err = node_open_ref(file, &node);
    if (err)
        return error_wrap(err, "file");
    err = handle_open(node, "blockdev-create", PERM_CONSISTENT_READ | PERM_WRITE | PERM_RESIZE, PERM_CONSISTENT_READ,
                      &creation->handle);
    if (!err) {
        err = write_image(creation);
        handle_close(creation->handle);
    }
    node_unref(node);
    return err;
}

struct error *qcow2_create(const struct blockdev_create_options *options)
{
    struct creation creation = { 0 };
    struct error *err = parse_options(&options->u.qcow2, &creation);
    if (!err)
        err = create_on(&creation, options->u.qcow2.file);
    if (creation.cluster)
        buffer_put(creation.cluster, (size_t)cluster_bytes(&creation.geometry));
    qcow2_header_fini(&creation.header);
    return err;
}
