/* Bytes of images: headers, entries, refcounts, and the set of clusters that hold tables. */
#include "blockcore/base/endian.h"
#include "blockcore/base/iov.h"
#include "blockcore/drivers/qcow2/cluster_set.h"
#include "blockcore/drivers/qcow2/entry.h"
#include "blockcore/drivers/qcow2/header.h"
#include "blockcore/drivers/qcow2/refcount_field.h"
#include "blockcore/drivers/qcow2/snapshot.h"
#include "tests/unit/base/unit.h"

#define CLUSTER 65536

static unsigned char cluster[2 * 1024 * 1024];

/* A version 3 image of 1 GiB with clusters of 64 KiB. */
static struct qcow2_header usual_header(void)
{
    return (struct qcow2_header){
        .version = 3,
        .cluster_bits = 16,
        .size = UINT64_C(1) << 30,
        .l1_entries = 2,
        .l1_offset = 3 * CLUSTER,
        .reftable_offset = CLUSTER,
        .reftable_clusters = 1,
        .refcount_order = 4,
    };
}

static void format(const struct qcow2_header *header)
{
    assert_null(qcow2_header_format(header, cluster, NULL));
}

static void format_usual(void)
{
    struct qcow2_header header = usual_header();
    format(&header);
}

static struct qcow2_header parsed(size_t bytes)
{
    struct qcow2_header header;
    struct error *err = qcow2_header_parse(cluster, bytes, &header);
    if (err)
        print_error("%s\n", error_message(err));
    assert_null(err);
    return header;
}

static void assert_refused_of(size_t bytes, const char *part)
{
    struct qcow2_header header;
    struct error *err = qcow2_header_parse(cluster, bytes, &header);
    assert_non_null(err);
    if (!strstr(error_message(err), part))
        print_error("\"%s\" does not contain \"%s\"\n", error_message(err), part);
    assert_non_null(strstr(error_message(err), part));
    error_free(err);
}

static void assert_refused(const char *part)
{
    assert_refused_of(CLUSTER, part);
}

static void what_is_formatted_is_parsed(void **state)
{
    (void)state;
    char name[] = "base.img";
    char format_name[] = "raw";
    struct qcow2_header header = usual_header();
    header.backing_file = name;
    header.backing_format = format_name;
    header.compatible = QCOW2_LAZY_REFCOUNTS;
    header.refcount_order = 6;
    format(&header);

    struct qcow2_header again = parsed(CLUSTER);
    assert_int_equal(again.version, 3);
    assert_int_equal(again.size, header.size);
    assert_int_equal(again.l1_entries, 2);
    assert_int_equal(again.l1_offset, 3 * CLUSTER);
    assert_int_equal(again.reftable_offset, CLUSTER);
    assert_int_equal(again.compatible, QCOW2_LAZY_REFCOUNTS);
    assert_int_equal(again.refcount_order, 6);
    assert_int_equal(again.header_bytes, QCOW2_HEADER_BYTES);
    assert_string_equal(again.backing_file, "base.img");
    assert_string_equal(again.backing_format, "raw");
    qcow2_header_fini(&again);
}

static void version_2_has_neither_features_nor_width(void **state)
{
    (void)state;
    struct qcow2_header header = usual_header();
    header.version = 2;
    format(&header);
    struct qcow2_header again = parsed(CLUSTER);
    assert_int_equal(again.refcount_order, 4);
    assert_int_equal(again.header_bytes, QCOW2_V2_HEADER_BYTES);
    assert_null(again.backing_file);
}

static void a_file_may_end_inside_its_first_cluster(void **state)
{
    (void)state;
    format_usual();
    struct qcow2_header header = parsed(1000);
    assert_int_equal(header.cluster_bits, 16);
    qcow2_header_fini(&header);
}

static void what_is_no_image_is_refused(void **state)
{
    (void)state;
    format_usual();
    assert_refused_of(0, "not a qcow2 image");
    assert_refused_of(71, "not a qcow2 image");
    assert_refused_of(100, "cut off after 100 bytes");
    cluster[0] = 'q';
    assert_refused("not a qcow2 image");
    format_usual();
    store_be32(cluster + 4, 1);
    assert_refused("version 1 is not supported");
}

static void unknown_features_are_refused_by_name(void **state)
{
    (void)state;
    format_usual();
    store_be64(cluster + 72, UINT64_C(1) << 63 | 1 << 7);
    assert_refused("'incompatible feature bit 7', 'incompatible feature bit 63'");
    /* The first entry of the table of names: type 0, bit 0. */
    unsigned char *entry = cluster + QCOW2_HEADER_BYTES + 8;
    assert_int_equal(entry[1], 0);
    entry[1] = 7;
    assert_refused("'dirty bit', 'incompatible feature bit 63'");
}

static void a_name_of_full_length_has_no_end(void **state)
{
    (void)state;
    format_usual();
    store_be64(cluster + 72, 1 << 7);
    unsigned char *entry = cluster + QCOW2_HEADER_BYTES + 8;
    entry[1] = 7;
    memset(entry + 2, 'x', 46);
    assert_refused("'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'");
}

static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        unsigned bytes;
        uint64_t value;
        const char *refusal;
    } cases[] = {
        { 20, 4, 8, "cluster size" },
        { 20, 4, 22, "cluster size" },
        { 20, 4, UINT32_MAX, "cluster size" },
        { 24, 8, UINT64_MAX, "size 18446744073709551615 is too large" },
        { 24, 8, (UINT64_C(1) << 30) + 1, "too small for 1073741825 bytes" },
        { 32, 4, 3, "encryption method 3" },
        { 36, 4, 1, "L1 table of 1 entries is too small" },
        { 36, 4, 4 * 1024 * 1024 + 1, "larger than 32 MiB" },
        { 36, 4, UINT32_MAX, "larger than 32 MiB" },
        { 40, 8, 3 * CLUSTER + 512, "does not start at a cluster" },
        { 40, 8, 0, "overlaps the header" },
        { 40, 8, UINT64_C(1) << 63, "ends outside of any file" },
        { 40, 8, UINT64_MAX - CLUSTER + 1, "ends outside of any file" },
        { 48, 8, 1, "does not start at a cluster" },
        { 48, 8, 0, "overlaps the header" },
        { 56, 4, 0, "no refcount table" },
        { 56, 4, 129, "larger than 8 MiB" },
        { 56, 4, UINT32_MAX, "larger than 8 MiB" },
        { 60, 4, 65537, "65537 snapshots are too many" },
        { 64, 8, 77, "snapshot table at offset 77" },
        { 88, 8, 1, "no bitmaps extension" },
        { 96, 4, 7, "refcount width" },
        { 96, 4, UINT32_MAX, "refcount width" },
        { 100, 4, 96, "header length 96" },
        { 100, 4, 105, "header length 105" },
        { 100, 4, CLUSTER + 8, "header length" },
        { 100, 4, UINT32_MAX - 7, "header length" },
        { 104, 1, 1, "compression type 1 contradicts" },
        { 104, 1, 2, "compression type 2 is not supported" },
        { 79, 1, QCOW2_COMPRESSION, "compression type 0 contradicts" },
        { QCOW2_HEADER_BYTES + 4, 4, UINT32_MAX, "does not fit" },
        { QCOW2_HEADER_BYTES + 4, 4, CLUSTER - QCOW2_HEADER_BYTES - 7, "does not fit" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        format_usual();
        for (unsigned k = 0; k < cases[i].bytes; k++)
            cluster[cases[i].at + k] = (unsigned char)(cases[i].value >> 8 * (cases[i].bytes - 1 - k));
        assert_refused(cases[i].refusal);
    }
}

static void set_backing(uint64_t offset, uint32_t bytes)
{
    format_usual();
    store_be64(cluster + 8, offset);
    store_be32(cluster + 16, bytes);
    memset(cluster + 1024, 'b', 1024);
}

static void a_backing_name_lies_inside_the_first_cluster(void **state)
{
    (void)state;
    set_backing(1024, 1023);
    struct qcow2_header header = parsed(CLUSTER);
    assert_int_equal(strlen(header.backing_file), 1023);
    qcow2_header_fini(&header);
    set_backing(1024, 1024);
    assert_refused("1024 bytes long");
    set_backing(CLUSTER - 4, 5);
    assert_refused("not inside the first cluster");
    set_backing(UINT64_MAX - 1, 5);
    assert_refused("not inside the first cluster");
    set_backing(72, 5);
    assert_refused("not inside the first cluster");
    set_backing(1024, 5);
    cluster[1026] = 0;
    assert_refused("zero byte");
}

static void unknown_extensions_are_passed_over(void **state)
{
    (void)state;
    format_usual();
    unsigned char *extension = cluster + QCOW2_HEADER_BYTES;
    store_be32(extension, 0x12345678);
    store_be32(extension + 4, 13); /* padded to 16 */
    store_be32(extension + 24, 0xe2792aca);
    store_be32(extension + 28, 5);
    memcpy(extension + 32, "qcow2", 5);
    memset(extension + 40, 0, 8);
    struct qcow2_header header = parsed(CLUSTER);
    assert_string_equal(header.backing_format, "qcow2");
    qcow2_header_fini(&header);
}

/* A header from the future: longer, with a feature bit and extensions that nobody knows here. */
static void what_is_unknown_is_written_again(void **state)
{
    (void)state;
    struct qcow2_header made = usual_header();
    unsigned char data[13] = "from tomorrow";
    unsigned char bitmaps[24] = { 0, 0, 0, 1, [16 + 5] = 9 };
    struct qcow2_extension kept[] = {
        { .type = 0x12345678, .bytes = sizeof(data), .data = data },
        { .type = 0x23852875, .bytes = sizeof(bitmaps), .data = bitmaps },
        { .type = 0x0badcafe, .bytes = 0, .data = data },
    };
    unsigned char tail[16] = "longer header!!";
    made.incompatible = QCOW2_DATA_FILE;
    made.compatible = UINT64_C(1) << 40 | 1;
    made.kept = kept;
    made.kept_count = ARRAY_SIZE(kept);
    made.tail = tail;
    made.header_bytes = QCOW2_HEADER_BYTES + sizeof(tail);
    made.data_file = (char *)(uintptr_t) "/srv/data.raw";
    made.backing_file = (char *)(uintptr_t) "base";
    format(&made);
    static unsigned char first[CLUSTER];
    memcpy(first, cluster, CLUSTER);

    struct qcow2_header header = parsed(CLUSTER);
    assert_string_equal(header.data_file, "/srv/data.raw");
    assert_true(header.has_bitmaps);
    assert_int_equal(header.kept_count, 4); /* and the table of names */
    assert_memory_equal(header.kept[0].data, data, sizeof(data));
    memset(cluster, 0x5a, CLUSTER);
    format(&header);
    assert_memory_equal(cluster, first, CLUSTER);

    /* A change of one thing leaves the others. */
    qcow2_header_fini(&header);
    CLEANUP(qcow2_header_change_fini) struct qcow2_header_change change;
    assert_null(qcow2_header_change_plan(&change, first, CLUSTER, "somewhere/else/entirely", "raw"));
    while (qcow2_header_change_next(&change))
        memcpy(cluster, change.next, CLUSTER);
    header = parsed(CLUSTER);
    assert_string_equal(header.backing_file, "somewhere/else/entirely");
    assert_string_equal(header.backing_format, "raw");
    assert_string_equal(header.data_file, "/srv/data.raw");
    assert_int_equal(header.kept_count, 4);
    assert_int_equal(header.compatible, UINT64_C(1) << 40 | 1);
    assert_memory_equal(header.tail, tail, sizeof(tail));
    qcow2_header_fini(&header);
}

static void what_does_not_fit_into_a_cluster_is_refused(void **state)
{
    (void)state;
    char name[500];
    struct qcow2_header header = usual_header();
    header.cluster_bits = 9;
    header.size = 512;
    header.l1_entries = 1;
    header.backing_file = name;
    memset(name, 'x', sizeof(name));
    name[392] = '\0'; /* 112 bytes of header, 8 of the end of the extensions, 392 of name: exactly a cluster */
    assert_null(qcow2_header_format(&header, cluster, NULL));
    name[392] = 'x';
    name[393] = '\0';
    struct error *err = qcow2_header_format(&header, cluster, NULL);
    assert_non_null(err);
    error_free(err);
}

static uint64_t l1_entries_for(uint64_t size, uint32_t cluster_bits, uint64_t incompatible)
{
    struct qcow2_header header = { .cluster_bits = cluster_bits, .incompatible = incompatible };
    return qcow2_l1_entries_for(&header, size);
}

static void l1_tables_are_as_long_as_the_disk_needs(void **state)
{
    (void)state;
    assert_int_equal(l1_entries_for(0, 16, 0), 0);
    assert_int_equal(l1_entries_for(1, 16, 0), 1);
    assert_int_equal(l1_entries_for(UINT64_C(512) << 20, 16, 0), 1);
    assert_int_equal(l1_entries_for((UINT64_C(512) << 20) + 1, 16, 0), 2);
    assert_int_equal(l1_entries_for(UINT64_C(512) << 20, 16, QCOW2_EXTENDED_L2), 2);
    assert_int_equal(l1_entries_for(INT64_MAX, 9, 0), UINT64_C(1) << 48);
}

/* Entries ----------------------------------------------------------------------------------------------------- */

static const struct geometry usual = {
    .version = 3,
    .cluster_bits = 16,
    .l2_entry_bits = 3,
    .l2_bits = 13,
    .unit_bits = 16,
    .units = 1,
    .refcount_order = 4,
};

static enum cluster_kind entry_kind(const struct geometry *geometry, uint64_t descriptor)
{
    struct cluster found = cluster_of_entry(geometry, (struct l2_entry){ .descriptor = descriptor }, 0);
    return cluster_unit_kind(&found, 0);
}

static void entries_say_what_a_cluster_is(void **state)
{
    (void)state;
    assert_int_equal(entry_kind(&usual, 0), CLUSTER_ABSENT);
    assert_int_equal(entry_kind(&usual, 1), CLUSTER_ZERO);
    assert_int_equal(entry_kind(&usual, 0x50000), CLUSTER_DATA);
    assert_int_equal(entry_kind(&usual, 0x50001 | ENTRY_COPIED), CLUSTER_ZERO_RESERVED);
    assert_int_equal(entry_kind(&usual, 0x50200), CLUSTER_INVALID);
    assert_int_equal(entry_kind(&usual, ENTRY_COPIED), CLUSTER_INVALID);
    struct geometry version_2 = usual;
    version_2.version = 2;
    assert_int_equal(entry_kind(&version_2, 1), CLUSTER_INVALID);
    assert_int_equal(entry_kind(&version_2, 0x50000), CLUSTER_DATA);
}

static struct geometry extended_geometry(void)
{
    struct qcow2_header header = { .version = 3, .cluster_bits = 16, .incompatible = QCOW2_EXTENDED_L2 };
    struct geometry extended = geometry_of(&header);
    assert_int_equal(extended.l2_bits, 12);
    assert_int_equal(unit_bytes(&extended), 2048);
    return extended;
}

static struct cluster extended_cluster(uint64_t descriptor, uint32_t data, uint32_t zero)
{
    struct geometry extended = extended_geometry();
    struct l2_entry entry = { .descriptor = descriptor, .bitmap = (uint64_t)zero << 32 | data };
    struct cluster found = cluster_of_entry(&extended, entry, 0);
    if (found.valid && !found.compressed) {
        struct l2_entry again = entry_of_cluster(&extended, &found);
        assert_int_equal(again.descriptor, entry.descriptor);
        assert_int_equal(again.bitmap, entry.bitmap);
    }
    return found;
}

static void extended_entries_say_what_each_subcluster_is(void **state)
{
    (void)state;
    struct geometry extended = extended_geometry();
    struct cluster mixed = extended_cluster(0x50000 | ENTRY_COPIED, 0x0000000f, 0xf0000000);
    assert_int_equal(cluster_unit_kind(&mixed, 0), CLUSTER_DATA);
    assert_int_equal(cluster_unit_kind(&mixed, 3), CLUSTER_DATA);
    assert_int_equal(cluster_unit_kind(&mixed, 4), CLUSTER_ABSENT_RESERVED);
    assert_int_equal(cluster_unit_kind(&mixed, 31), CLUSTER_ZERO_RESERVED);
    assert_int_equal(cluster_units_alike(&extended, &mixed, 1), 3);
    assert_int_equal(cluster_units_alike(&extended, &mixed, 4), 24);
    assert_int_equal(cluster_units_alike(&extended, &mixed, 28), 4);
    struct cluster nowhere = extended_cluster(0, 0, 0x00000001);
    assert_int_equal(cluster_unit_kind(&nowhere, 0), CLUSTER_ZERO);
    assert_int_equal(cluster_unit_kind(&nowhere, 1), CLUSTER_ABSENT);
    assert_false(extended_cluster(0x50000, 1, 1).valid); /* data and zero */
    assert_false(extended_cluster(0, 1, 0).valid);       /* data nowhere */
    assert_false(extended_cluster(0x50200, 1, 0).valid); /* not at a cluster */
    assert_false(extended_cluster(ENTRY_COPIED, 0, 0).valid);
    assert_true(extended_cluster(ENTRY_COMPRESSED | 0x12345, 0, 0).compressed);
    assert_false(extended_cluster(ENTRY_COMPRESSED | 0x12345, 1, 0).valid);
}

static void clusters_of_a_data_file_are_where_the_guest_has_them(void **state)
{
    (void)state;
    struct geometry geometry = usual;
    geometry.data_file = true;
    static const struct {
        uint64_t descriptor;
        uint64_t guest;
        enum cluster_kind kind;
    } cases[] = {
        { 0, 0, CLUSTER_ABSENT },
        { ENTRY_COPIED, 0, CLUSTER_DATA },
        { ENTRY_COPIED | ENTRY_ZERO, 0, CLUSTER_ZERO_RESERVED },
        { ENTRY_ZERO, 0x50000, CLUSTER_ZERO },
        { ENTRY_COPIED | 0x50000, 0x50000, CLUSTER_DATA },
        { ENTRY_COPIED | 0x60000, 0x50000, CLUSTER_INVALID },
        { ENTRY_COPIED, 0x50000, CLUSTER_INVALID },
        { ENTRY_COMPRESSED | 0x50000, 0x50000, CLUSTER_INVALID },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct l2_entry entry = { .descriptor = cases[i].descriptor };
        struct cluster found = cluster_of_entry(&geometry, entry, cases[i].guest);
        assert_int_equal(cluster_unit_kind(&found, 0), cases[i].kind);
    }
}

static void units_of_a_range(void **state)
{
    (void)state;
    struct geometry extended = extended_geometry();
    assert_int_equal(units_in(&extended, 0x10000, range_make(0, 0x10000)), 0);
    assert_int_equal(units_in(&extended, 0x10000, range_make(0, 0x10001)), 1);
    assert_int_equal(units_in(&extended, 0x10000, range_make(0x10800, 0x1000)), 6);
    assert_int_equal(units_in(&extended, 0x10000, range_make(0x1ffff, 1)), 0x80000000);
    assert_int_equal(units_in(&extended, 0x10000, range_make(0, 0x100000)), UINT32_MAX);
    assert_int_equal(units_in(&usual, 0x10000, range_make(0x10000, 1)), 1);
}

static void compressed_entries_say_where_the_bytes_are(void **state)
{
    (void)state;
    /* With clusters of 64 KiB, bits 0 to 53 are the offset and 54 to 61 the sectors after the first. */
    uint64_t entry = ENTRY_COMPRESSED | UINT64_C(2) << 54 | 0x12345;
    assert_int_equal(entry_kind(&usual, entry), CLUSTER_COMPRESSED);
    struct range range = entry_compressed_range(&usual, entry);
    assert_int_equal(range.offset, 0x12345);
    assert_int_equal(range_end(range), 0x12200 + 3 * 512);
    assert_int_equal(entry_kind(&usual, entry | ENTRY_COPIED), CLUSTER_INVALID);
    assert_int_equal(entry_kind(&usual, ENTRY_COMPRESSED | 100), CLUSTER_INVALID);

    /* With the smallest clusters the field is wider than offsets may be. */
    struct geometry smallest = { .version = 3, .cluster_bits = 9, .l2_entry_bits = 3, .unit_bits = 9, .units = 1 };
    assert_int_equal(entry_kind(&smallest, ENTRY_COMPRESSED | UINT64_C(1) << 57), CLUSTER_INVALID);
    range = entry_compressed_range(&smallest, ENTRY_COMPRESSED | UINT64_C(1) << 61 | 1000);
    assert_int_equal(range.offset, 1000);
    assert_int_equal(range_end(range), 512 + 2 * 512);
}

static void refcounts_of_every_width_keep_to_their_bits(void **state)
{
    (void)state;
    for (uint32_t order = 0; order <= 6; order++) {
        unsigned char block[64];
        size_t entries = sizeof(block) * 8 >> order;
        for (size_t i = 0; i < entries; i++) {
            memset(block, 0xff, sizeof(block));
            refcount_set(block, order, i, 0);
            for (size_t k = 0; k < entries; k++)
                assert_true(refcount_get(block, order, k) == (k == i ? 0 : refcount_max(order)));
            memset(block, 0, sizeof(block));
            refcount_set(block, order, i, 1);
            for (size_t k = 0; k < entries; k++)
                assert_true(refcount_get(block, order, k) == (k == i));
            size_t first;
            size_t bytes;
            refcount_place(order, i, &first, &bytes);
            assert_true(memory_is_zero(block, first));
            assert_true(memory_is_zero(block + first + bytes, sizeof(block) - first - bytes));
        }
    }
}

static void refcounts_lie_where_the_specification_says(void **state)
{
    (void)state;
    unsigned char block[8] = { 0 };
    refcount_set(block, 0, 9, 1); /* bit 0 of a byte comes first */
    assert_int_equal(block[1], 0x02);
    memset(block, 0, sizeof(block));
    refcount_set(block, 2, 1, 0xa);
    assert_int_equal(block[0], 0xa0);
    memset(block, 0, sizeof(block));
    refcount_set(block, 4, 1, 0x1234);
    assert_int_equal(block[2], 0x12);
    assert_int_equal(block[3], 0x34);
}

/* Sets -------------------------------------------------------------------------------------------------------- */

static void a_set_has_what_was_added_and_not_removed(void **state)
{
    (void)state;
    enum { LIMIT = 5000 };
    static unsigned expected[LIMIT];
    struct cluster_set set = { 0 };
    uint64_t random = 1;
    memset(expected, 0, sizeof(expected));
    assert_int_equal(cluster_set_get(&set, 0), 0);
    cluster_set_remove(&set, 0, 1);
    for (int i = 0; i < 40000; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint64_t value = (random >> 33) % LIMIT;
        unsigned kind = 1u << (random >> 24 & 3);
        if (random >> 20 & 1) {
            assert_true(cluster_set_add(&set, value, kind));
            expected[value] |= kind;
        } else {
            cluster_set_remove(&set, value, kind);
            expected[value] &= ~kind;
        }
    }
    size_t count = 0;
    for (uint64_t i = 0; i < LIMIT; i++) {
        assert_int_equal(cluster_set_get(&set, i), expected[i]);
        count += expected[i] != 0;
    }
    assert_int_equal(set.count, count);
    cluster_set_fini(&set);
}

/* Snapshots --------------------------------------------------------------------------------------------------- */

#define ENTRY_BYTES (SNAPSHOT_ENTRY_BYTES + 24 + 1 + 9 + 6)

static void make_snapshot_entry(unsigned char entry[ENTRY_BYTES])
{
    memset(entry, 0, ENTRY_BYTES);
    store_be64(entry, 7 * CLUSTER);
    store_be32(entry + 8, 100);
    store_be16(entry + 12, 1);
    store_be16(entry + 14, 9);
    store_be32(entry + 16, 1234567);
    store_be32(entry + 20, 89);
    store_be64(entry + 24, 5000000007);
    store_be32(entry + 32, 55); /* the longer field behind counts */
    store_be32(entry + 36, 24);
    store_be64(entry + 40, 1ull << 33);
    store_be64(entry + 48, 3 << 20);
    store_be64(entry + 56, 4711);
    memcpy(entry + 64, "1yesterday", 10);
}

static void what_a_snapshot_entry_says(void **state)
{
    (void)state;
    unsigned char entry[ENTRY_BYTES];
    make_snapshot_entry(entry);
    size_t bytes;
    assert_null(qcow2_snapshot_measure(entry, &bytes));
    assert_int_equal(bytes, ENTRY_BYTES);
    struct qcow2_snapshot snapshot;
    assert_null(qcow2_snapshot_parse(entry, bytes, 16, &snapshot));
    assert_int_equal(snapshot.l1_offset, 7 * CLUSTER);
    assert_int_equal(snapshot.l1_entries, 100);
    assert_string_equal(snapshot.id, "1");
    assert_string_equal(snapshot.name, "yesterday");
    assert_int_equal(snapshot.date_sec, 1234567);
    assert_int_equal(snapshot.date_nsec, 89);
    assert_int_equal(snapshot.vm_clock_nsec, 5000000007);
    assert_int_equal(snapshot.vm_state_bytes, 1ull << 33);
    assert_int_equal(snapshot.disk_bytes, 3 << 20);

    unsigned char again[ENTRY_BYTES];
    memset(entry + 32, 0, 4); /* does not fit there */
    assert_int_equal(qcow2_snapshot_bytes(&snapshot), ENTRY_BYTES);
    qcow2_snapshot_format(&snapshot, again);
    assert_memory_equal(again, entry, ENTRY_BYTES);
    qcow2_snapshot_fini(&snapshot);
}

static void refuse_snapshot(const unsigned char *entry, size_t bytes, const char *message)
{
    struct qcow2_snapshot snapshot;
    struct error *err = qcow2_snapshot_parse(entry, bytes, 16, &snapshot);
    assert_non_null(err);
    assert_non_null(strstr(error_message(err), message));
    error_free(err);
}

static void snapshot_entries_are_checked(void **state)
{
    (void)state;
    unsigned char entry[ENTRY_BYTES];
    make_snapshot_entry(entry);
    refuse_snapshot(entry, ENTRY_BYTES - 1, "cut off");
    refuse_snapshot(entry, SNAPSHOT_ENTRY_BYTES - 1, "cut off");
    store_be32(entry + 36, 1025);
    refuse_snapshot(entry, ENTRY_BYTES, "1025 bytes of extra data");
    make_snapshot_entry(entry);
    store_be32(entry + 8, UINT32_MAX);
    refuse_snapshot(entry, ENTRY_BYTES, "more than 32 MiB");
    make_snapshot_entry(entry);
    store_be64(entry, 7 * CLUSTER + 1);
    refuse_snapshot(entry, ENTRY_BYTES, "cannot be at offset");
    store_be64(entry, UINT64_MAX << 16);
    refuse_snapshot(entry, ENTRY_BYTES, "cannot be at offset");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_formatted_is_parsed),
        cmocka_unit_test(version_2_has_neither_features_nor_width),
        cmocka_unit_test(a_file_may_end_inside_its_first_cluster),
        cmocka_unit_test(what_is_no_image_is_refused),
        cmocka_unit_test(unknown_features_are_refused_by_name),
        cmocka_unit_test(a_name_of_full_length_has_no_end),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(a_backing_name_lies_inside_the_first_cluster),
        cmocka_unit_test(unknown_extensions_are_passed_over),
        cmocka_unit_test(what_is_unknown_is_written_again),
        cmocka_unit_test(what_does_not_fit_into_a_cluster_is_refused),
        cmocka_unit_test(l1_tables_are_as_long_as_the_disk_needs),
        cmocka_unit_test(entries_say_what_a_cluster_is),
        cmocka_unit_test(extended_entries_say_what_each_subcluster_is),
        cmocka_unit_test(clusters_of_a_data_file_are_where_the_guest_has_them),
        cmocka_unit_test(units_of_a_range),
        cmocka_unit_test(compressed_entries_say_where_the_bytes_are),
        cmocka_unit_test(refcounts_of_every_width_keep_to_their_bits),
        cmocka_unit_test(refcounts_lie_where_the_specification_says),
        cmocka_unit_test(a_set_has_what_was_added_and_not_removed),
        cmocka_unit_test(what_a_snapshot_entry_says),
        cmocka_unit_test(snapshot_entries_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
