#include "tests/unit/qcow2/checker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define OFFSET_BITS 0x00fffffffffffe00ull
#define COPIED (1ull << 63)
#define COMPRESSED (1ull << 62)

static uint64_t number(struct image image, uint64_t at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | (at + i < image.length ? image.bytes[at + i] : 0);
    return value;
}

static unsigned version(struct image image)
{
    return (unsigned)number(image, 4, 4);
}

static unsigned cluster_bits(struct image image)
{
    return (unsigned)number(image, 20, 4);
}

static uint64_t cluster_size(struct image image)
{
    return 1ull << cluster_bits(image);
}

static unsigned refcount_bits(struct image image)
{
    return version(image) < 3 ? 16 : 1u << number(image, 96, 4);
}

static bool feature(struct image image, unsigned bit)
{
    return version(image) >= 3 && number(image, 72, 8) >> bit & 1;
}

static bool has_data_file(struct image image)
{
    return feature(image, 2);
}

static bool has_subclusters(struct image image)
{
    return feature(image, 4);
}

static uint64_t l2_entry_bytes(struct image image)
{
    return has_subclusters(image) ? 16 : 8;
}

uint64_t image_guest_bytes(struct image image)
{
    return number(image, 24, 8);
}

static __attribute__((format(printf, 2, 3))) void corruption(struct findings *findings, const char *format, ...)
{
    if (findings->corruptions++ > 0)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(findings->first, sizeof(findings->first), format, args);
    va_end(args);
}

/* Refcounts as the image has them ------------------------------------------------------------------------------ */

static uint64_t stored_refcount(struct image image, uint64_t cluster)
{
    unsigned bits = refcount_bits(image);
    uint64_t per_block = cluster_size(image) * 8 / bits;
    uint64_t table = number(image, 48, 8);
    uint64_t table_entries = number(image, 56, 4) * cluster_size(image) / 8;
    if (cluster / per_block >= table_entries)
        return 0;
    uint64_t block = number(image, table + cluster / per_block * 8, 8) & ~511ull;
    if (!block)
        return 0;
    uint64_t index = cluster % per_block;
    if (bits >= 8)
        return number(image, block + index * (bits / 8), bits / 8);
    return number(image, block + index * bits / 8, 1) >> (index * bits % 8) & ((1u << bits) - 1);
}

/* Refcounts as they should be ---------------------------------------------------------------------------------- */

struct census {
    struct image image;
    struct findings *findings;
    unsigned *references; /* of each cluster */
    bool *is_table;
    bool *is_own; /* an entry says that nobody else refers to it */
    uint64_t clusters;
};

static void refer(struct census *census, uint64_t offset, uint64_t bytes, bool table, const char *what)
{
    if (bytes == 0)
        return;
    uint64_t first = offset / cluster_size(census->image);
    uint64_t last = (offset + bytes - 1) / cluster_size(census->image);
    for (uint64_t i = first; i <= last; i++) {
        if (i >= census->clusters) {
            corruption(census->findings, "%s at 0x%llx is behind the end of the file", what,
                       (unsigned long long)offset);
            return;
        }
        if (census->references[i] && (table || census->is_table[i]) && census->is_table[i] != table)
            corruption(census->findings, "%s at 0x%llx shares a cluster with something else", what,
                       (unsigned long long)offset);
        census->references[i]++;
        census->is_table[i] |= table;
    }
}

/* While an image is marked as dirty the flag need not agree with the stored count, but it must be true. */
static void check_copied(struct census *census, uint64_t entry, const char *what)
{
    uint64_t offset = entry & OFFSET_BITS;
    if (feature(census->image, 0)) {
        if ((entry & COPIED) && offset / cluster_size(census->image) < census->clusters)
            census->is_own[offset / cluster_size(census->image)] = true;
        return;
    }
    uint64_t stored = stored_refcount(census->image, offset / cluster_size(census->image));
    if (!(entry & COPIED) && census->findings->flags_may_lack)
        return;
    if (!(entry & COPIED) != (stored != 1))
        corruption(census->findings, "%s entry 0x%llx has a wrong copied flag: refcount %llu", what,
                   (unsigned long long)entry, (unsigned long long)stored);
}

static void count_compressed(struct census *census, uint64_t entry)
{
    unsigned offset_bits = 62 - (cluster_bits(census->image) - 8);
    uint64_t offset = entry & ((1ull << offset_bits) - 1);
    uint64_t sectors = (entry & ~(COPIED | COMPRESSED)) >> offset_bits;
    uint64_t end = (offset & ~511ull) + (sectors + 1) * 512;
    if (entry & COPIED)
        corruption(census->findings, "a compressed cluster has the copied flag");
    refer(census, offset, end - offset, false, "compressed data");
}

static void check_subclusters(struct census *census, uint64_t bitmap, bool has_host)
{
    uint32_t data = (uint32_t)bitmap;
    if (data & bitmap >> 32)
        corruption(census->findings, "a subcluster is data and zero: 0x%llx", (unsigned long long)bitmap);
    if (data && !has_host)
        corruption(census->findings, "subclusters without a cluster: 0x%llx", (unsigned long long)bitmap);
}

/* In a data file each cluster is where the guest has it, and nobody counts it. */
static void check_data_entry(struct census *census, uint64_t entry, uint64_t guest)
{
    uint64_t offset = entry & OFFSET_BITS;
    if (offset ? offset != guest || !(entry & COPIED) : guest && entry & COPIED)
        corruption(census->findings, "the entry 0x%llx of 0x%llx leads elsewhere in the data file",
                   (unsigned long long)entry, (unsigned long long)guest);
}

static void count_l2(struct census *census, uint64_t table, uint64_t guest, bool active)
{
    uint64_t entry_bytes = l2_entry_bytes(census->image);
    for (uint64_t at = 0; at < cluster_size(census->image); at += entry_bytes, guest += cluster_size(census->image)) {
        uint64_t entry = number(census->image, table + at, 8);
        uint64_t bitmap = entry_bytes > 8 ? number(census->image, table + at + 8, 8) : 0;
        if (entry & COMPRESSED) {
            count_compressed(census, entry);
            if (bitmap || has_data_file(census->image))
                corruption(census->findings, "a compressed cluster has subclusters, or is in a data file");
            continue;
        }
        uint64_t offset = entry & OFFSET_BITS;
        if (offset % cluster_size(census->image))
            corruption(census->findings, "L2 entry 0x%llx is not aligned", (unsigned long long)entry);
        if (entry & 1 && (version(census->image) < 3 || entry_bytes > 8))
            corruption(census->findings, "a zero flag where there are none");
        check_subclusters(census, bitmap, offset || (entry & COPIED));
        if (has_data_file(census->image)) {
            check_data_entry(census, entry, guest);
            continue;
        }
        if (!offset)
            continue;
        refer(census, offset, cluster_size(census->image), false, "data");
        if (active)
            check_copied(census, entry, "L2");
    }
}

static void count_l1(struct census *census, uint64_t offset, uint64_t entries, bool active)
{
    refer(census, offset, entries * 8, true, "an L1 table");
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t entry = number(census->image, offset + i * 8, 8);
        uint64_t table = entry & OFFSET_BITS;
        if (!table)
            continue;
        if (table % cluster_size(census->image) || table + cluster_size(census->image) > census->image.length) {
            corruption(census->findings, "L1 entry 0x%llx leads nowhere", (unsigned long long)entry);
            continue;
        }
        refer(census, table, cluster_size(census->image), true, "an L2 table");
        if (active)
            check_copied(census, entry, "L1");
        uint64_t clusters = cluster_size(census->image) / l2_entry_bytes(census->image);
        count_l2(census, table, i * clusters * cluster_size(census->image), active);
    }
}

/* Where the entry of snapshot @index is, or, behind the last, where the table ends. */
static uint64_t snapshot_entry(struct image image, uint64_t index)
{
    uint64_t at = number(image, 64, 8);
    for (uint64_t i = 0; i < index; i++) {
        uint64_t bytes = 40 + number(image, at + 36, 4) + number(image, at + 12, 2) + number(image, at + 14, 2);
        at += (bytes + 7) & ~7ull;
    }
    return at;
}

/* Dirty bitmaps ------------------------------------------------------------------------------------------------ */

#define BITMAPS_EXTENSION 0x23852875u

/* Where the data of the extension lies; 0: there is none that counts. */
static uint64_t bitmaps_extension(struct image image)
{
    uint64_t at = number(image, 4, 4) >= 3 && (number(image, 88, 8) & 1) ? number(image, 100, 4) : 0;
    while (at && at + 8 <= cluster_size(image) && number(image, at, 4) != 0) {
        if (number(image, at, 4) == BITMAPS_EXTENSION)
            return at + 8;
        at += 8 + ((number(image, at + 4, 4) + 7) & ~7ull);
    }
    return 0;
}

static uint64_t next_bitmap(struct image image, uint64_t at)
{
    return at + ((24 + number(image, at + 18, 2) + number(image, at + 20, 4) + 7) & ~7ull);
}

static void count_bitmaps(struct census *census)
{
    struct image image = census->image;
    uint64_t extension = bitmaps_extension(image);
    if (!extension)
        return;
    uint64_t at = number(image, extension + 16, 8);
    refer(census, at, number(image, extension + 8, 8), true, "the bitmap directory");
    for (uint64_t i = 0; i < number(image, extension, 4); i++, at = next_bitmap(image, at)) {
        uint64_t table = number(image, at, 8);
        uint64_t entries = number(image, at + 8, 4);
        refer(census, table, entries * 8, true, "the table of a bitmap");
        for (uint64_t entry = 0; entry < entries; entry++) {
            uint64_t bits = number(image, table + entry * 8, 8);
            if (bits & OFFSET_BITS)
                refer(census, bits & OFFSET_BITS, cluster_size(image), true, "a bitmap");
        }
    }
}

bool image_find_bitmap(struct image image, const char *name, struct stored_bitmap *bitmap)
{
    uint64_t extension = bitmaps_extension(image);
    if (!extension)
        return false;
    uint64_t at = number(image, extension + 16, 8);
    for (uint64_t i = 0; i < number(image, extension, 4); i++, at = next_bitmap(image, at)) {
        uint64_t place = at + 24 + number(image, at + 20, 4);
        if (number(image, at + 18, 2) != strlen(name) || memcmp(image.bytes + place, name, strlen(name)) != 0)
            continue;
        *bitmap = (struct stored_bitmap){
            .in_use = number(image, at + 12, 4) & 1,
            .table = number(image, at, 8),
            .table_entries = number(image, at + 8, 4),
            .granularity = 1ull << number(image, at + 17, 1),
        };
        return true;
    }
    return false;
}

bool stored_bitmap_has(struct image image, const struct stored_bitmap *bitmap, uint64_t bit)
{
    uint64_t byte = bit / 8;
    if (byte / cluster_size(image) >= bitmap->table_entries)
        return false;
    uint64_t entry = number(image, bitmap->table + byte / cluster_size(image) * 8, 8);
    if (!(entry & OFFSET_BITS))
        return entry & 1;
    return number(image, (entry & OFFSET_BITS) + byte % cluster_size(image), 1) >> bit % 8 & 1;
}

static void count_tables(struct census *census)
{
    struct image image = census->image;
    uint64_t snapshots = number(image, 60, 4);
    uint64_t reftable = number(image, 48, 8);
    uint64_t reftable_bytes = number(image, 56, 4) * cluster_size(image);
    refer(census, 0, cluster_size(image), true, "the header");
    refer(census, reftable, reftable_bytes, true, "the refcount table");
    for (uint64_t at = 0; at < reftable_bytes; at += 8) {
        uint64_t block = number(image, reftable + at, 8);
        if (block % cluster_size(image) || (block && block + cluster_size(image) > image.length))
            corruption(census->findings, "refcount block at 0x%llx cannot be", (unsigned long long)block);
        else if (block)
            refer(census, block, cluster_size(image), true, "a refcount block");
    }
    if (snapshots)
        refer(census, number(image, 64, 8), snapshot_entry(image, snapshots) - number(image, 64, 8), true,
              "the snapshot table");
    count_l1(census, number(image, 40, 8), number(image, 36, 4), true);
    for (uint64_t i = 0; i < snapshots; i++) {
        uint64_t at = snapshot_entry(image, i);
        count_l1(census, number(image, at, 8), number(image, at + 8, 4), false);
    }
    count_bitmaps(census);
}

void check(struct image image, struct findings *findings)
{
    *findings = (struct findings){ .late = findings->late, .flags_may_lack = findings->flags_may_lack };
    struct census census = { .image = image, .findings = findings };
    census.clusters = (image.length + cluster_size(image) - 1) / cluster_size(image);
    census.references = calloc(census.clusters, sizeof(*census.references));
    census.is_table = calloc(census.clusters, sizeof(*census.is_table));
    census.is_own = calloc(census.clusters, sizeof(*census.is_own));
    if (number(image, 0, 4) != 0x514649fb)
        corruption(findings, "no header");
    else
        count_tables(&census);
    for (uint64_t i = 0; i < census.clusters && !findings->corruptions; i++) {
        uint64_t stored = stored_refcount(image, i);
        if (stored < census.references[i] && !(feature(image, 0) && findings->late))
            corruption(findings, "cluster %llu has %u references, but refcount %llu", (unsigned long long)i,
                       census.references[i], (unsigned long long)stored);
        if (census.is_own[i] && census.references[i] != 1)
            corruption(findings, "cluster %llu has the copied flag, and %u references", (unsigned long long)i,
                       census.references[i]);
        findings->leaks += stored > census.references[i];
    }
    free(census.references);
    free(census.is_table);
    free(census.is_own);
}

bool image_is_dirty(struct image image)
{
    return feature(image, 0);
}

int image_find_snapshot(struct image image, const char *name)
{
    uint64_t count = number(image, 60, 4);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = snapshot_entry(image, i);
        uint64_t bytes = number(image, at + 14, 2);
        uint64_t place = at + 40 + number(image, at + 36, 4) + number(image, at + 12, 2);
        if (bytes == strlen(name) && place + bytes <= image.length && !memcmp(image.bytes + place, name, bytes))
            return (int)i;
    }
    return -1;
}

/* Guest sectors ------------------------------------------------------------------------------------------------ */

static void unpack(struct image image, uint64_t entry, uint64_t skip, uint8_t out[512])
{
    unsigned offset_bits = 62 - (cluster_bits(image) - 8);
    uint64_t offset = entry & ((1ull << offset_bits) - 1);
    uint8_t *cluster = calloc(1, cluster_size(image));
    uint64_t left = offset < image.length ? image.length - offset : 0;
    z_stream stream = { 0 };
    stream.next_in = (Bytef *)(uintptr_t)(image.bytes + offset);
    stream.avail_in = (uInt)(left < 4 * cluster_size(image) ? left : 4 * cluster_size(image));
    stream.next_out = cluster;
    stream.avail_out = (uInt)cluster_size(image);
    inflateInit2(&stream, -15);
    inflate(&stream, Z_FINISH);
    inflateEnd(&stream);
    if (stream.avail_out == 0)
        memcpy(out, cluster + skip, 512);
    else
        memset(out, 0xee, 512);
    free(cluster);
}

bool read_sector(struct image image, int snapshot, uint64_t sector, uint8_t out[512])
{
    uint64_t at = sector * 512;
    uint64_t entries = cluster_size(image) / l2_entry_bytes(image);
    uint64_t l1 = snapshot < 0 ? number(image, 40, 8) : number(image, snapshot_entry(image, (uint64_t)snapshot), 8);
    uint64_t cluster = at / cluster_size(image);
    uint64_t table = number(image, l1 + cluster / entries * 8, 8) & OFFSET_BITS;
    uint64_t place = table + cluster % entries * l2_entry_bytes(image);
    uint64_t entry = table ? number(image, place, 8) : 0;
    memset(out, 0, 512);
    if (entry & COMPRESSED) {
        unpack(image, entry, at % cluster_size(image), out);
        return true;
    }
    if (has_subclusters(image)) {
        uint64_t bitmap = table ? number(image, place + 8, 8) : 0;
        uint64_t subcluster = at % cluster_size(image) / (cluster_size(image) / 32);
        if (bitmap >> 32 >> subcluster & 1)
            return true;
        if (!(bitmap >> subcluster & 1))
            return false;
    } else if (entry & 1) {
        return true;
    }
    uint64_t host = entry & OFFSET_BITS;
    if (!host && !(has_data_file(image) && (entry & COPIED)))
        return false;
    host += at % cluster_size(image);
    const uint8_t *bytes = has_data_file(image) ? image.data_file : image.bytes;
    size_t length = has_data_file(image) ? image.data_file_length : image.length;
    if (host < length)
        memcpy(out, bytes + host, length - host < 512 ? length - host : 512);
    if (image.decrypt)
        image.decrypt(sector, out);
    return true;
}
