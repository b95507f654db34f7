/* The options of an image, each by what it changes: which discards reach the file, what is written when, what stays in
 * memory. */
#include "blockcore/drivers/qcow2/qcow2_private.h"
#include "blockcore/graph/active.h"
#include "blockcore/graph/reopen.h"
#include "blockcore/io/snapshot.h"
#include "tests/unit/qcow2/images.h"

#define CLUSTER 65536
#define DISK (64 * MIB)

static struct blockdev_options options_with(struct blockdev_options_qcow2 own)
{
    struct blockdev_options options = image_options("disk", in_dir("a.qcow2"));
    own.file = options.u.qcow2.file;
    options.u.qcow2 = own;
    return options;
}

static struct handle *open_with(struct blockdev_options_qcow2 own)
{
    add(options_with(own));
    return open_handle("disk", READ_WRITE);
}

static void close_disk(struct handle *disk)
{
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

/* What the file takes on the disk. */
static uint64_t stored_bytes(void)
{
    struct stat st;
    expect(stat(in_dir("a.qcow2"), &st) == 0);
    return (uint64_t)st.st_blocks * 512;
}

static uint64_t field(uint64_t at)
{
    unsigned char bytes[8];
    int fd = open(in_dir("a.qcow2"), O_RDONLY | O_CLOEXEC);
    expect(fd >= 0 && pread(fd, bytes, sizeof(bytes), (off_t)at) == sizeof(bytes));
    close(fd);
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(bytes); i++)
        value = value << 8 | bytes[i];
    return value;
}

static struct qcow2 *state(void)
{
    return node_state(node_find("disk"));
}

/* Until clusters that were given up are free, which happens some time after a flush. */
static void reclaim(struct handle *disk)
{
    expect_int(handle_flush(disk), 0);
    expect_int(qcow2_reclaim(state()), 0);
    expect_int(state()->freed_state, FREED_NONE);
}

/* Discards ------------------------------------------------------------------------------------------------------- */

/* How many bytes of the file are given back when 4 MiB of 8 are discarded. */
static uint64_t given_back_by_discard(struct blockdev_options_qcow2 own)
{
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk = open_with(own);
    expect_int(put(disk, 0, 8 * MIB, 5), 0);
    reclaim(disk);
    uint64_t before = stored_bytes();
    expect_int(handle_pdiscard(disk, range_make(0, 4 * MIB)), 0);
    reclaim(disk);
    uint64_t after = stored_bytes();
    expect(reads_as(disk, 0, 4 * MIB, 0));
    close_disk(disk);
    return before > after ? before - after : 0;
}

NODE_TEST(pass_discard_request)
{
    expect(given_back_by_discard((struct blockdev_options_qcow2){ 0 }) > 3 * MIB); /* as discard=unmap */
    expect(given_back_by_discard((struct blockdev_options_qcow2){ .has_pass_discard_request = true }) == 0);
}

NODE_TEST(discard_no_unref_keeps_clusters_but_not_their_content)
{
    struct blockdev_options_qcow2 own = { .has_discard_no_unref = true, .discard_no_unref = true };
    expect(given_back_by_discard(own) > 3 * MIB);
    uint64_t l2 = field(field(40)) & UINT64_C(0xfffffffffffe00);
    expect(field(l2) & 1);                          /* reads as zeroes */
    expect(field(l2) & UINT64_C(0xfffffffffffe00)); /* and has its cluster */
    struct stat before;
    struct stat after;
    expect(stat(in_dir("a.qcow2"), &before) == 0);
    struct handle *disk = open_with(own);
    expect_int(put(disk, 0, 4 * MIB, 6), 0);
    expect(reads_as(disk, 0, 4 * MIB, 6));
    close_disk(disk);
    expect(stat(in_dir("a.qcow2"), &after) == 0);
    expect_int(before.st_size, after.st_size);

    own.has_pass_discard_request = true; /* not passed on */
    expect(given_back_by_discard(own) == 0);
}

/* Three quarters of each cluster go, then the rest. */
static void given_back_by_subclusters(bool pass, uint64_t *part, uint64_t *all)
{
    qemu_img("create -q -f qcow2 -o extended_l2=on,cluster_size=2M '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk =
        open_with((struct blockdev_options_qcow2){ .has_pass_discard_request = true, .pass_discard_request = pass });
    expect_int(put(disk, 0, 8 * MIB, 5), 0);
    reclaim(disk);
    uint64_t before = stored_bytes();
    for (uint64_t at = 0; at < 8 * MIB; at += 2 * MIB)
        expect_int(handle_pdiscard(disk, range_make(at, 1536 * KIB)), 0);
    expect_int(put(disk, 0, 4096, 7), 0); /* the host cluster is there still */
    reclaim(disk);
    *part = before - min_u64(stored_bytes(), before);
    expect(reads_as(disk, 0, 4096, 7));
    expect(reads_as(disk, 4096, 1536 * KIB - 4096, 0));
    expect(reads_as(disk, 1536 * KIB, 512 * KIB, 5));
    expect_int(handle_pdiscard(disk, range_make(0, 8 * MIB)), 0);
    reclaim(disk);
    *all = before - min_u64(stored_bytes(), before);
    expect(reads_as(disk, 0, 8 * MIB, 0));
    close_disk(disk);
}

NODE_TEST(discards_of_subclusters_make_holes)
{
    uint64_t part;
    uint64_t all;
    given_back_by_subclusters(true, &part, &all);
    expect(part > 5 * MIB && part < 7 * MIB);
    expect(all > 7 * MIB);
    given_back_by_subclusters(false, &part, &all);
    expect_int(part, 0);
}

/* Compressed clusters that are overwritten leave their host clusters. */
NODE_TEST(pass_discard_other)
{
    uint64_t stored[2];
    for (int pass = 0; pass < 2; pass++) {
        unsigned char *noise = malloc(8 * MIB);
        expect(noise);
        random_seed(1);
        for (size_t i = 0; i < 8 * MIB; i++)
            noise[i] = i % 2 ? 0 : (unsigned char)random_below(256);
        qemu_img("create -q -f qcow2 '%s' %d", in_dir("a.qcow2"), DISK);
        struct handle *disk = open_with((struct blockdev_options_qcow2){
            .has_pass_discard_other = true,
            .pass_discard_other = pass,
        });
        expect_int(put_compressed(disk, 0, noise, 8 * MIB), 0);
        reclaim(disk);
        expect_int(put(disk, 0, 8 * MIB, 5), 0);
        reclaim(disk);
        stored[pass] = stored_bytes();
        close_disk(disk);
        free(noise);
    }
    expect(stored[1] + 2 * MIB < stored[0]);
}

NODE_TEST(version_2_cannot_do_everything)
{
    qemu_img("create -q -f qcow2 -o compat=0.10 '%s' 1M", in_dir("a.qcow2"));
    add_fails(options_with((struct blockdev_options_qcow2){ .has_lazy_refcounts = true, .lazy_refcounts = true }),
              "lazy-refcounts: needs an image of version 3");
    add_fails(options_with((struct blockdev_options_qcow2){ .has_discard_no_unref = true, .discard_no_unref = true }),
              "discard-no-unref: needs an image of version 3");
}

/* Lazy refcounts ------------------------------------------------------------------------------------------------- */

static uint64_t incompatible_features(void)
{
    return field(72);
}

/* The refcount of the cluster that guest cluster 0 has. */
static unsigned count_in_file(void)
{
    uint64_t l2 = field(field(40)) & UINT64_C(0xfffffffffffe00);
    uint64_t cluster = (field(l2) & UINT64_C(0xfffffffffffe00)) / CLUSTER;
    return (unsigned)(field(field(field(48)) + cluster * 2) >> 48);
}

NODE_TEST(lazy_refcounts_are_written_when_the_image_is_closed)
{
    for (int by_image = 0; by_image < 2; by_image++) {
        qemu_img("create -q -f qcow2 -o lazy_refcounts=%s '%s' %d", by_image ? "on" : "off", in_dir("a.qcow2"), DISK);
        struct blockdev_options_qcow2 own = { .has_lazy_refcounts = !by_image, .lazy_refcounts = true };
        struct handle *disk = open_with(own);
        expect_int(incompatible_features(), 0);
        expect_int(put(disk, 0, MIB, 5), 0);
        expect_int(handle_flush(disk), 0);
        expect_int(incompatible_features(), 1);
        expect_int(count_in_file(), 0);
        close_disk(disk);
        expect_int(incompatible_features(), 0);
        expect_int(count_in_file(), 1);
    }
    qemu_img("create -q -f qcow2 -o lazy_refcounts=on '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk = open_with((struct blockdev_options_qcow2){ .has_lazy_refcounts = true }); /* off */
    expect_int(put(disk, 0, MIB, 5), 0);
    expect_int(handle_flush(disk), 0);
    expect_int(incompatible_features(), 0);
    expect_int(count_in_file(), 1);
    close_disk(disk);
}

/* Those of the snapshot stay in memory as well. */
NODE_TEST(the_mark_of_lazy_refcounts_outlives_a_snapshot)
{
    qemu_img("create -q -f qcow2 -o lazy_refcounts=on '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk = open_with((struct blockdev_options_qcow2){ 0 });
    expect_int(put(disk, 0, MIB, 5), 0);
    close_disk(disk);
    expect_int(incompatible_features(), 0);
    disk = open_with((struct blockdev_options_qcow2){ 0 });
    expect_success(node_snapshot_create(node_find("disk"), "first"));
    expect_int(count_in_file(), 1);
    expect_int(incompatible_features(), 1);
    close_disk(disk);
    expect_int(count_in_file(), 2);
    expect_int(incompatible_features(), 0);
}

NODE_TEST(lazy_refcounts_are_written_before_another_host_goes_on)
{
    qemu_img("create -q -f qcow2 -o lazy_refcounts=on '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk = open_with((struct blockdev_options_qcow2){ 0 });
    expect_int(put(disk, 0, MIB, 5), 0);
    handle_close(disk);
    expect_success(node_set_active(node_find("disk"), false));
    expect_int(incompatible_features(), 0);
    expect_int(count_in_file(), 1);
    remove_image("disk");
    check_image("a.qcow2");
}

/* As after a crash: the file is copied while it is dirty. */
NODE_TEST(what_a_crash_leaves_is_repaired)
{
    qemu_img("create -q -f qcow2 -o lazy_refcounts=on '%s' %d", in_dir("b.qcow2"), DISK);
    struct blockdev_options options = image_options("other", in_dir("b.qcow2"));
    add(options);
    struct handle *other = open_handle("other", READ_WRITE);
    expect_int(put(other, 0, 8 * MIB, 5), 0);
    expect_int(put(other, 32 * MIB, 3 * MIB + 512, 6), 0);
    expect_int(handle_flush(other), 0);
    char line[300];
    char output[200];
    snprintf(line, sizeof(line), "cp '%s' '%s'", in_dir("b.qcow2"), in_dir("a.qcow2"));
    expect_int(run_command(line, output, sizeof(output)), 0);
    handle_close(other);
    remove_image("other");

    expect_int(incompatible_features(), 1);
    struct handle *disk = open_with((struct blockdev_options_qcow2){ 0 });
    expect_int(incompatible_features(), 0);
    expect(reads_as(disk, 0, 8 * MIB, 5));
    expect(reads_as(disk, 32 * MIB, 3 * MIB + 512, 6));
    expect_int(put(disk, 16 * MIB, 8 * MIB, 7), 0);
    expect(reads_as(disk, 0, 8 * MIB, 5));
    close_disk(disk);
}

/* Caches --------------------------------------------------------------------------------------------------------- */

NODE_TEST(cache_sizes_that_contradict_each_other)
{
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("a.qcow2"), DISK);
    struct blockdev_options_qcow2 own = { .has_cache_size = true, .cache_size = MIB };
    own.has_l2_cache_size = own.has_refcount_cache_size = true;
    own.l2_cache_size = own.refcount_cache_size = MIB / 2;
    add_fails(options_with(own), "cannot all be given");
    own.has_refcount_cache_size = false;
    own.l2_cache_size = 2 * MIB;
    add_fails(options_with(own), "l2-cache-size: must not be larger");
    own.has_l2_cache_size = false;
    own.has_refcount_cache_size = true;
    own.refcount_cache_size = 2 * MIB;
    add_fails(options_with(own), "refcount-cache-size: must not be larger");
    own = (struct blockdev_options_qcow2){ .has_l2_cache_entry_size = true, .l2_cache_entry_size = 131072 };
    add_fails(options_with(own), "between 512 and the cluster size");
    own.l2_cache_entry_size = 3000;
    add_fails(options_with(own), "power of two");
}

/* 1 GiB in clusters of 512 bytes: 16 MiB of L2 tables. */
NODE_TEST(the_l2_cache_keeps_to_its_size)
{
    qemu_img("create -q -f qcow2 -o cluster_size=512 '%s' 1G", in_dir("a.qcow2"));
    struct handle *disk = open_with((struct blockdev_options_qcow2){
        .has_l2_cache_size = true,
        .l2_cache_size = 65536,
        .has_l2_cache_entry_size = true,
        .l2_cache_entry_size = 512,
    });
    for (uint64_t at = 0; at < GIB; at += MIB)
        expect_int(put(disk, at, 512, 3), 0);
    expect_int(handle_flush(disk), 0);
    for (uint64_t at = 0; at < GIB; at += MIB)
        expect(reads_as(disk, at, 512, 3));
    expect_int(state()->l2.table_bytes, 512);
    expect_int(state()->l2.limit, 128);
    expect(state()->l2.count <= 128);
    close_disk(disk);
}

NODE_TEST(one_size_for_both_caches_is_shared_out)
{
    qemu_img("create -q -f qcow2 '%s' 1G", in_dir("a.qcow2")); /* 128 KiB of L2 tables */
    struct handle *disk = open_with((struct blockdev_options_qcow2){ .has_cache_size = true, .cache_size = 2 * MIB });
    expect_int(state()->l2.limit * state()->l2.table_bytes, 128 * KIB);
    expect_int(state()->refblocks.limit * state()->refblocks.table_bytes, 2 * MIB - 128 * KIB);
    close_disk(disk);
    disk = open_with((struct blockdev_options_qcow2){
        .has_cache_size = true,
        .cache_size = 2 * MIB,
        .has_l2_cache_size = true,
        .l2_cache_size = MIB,
    });
    expect_int(state()->l2.limit * state()->l2.table_bytes, 128 * KIB);
    expect_int(state()->refblocks.limit * state()->refblocks.table_bytes, 2 * MIB - 128 * KIB);
    close_disk(disk);
}

static void reopen_with(struct blockdev_options_qcow2 own)
{
    struct blockdev_options options = options_with(own);
    expect_success(blockdev_reopen(&options, 1));
}

/* With data, refcounts and entries in memory that the file does not have yet. */
NODE_TEST(options_change_while_the_image_is_in_use)
{
    qemu_img("create -q -f qcow2 '%s' %d", in_dir("a.qcow2"), DISK);
    struct handle *disk =
        open_with((struct blockdev_options_qcow2){ .has_lazy_refcounts = true, .lazy_refcounts = true });
    const struct qcow2 *q = state();
    expect_int(put(disk, 0, 4 * MIB, 1), 0);
    expect_int(handle_flush(disk), 0);
    expect(field(72) & QCOW2_DIRTY);

    reopen_with((struct blockdev_options_qcow2){ .has_l2_cache_entry_size = true, .l2_cache_entry_size = 4096 });
    expect(!q->lazy_refcounts && !(field(72) & QCOW2_DIRTY));
    expect_int(q->l2.table_bytes, 4096);
    expect(reads_as(disk, 0, 4 * MIB, 1));
    expect_int(put(disk, 4 * MIB, 4 * MIB, 2), 0);

    reopen_with((struct blockdev_options_qcow2){ .has_l2_cache_entry_size = true,
                                                 .l2_cache_entry_size = 512,
                                                 .has_l2_cache_size = true,
                                                 .l2_cache_size = 1024,
                                                 .has_lazy_refcounts = true,
                                                 .lazy_refcounts = true });
    expect(q->lazy_refcounts && q->l2.table_bytes == 512 && q->l2.limit == 2);
    expect(reads_as(disk, 4 * MIB, 4 * MIB, 2));
    expect_int(put(disk, 2 * MIB, 4 * MIB, 3), 0);
    expect(reads_as(disk, 2 * MIB, 4 * MIB, 3));
    close_disk(disk);
    check_image("a.qcow2");
}

NODE_TEST(unused_tables_are_given_back_after_the_interval)
{
    qemu_img("create -q -f qcow2 '%s' 1G", in_dir("a.qcow2"));
    struct handle *disk = open_with((struct blockdev_options_qcow2){
        .has_cache_clean_interval = true,
        .cache_clean_interval = 1,
    });
    expect_int(put(disk, 0, CLUSTER, 3), 0);
    expect_int(handle_flush(disk), 0);
    expect(state()->l2.count > 0);
    while (state()->l2.count > 0) /* the time limit of the test ends this if nothing happens */
        co_sleep_ms(100);
    expect(reads_as(disk, 0, CLUSTER, 3));
    close_disk(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pass_discard_request),
        cmocka_unit_test(discard_no_unref_keeps_clusters_but_not_their_content),
        cmocka_unit_test(discards_of_subclusters_make_holes),
        cmocka_unit_test(pass_discard_other),
        cmocka_unit_test(version_2_cannot_do_everything),
        cmocka_unit_test(lazy_refcounts_are_written_when_the_image_is_closed),
        cmocka_unit_test(the_mark_of_lazy_refcounts_outlives_a_snapshot),
        cmocka_unit_test(lazy_refcounts_are_written_before_another_host_goes_on),
        cmocka_unit_test(what_a_crash_leaves_is_repaired),
        cmocka_unit_test(cache_sizes_that_contradict_each_other),
        cmocka_unit_test(the_l2_cache_keeps_to_its_size),
        cmocka_unit_test(one_size_for_both_caches_is_shared_out),
        cmocka_unit_test(options_change_while_the_image_is_in_use),
        cmocka_unit_test(unused_tables_are_given_back_after_the_interval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
