/* From guest offsets to host offsets, and L2 tables that may be changed. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>
#include <inttypes.h>

/* Absent L1 entries that one look-up passes, so that the spinlock is held for a short time. */
#define ABSENT_TABLES_MAX 512
/* Entries that one look-up walks along, for the same reason: some 10 us. */
#define RUN_ENTRIES_MAX 4096
/* A scan reads so much at a time: the processor's cache holds it until it has been looked at. */
#define SCAN_BYTES (64u * 1024)
/* Whoever asks about fewer clusters will want the rest of the slice soon. */
#define SCAN_CLUSTERS_MIN 2048

static uint64_t guest_cluster(const struct qcow2 *q, uint64_t offset)
{
    return offset >> q->geometry.cluster_bits;
}

static uint64_t l1_index_of(const struct qcow2 *q, uint64_t offset)
{
    return guest_cluster(q, offset) >> q->geometry.l2_bits;
}

static size_t slice_entries(const struct qcow2 *q)
{
    return q->l2.table_bytes >> q->geometry.l2_entry_bits;
}

/* Entry of @offset inside of its slice. */
static size_t slice_index_of(const struct qcow2 *q, uint64_t offset)
{
    return (size_t)guest_cluster(q, offset) & (slice_entries(q) - 1);
}

/* Where the slice for @offset lies in the file when its table is at @table_offset; nowhere if no table can be there. */
static uint64_t slice_offset_of(const struct qcow2 *q, uint64_t table_offset, uint64_t offset)
{
    if (in_cluster(&q->geometry, table_offset))
        return UINT64_MAX;
    uint64_t l2_index = guest_cluster(q, offset) & ((UINT64_C(1) << q->geometry.l2_bits) - 1);
    return table_offset + align_down(l2_index << q->geometry.l2_entry_bits, q->l2.table_bytes);
}

static struct l2_entry entry_at(const struct geometry *geometry, const uint8_t *slice, size_t index)
{
    const uint8_t *at = slice + (index << geometry->l2_entry_bits);
    return (struct l2_entry){
        .descriptor = load_be64(at),
        .bitmap = geometry_is_extended(geometry) ? load_be64(at + sizeof(uint64_t)) : 0,
    };
}

/* Guest bytes from range.offset to the end of its L2 table. */
static uint64_t bytes_of_table(const struct qcow2 *q, uint64_t offset)
{
    uint64_t covered = UINT64_C(1) << (q->geometry.cluster_bits + q->geometry.l2_bits);
    return covered - (offset & (covered - 1));
}

/* Under l2.lock: no L2 table at range.offset; how far does that go? */
static void describe_absent(const struct qcow2 *q, struct range range, struct mapping *out)
{
    uint64_t index = l1_index_of(q, range.offset);
    uint64_t bytes = bytes_of_table(q, range.offset);
    for (unsigned i = 0; i < ABSENT_TABLES_MAX && bytes < range.bytes; i++) {
        if (++index >= q->l1_entries || entry_offset(q->l1[index]))
            break;
        bytes += bytes_of_table(q, range.offset + bytes);
    }
    *out = (struct mapping){ .kind = CLUSTER_ABSENT, .bytes = min_u64(bytes, range.bytes) };
}

/* Does the run that ends with @previous go on in the next cluster? */
static bool continues_run(const struct geometry *geometry, const struct cluster *previous, const struct cluster *next)
{
    enum cluster_kind kind = cluster_unit_kind(previous, unit_count(geometry) - 1);
    if (cluster_unit_kind(next, 0) != kind || kind == CLUSTER_COMPRESSED || next->own != previous->own)
        return false;
    return !next->has_host || next->host == previous->host + cluster_bytes(geometry);
}

/* The first entry from @index on that is not all zeroes, or @end. Zeroes say that a cluster is absent, and in a large
 * image are nearly all there is. */
static size_t skip_absent(const struct geometry *geometry, const uint8_t *slice, size_t index, size_t end)
{
    unsigned words_of_entry = 1u << (geometry->l2_entry_bits - 3);
    const uint64_t *word = (const uint64_t *)(const void *)slice + index * words_of_entry;
    const uint64_t *limit = word + (end - index) * words_of_entry;
    const uint64_t *at = word;
    while (limit - at >= 8 && !(at[0] | at[1] | at[2] | at[3] | at[4] | at[5] | at[6] | at[7]))
        at += 8;
    while (at < limit && !*at)
        at++;
    return index + (size_t)(at - word) / words_of_entry;
}

/* Under l2.lock. */
static void describe_run(const struct qcow2 *q, const uint8_t *slice, struct range range, struct mapping *out)
{
    const struct geometry *geometry = &q->geometry;
    uint64_t guest = align_down(range.offset, cluster_bytes(geometry));
    size_t index = slice_index_of(q, range.offset);
    size_t end = min_u64(slice_entries(q), index + RUN_ENTRIES_MAX);
    struct l2_entry entry = entry_at(geometry, slice, index);
    struct cluster cluster = cluster_of_entry(geometry, entry, guest);
    unsigned unit = unit_of(geometry, range.offset);
    unsigned units = unit + cluster_units_alike(geometry, &cluster, unit);
    *out = (struct mapping){
        .kind = cluster_unit_kind(&cluster, unit),
        .own = cluster.own,
        .host = cluster.host + in_cluster(geometry, range.offset),
        .entry = entry.descriptor,
    };
    uint64_t run_end = guest + ((uint64_t)units << geometry->unit_bits);
    if (!entry.descriptor && !entry.bitmap) {
        size_t next = skip_absent(geometry, slice, index + 1, end);
        run_end += (uint64_t)(next - index - 1) << geometry->cluster_bits;
        index = next - 1;
    }
    while (units == unit_count(geometry) && run_end < range_end(range) && ++index < end) {
        struct cluster next = cluster_of_entry(geometry, entry_at(geometry, slice, index), run_end);
        if (!continues_run(geometry, &cluster, &next))
            break;
        units = cluster_units_alike(geometry, &next, 0);
        run_end += (uint64_t)units << geometry->unit_bits;
        cluster = next;
    }
    out->bytes = min_u64(run_end - range.offset, range.bytes);
}

/* Under l2.lock: could these clusters of the file be data? What was written once lies inside the file. */
static bool may_be_data(const struct qcow2 *q, const struct mapping *mapping)
{
    if (q->geometry.data_file)
        return true; /* no tables there, and it grows where it is written */
    uint64_t last = align_down(mapping->host + mapping->bytes - 1, cluster_bytes(&q->geometry));
    return last < child_length(q->data) && !qcow2_is_protected(q, mapping->host, mapping->bytes);
}

/* Under l2.lock: the bytes of the slice at @offset of the file, if they are in memory. */
static const uint8_t *find_slice(struct qcow2 *q, uint64_t offset, const struct map_scan *scan)
{
    const struct table *table = table_find(&q->l2, offset);
    if (table)
        return table->data;
    if (scan && scan->version == q->l2.version && range_contains(scan->place, range_make(offset, q->l2.table_bytes)))
        return scan->data + (offset - scan->place.offset);
    return NULL;
}

/* Under l2.lock. Is it in memory? Then describes the run that begins at range.offset and returns true. Otherwise *@load
 * is where the slice lies that is needed. @scan may be NULL. */
static bool look_up_cached(struct qcow2 *q, struct range range, enum lookup_for purpose, const struct map_scan *scan,
                           struct mapping *out, uint64_t *load)
{
    uint64_t index = l1_index_of(q, range.offset);
    uint64_t table_offset = index < q->l1_entries ? entry_offset(q->l1[index]) : 0;
    if (table_offset == 0) {
        describe_absent(q, range, out);
        return true;
    }
    *load = slice_offset_of(q, table_offset, range.offset);
    const uint8_t *slice = find_slice(q, *load, scan);
    if (!slice)
        return false;
    describe_run(q, slice, range, out);
    /* A table that a snapshot shares is copied before any of its clusters is written. */
    if (!entry_is_own(q->l1[index]))
        out->own = false;
    if (purpose == FOR_WRITING && out->kind == CLUSTER_DATA && !may_be_data(q, out)) {
        out->kind = CLUSTER_INVALID;
        out->misplaced = true;
    }
    return true;
}

/* Not taken on trust: an L1 entry may point anywhere. */
static int pin_slice(struct qcow2 *q, uint64_t offset, struct table **out)
{
    spinlock_lock(&q->l2.lock);
    bool possible = qcow2_table_in_file(q, offset, q->l2.table_bytes);
    spinlock_unlock(&q->l2.lock);
    if (possible)
        return table_pin(&q->l2, q->file, offset, out);
    return qcow2_corrupt(q, range_make(0, 0),
                         "an entry of the L1 table leads to offset 0x%" PRIx64 ", where no L2 table can be", offset);
}

int qcow2_corrupt_entry(struct qcow2 *q, uint64_t entry)
{
    return qcow2_corrupt(q, range_make(0, 0), "an entry of an L2 table, 0x%016" PRIx64 ", means nothing", entry);
}

/* The entry means nothing, or the clusters that it leads to must not be written. */
static int corrupt_mapping(struct qcow2 *q, const struct mapping *mapping)
{
    if (!mapping->misplaced)
        return qcow2_corrupt_entry(q, mapping->entry);
    spinlock_lock(&q->l2.lock);
    bool is_protected = qcow2_is_protected(q, mapping->host, mapping->bytes);
    spinlock_unlock(&q->l2.lock);
    if (is_protected)
        return qcow2_corrupt_overlap(q, mapping->host, mapping->bytes);
    return qcow2_corrupt(q, range_make(mapping->host, mapping->bytes),
                         "data at offset 0x%" PRIx64 " lies behind the end of the file", mapping->host);
}

int map_lookup(struct qcow2 *q, struct range range, enum lookup_for purpose, struct mapping *out)
{
    struct table *held = NULL;
    for (;;) {
        uint64_t load;
        spinlock_lock(&q->l2.lock);
        bool known = look_up_cached(q, range, purpose, NULL, out, &load);
        spinlock_unlock(&q->l2.lock);
        if (held)
            table_unpin(&q->l2, held);
        if (known)
            break;
        int ret = pin_slice(q, load, &held);
        if (ret < 0)
            return ret;
    }
    return likely(out->kind != CLUSTER_INVALID) ? 0 : corrupt_mapping(q, out);
}

/* Scans --------------------------------------------------------------------------------------------------------- */

void map_scan_begin(const struct qcow2 *q, struct range range, struct map_scan *scan)
{
    bool is_long = range.bytes >> q->geometry.cluster_bits >= SCAN_CLUSTERS_MIN;
    *scan = (struct map_scan){ .past_cache = is_long && q->l2.table_bytes <= SCAN_BYTES };
}

void map_scan_end(struct map_scan *scan)
{
    buffer_put(scan->data, SCAN_BYTES);
}

/* Under l2.lock: how much from @load on, where the slice for range.offset lies, is tables that the range needs. */
static uint64_t bytes_to_scan(const struct qcow2 *q, struct range range, uint64_t load)
{
    uint64_t bytes = 0;
    for (uint64_t at = range.offset; at < range_end(range) && bytes < SCAN_BYTES;) {
        uint64_t index = l1_index_of(q, at);
        uint64_t table_offset = index < q->l1_entries ? entry_offset(q->l1[index]) : 0;
        uint64_t slice = slice_offset_of(q, table_offset, at);
        if (slice != load + bytes || !qcow2_table_in_file(q, slice, q->l2.table_bytes))
            break;
        uint64_t guest = min_u64(bytes_of_table(q, at), range_end(range) - at);
        uint64_t needed = align_up(guest >> (q->geometry.cluster_bits - q->geometry.l2_entry_bits), q->l2.table_bytes);
        bytes += min_u64(max_u64(needed, q->l2.table_bytes), table_offset + cluster_bytes(&q->geometry) - slice);
        at += guest;
    }
    return min_u64(bytes, SCAN_BYTES);
}

/* Afterwards the slice at @load is in the scan, unless tables change all the time, or it cannot be there. */
static int load_scan(struct qcow2 *q, struct range range, uint64_t load, struct map_scan *scan)
{
    spinlock_lock(&q->l2.lock);
    scan->version = q->l2.version;
    uint64_t bytes = bytes_to_scan(q, range, load);
    spinlock_unlock(&q->l2.lock);
    if (!scan->data)
        scan->data = buffer_get(SCAN_BYTES);
    scan->place = range_make(load, scan->data ? bytes : 0);
    if (scan->place.bytes == 0)
        return 0;
    child_debug_event(q->file, q->l2.load_event);
    int ret = child_pread(q->file, load, scan->data, bytes);
    if (ret < 0)
        scan->place.bytes = 0;
    return ret;
}

/* What is in memory of @range, at most @max runs. 0: the slice at *@load is not. */
static size_t scan_cached(struct qcow2 *q, struct range range, const struct map_scan *scan, struct mapping *runs,
                          size_t max, uint64_t *load)
{
    size_t count = 0;
    uint64_t at = range.offset;
    uint64_t end = min_u64(range_end(range), at + ((uint64_t)RUN_ENTRIES_MAX << q->geometry.cluster_bits));
    spinlock_lock(&q->l2.lock);
    while (count < max && at < end) {
        struct mapping *run = &runs[count];
        if (!look_up_cached(q, range_between(at, range_end(range)), FOR_READING, scan, run, load))
            break;
        if (run->kind == CLUSTER_INVALID && count > 0)
            break;
        count++;
        at += run->bytes;
    }
    spinlock_unlock(&q->l2.lock);
    return count;
}

int map_scan_next(struct qcow2 *q, struct range range, struct map_scan *scan, struct mapping *runs, size_t max,
                  size_t *count)
{
    struct table *held = NULL;
    int ret = 0;
    for (bool past_cache = scan->past_cache;; past_cache = false) {
        uint64_t load;
        *count = scan_cached(q, range, scan, runs, max, &load);
        if (held)
            table_unpin(&q->l2, held);
        held = NULL;
        if (*count > 0)
            break;
        ret = past_cache ? load_scan(q, range, load, scan) : pin_slice(q, load, &held);
        if (ret < 0)
            return ret;
    }
    return likely(runs[0].kind != CLUSTER_INVALID) ? 0 : corrupt_mapping(q, &runs[0]);
}

/* Tables that are changed --------------------------------------------------------------------------------------- */

/* Copies the table at @from, which a snapshot shares, to @to. What is cached of it is clean: shared tables are not
 * changed. No cluster of it may be written in place. */
static int copy_table(struct qcow2 *q, uint64_t from, uint64_t to)
{
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    if (!qcow2_table_in_file(q, from, bytes))
        return qcow2_corrupt(q, range_make(from, bytes), "there cannot be an L2 table at offset 0x%" PRIx64, from);
    uint8_t *table = buffer_get(bytes);
    if (!table)
        return -ENOMEM;
    child_debug_event(q->file, "l2_alloc_cow_read");
    int ret = child_pread(q->file, from, table, bytes);
    for (size_t at = 0; ret == 0 && at < bytes; at += (size_t)1 << q->geometry.l2_entry_bits) {
        uint64_t entry = load_be64(table + at);
        if (!(entry & ENTRY_COMPRESSED))
            store_be64(table + at, entry & ~ENTRY_COPIED);
    }
    if (ret == 0) {
        child_debug_event(q->file, "l2_alloc_write");
        ret = child_pwrite(q->file, to, table, bytes, 0);
    }
    buffer_put(table, bytes);
    return ret;
}

static int write_empty_table(struct qcow2 *q, uint64_t offset)
{
    child_debug_event(q->file, "l2_alloc_write");
    return child_pwrite_zeroes(q->file, range_make(offset, cluster_bytes(&q->geometry)), 0);
}

/* The L1 entry leads to the table at @offset from now on, which nobody shares. */
static int set_l1_entry(struct qcow2 *q, uint64_t index, uint64_t offset)
{
    spinlock_lock(&q->l2.lock);
    bool added = cluster_set_add(&q->tables, offset >> q->geometry.cluster_bits, TABLE_BIT(TABLE_ACTIVE_L2));
    if (added)
        q->l1[index] = offset | ENTRY_COPIED;
    spinlock_unlock(&q->l2.lock);
    if (!added)
        return -ENOMEM;
    changed_add(&q->l1_changed, index, index + 1);
    return 0;
}

static void forget_table(struct qcow2 *q, uint64_t offset)
{
    spinlock_lock(&q->l2.lock);
    cluster_set_remove(&q->tables, offset >> q->geometry.cluster_bits, TABLE_BIT(TABLE_ACTIVE_L2));
    spinlock_unlock(&q->l2.lock);
    freed_add(q, range_make(offset, cluster_bytes(&q->geometry)), FREED_L2_TABLE);
}

/* Gives the L1 entry a table of its own: an empty one, or a copy of the one that a snapshot shares. The table is
 * written at once; the L1 entry follows when tables are written back, after a flush. */
static int own_l2_table(struct qcow2 *q, uint64_t index)
{
    uint64_t old = entry_offset(q->l1[index]);
    uint64_t host;
    uint64_t count;
    bool fresh;
    int ret = refcount_alloc(q, 1, &host, &count, &fresh);
    if (ret < 0)
        return ret;
    for (uint64_t at = 0; at < cluster_bytes(&q->geometry); at += q->l2.table_bytes)
        table_forget(&q->l2, host + at);
    ret = old ? copy_table(q, old, host) : write_empty_table(q, host);
    if (ret == 0)
        ret = set_l1_entry(q, index, host);
    if (ret < 0) {
        (void)refcount_release(q, range_make(host, cluster_bytes(&q->geometry)));
        return ret;
    }
    if (old)
        forget_table(q, old);
    return 0;
}

static int pin_run(struct qcow2 *q, struct range clusters, struct l2_run *run)
{
    uint64_t table_offset = entry_offset(q->l1[l1_index_of(q, clusters.offset)]);
    struct table *slice;
    int ret = pin_slice(q, slice_offset_of(q, table_offset, clusters.offset), &slice);
    if (ret < 0)
        return ret;
    size_t first = slice_index_of(q, clusters.offset);
    uint64_t wanted = clusters.bytes >> q->geometry.cluster_bits;
    *run = (struct l2_run){
        .slice = slice,
        .guest = clusters.offset,
        .first = first,
        .count = (size_t)min_u64(wanted, slice_entries(q) - first),
    };
    return 0;
}

int l2_run_begin(struct qcow2 *q, struct range clusters, struct l2_run *run)
{
    uint64_t index = l1_index_of(q, clusters.offset);
    if (index >= q->l1_entries)
        return -EINVAL;
    if (!entry_is_own(q->l1[index]) || !entry_offset(q->l1[index])) {
        int ret = own_l2_table(q, index);
        if (ret < 0)
            return ret;
    }
    return pin_run(q, clusters, run);
}

int l2_run_begin_existing(struct qcow2 *q, struct range clusters, struct l2_run *run)
{
    uint64_t index = l1_index_of(q, clusters.offset);
    if (index < q->l1_entries && entry_offset(q->l1[index]))
        return l2_run_begin(q, clusters, run);
    uint64_t absent = bytes_of_table(q, clusters.offset);
    *run = (struct l2_run){ .count = (size_t)(min_u64(absent, clusters.bytes) >> q->geometry.cluster_bits) };
    return 0;
}

void l2_run_end(struct qcow2 *q, struct l2_run *run)
{
    if (run->slice)
        table_unpin(&q->l2, run->slice);
    run->slice = NULL;
}

static uint64_t run_guest(const struct qcow2 *q, const struct l2_run *run, size_t i)
{
    return run->guest + ((uint64_t)i << q->geometry.cluster_bits);
}

struct l2_entry l2_run_get(const struct qcow2 *q, const struct l2_run *run, size_t i)
{
    return entry_at(&q->geometry, run->slice->data, run->first + i);
}

struct cluster l2_run_cluster(const struct qcow2 *q, const struct l2_run *run, size_t i)
{
    return cluster_of_entry(&q->geometry, l2_run_get(q, run, i), run_guest(q, run, i));
}

int l2_run_change(struct qcow2 *q, const struct l2_run *run, size_t first, size_t count)
{
    uint32_t bits = q->geometry.l2_entry_bits;
    return table_change(&q->l2, run->slice, (run->first + first) << bits, count << bits);
}

void l2_run_set(struct qcow2 *q, const struct l2_run *run, size_t i, struct l2_entry entry)
{
    spinlock_lock(&q->l2.lock);
    uint8_t *at = run->slice->data + ((run->first + i) << q->geometry.l2_entry_bits);
    store_be64(at, entry.descriptor);
    if (geometry_is_extended(&q->geometry))
        store_be64(at + sizeof(uint64_t), entry.bitmap);
    spinlock_unlock(&q->l2.lock);
}

/* Where in the file; nowhere for what lies in a data file, whose clusters nobody counts. */
static struct range host_range_of(const struct qcow2 *q, struct l2_entry entry)
{
    if (q->geometry.data_file)
        return range_make(0, 0);
    if (entry.descriptor & ENTRY_COMPRESSED)
        return entry_compressed_range(&q->geometry, entry.descriptor);
    uint64_t offset = entry_offset(entry.descriptor);
    return range_make(offset, offset ? cluster_bytes(&q->geometry) : 0);
}

void l2_entry_release(struct qcow2 *q, struct l2_entry entry, enum freed_by by)
{
    struct range host = host_range_of(q, entry);
    if (host.bytes == 0)
        return;
    /* A damaged image: giving up one of its tables would destroy more. */
    if (qcow2_is_table(q, host.offset, host.bytes))
        (void)qcow2_corrupt_overlap(q, host.offset, host.bytes);
    else
        freed_add(q, host, by);
}
