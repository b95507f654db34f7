/* Many requests from all loops at once. Each worker owns every eighth sector, so that all clusters are shared by all
 * workers, but no sector is. */
#include "tests/unit/qcow2/images.h"

#define SECTOR 512
#define WORKERS 8
#define SECTORS (8 * 1024)

struct worker {
    struct handle *disk;
    unsigned index;
    uint64_t random;
    uint64_t values[SECTORS / WORKERS]; /* of its own sectors; what it wrote last */
    struct co_event done;
};

static uint64_t choose(struct worker *worker, uint64_t limit)
{
    worker->random = worker->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (worker->random >> 33) % limit;
}

static uint64_t sector_of(const struct worker *worker, uint64_t own)
{
    return own * WORKERS + worker->index;
}

static void write_sector(struct worker *worker, uint64_t own)
{
    uint64_t sector[SECTOR / 8];
    uint64_t value = choose(worker, UINT64_MAX >> 1) << 4 | worker->index;
    for (size_t i = 0; i < ARRAY_SIZE(sector); i++)
        sector[i] = value;
    expect_int(put_bytes(worker->disk, sector_of(worker, own) * SECTOR, sector, SECTOR), 0);
    worker->values[own] = value;
}

static void zero_sector(struct worker *worker, uint64_t own)
{
    unsigned flags = choose(worker, 2) ? REQ_MAY_UNMAP : 0;
    struct range range = range_make(sector_of(worker, own) * SECTOR, SECTOR);
    expect_int(handle_pwrite_zeroes(worker->disk, range, flags), 0);
    worker->values[own] = 0;
}

static void check_sector(struct worker *worker, uint64_t own)
{
    uint64_t sector[SECTOR / 8];
    expect_int(get_bytes(worker->disk, sector_of(worker, own) * SECTOR, sector, SECTOR), 0);
    for (size_t i = 0; i < ARRAY_SIZE(sector); i++)
        expect(sector[i] == worker->values[own]);
}

static void ask_status(struct worker *worker)
{
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, 1 + choose(worker, 50));
    uint64_t offset = choose(worker, SECTORS) * SECTOR;
    struct range range = range_between(offset, SECTORS * SECTOR);
    expect_int(handle_block_status(worker->disk, range, ASK_ALL, NULL, false, &extents), 0);
}

static void work(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < 1200; i++) {
        uint64_t own = choose(worker, SECTORS / WORKERS);
        switch (choose(worker, 20)) {
        case 0:
            expect_int(handle_flush(worker->disk), 0);
            break;
        case 1:
        case 2:
            zero_sector(worker, own);
            break;
        case 3:
            ask_status(worker);
            break;
        case 4:
        case 5:
        case 6:
        case 7:
        case 8:
            check_sector(worker, own);
            break;
        default:
            write_sector(worker, own);
        }
    }
    for (uint64_t own = 0; own < SECTORS / WORKERS; own++)
        check_sector(worker, own);
    co_event_set(&worker->done);
}

static void run(const char *create, bool small_caches)
{
    qemu_img("create -q -f qcow2 %s '%s' %d", create, in_dir("a.qcow2"), SECTORS * SECTOR);
    struct blockdev_options options = image_options("disk", in_dir("a.qcow2"));
    options.u.qcow2.has_l2_cache_size = small_caches;
    options.u.qcow2.l2_cache_size = 1024;
    options.u.qcow2.has_l2_cache_entry_size = small_caches;
    options.u.qcow2.l2_cache_entry_size = 512;
    add(options);
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct worker *workers = calloc(WORKERS, sizeof(*workers));
    expect(workers);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].disk = disk;
        workers[i].index = i;
        workers[i].random = i + 1;
        co_event_init(&workers[i].done);
        co_start_on(loop_io(i % loop_io_count()), "worker", work, &workers[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        co_event_wait(&workers[i].done, "a worker");
    free(workers);
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

NODE_TEST(usual_clusters)
{
    run("", false);
}

NODE_TEST(smallest_clusters)
{
    run("-o cluster_size=512", false);
}

NODE_TEST(small_caches)
{
    run("-o cluster_size=4096", true);
}

NODE_TEST(wide_refcounts)
{
    run("-o cluster_size=512,refcount_bits=64", false);
}

NODE_TEST(on_a_backing_file)
{
    make_file("base.raw", SECTORS * SECTOR);
    run("-b base.raw -F raw -o cluster_size=4096", false);
}

NODE_TEST(subclusters)
{
    run("-o extended_l2=on,cluster_size=16384", false);
    run("-o extended_l2=on,cluster_size=65536", true);
}

NODE_TEST(subclusters_on_a_backing_file)
{
    make_file("base.raw", SECTORS * SECTOR);
    run("-b base.raw -F raw -o extended_l2=on,cluster_size=65536", false);
}

NODE_TEST(data_files)
{
    char options[200];
    snprintf(options, sizeof(options), "-o cluster_size=4096,data_file=%s", in_dir("a.raw"));
    run(options, false);
    snprintf(options, sizeof(options), "-o extended_l2=on,data_file=%s,data_file_raw=on", in_dir("a.raw"));
    run(options, false);
}

/* Compressed clusters from all loops, over and over: they share host clusters, and every count must be right. */
struct packer {
    struct handle *disk;
    unsigned index;
    struct co_event done;
};

static void write_packed(void *arg)
{
    struct packer *packer = arg;
    unsigned char *data = malloc(2 * 4096);
    expect(data);
    for (unsigned round = 1; round < 4; round++) {
        for (unsigned i = packer->index; i < 512; i += WORKERS) {
            memset(data, (int)(i % 64 + 64 * round), 2 * 4096);
            if (i % 16 == 3)
                expect_int(put_bytes(packer->disk, i * 8192, data, 2 * 4096), 0);
            else
                expect_int(put_compressed(packer->disk, i * 8192, data, 2 * 4096), 0);
        }
        expect_int(handle_flush(packer->disk), 0);
    }
    free(data);
    co_event_set(&packer->done);
}

NODE_TEST(compressed_clusters)
{
    qemu_img("create -q -f qcow2 -o cluster_size=4096 '%s' 4M", in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct packer packers[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        packers[i].disk = disk;
        packers[i].index = i;
        co_event_init(&packers[i].done);
        co_start_on(loop_io(i % loop_io_count()), "packer", write_packed, &packers[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        co_event_wait(&packers[i].done, "a packer");
    for (unsigned i = 0; i < 512; i++)
        expect(reads_as(disk, i * 8192, 8192, (int)(i % 64 + 64 * 3)));
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

/* Neighbouring pieces of one sequential writer, as many as a guest keeps in flight. */
struct piece {
    struct handle *disk;
    unsigned index;
    struct co_event done;
};

static void write_pieces(void *arg)
{
    struct piece *piece = arg;
    for (unsigned i = piece->index; i < 1024; i += 16)
        expect_int(put(piece->disk, (uint64_t)i * 4096, 4096, (int)(i % 251) + 1), 0);
    co_event_set(&piece->done);
}

NODE_TEST(one_sequential_writer)
{
    qemu_img("create -q -f qcow2 '%s' 4M", in_dir("a.qcow2"));
    add_image("disk", in_dir("a.qcow2"));
    struct handle *disk = open_handle("disk", READ_WRITE);
    struct piece pieces[16];
    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
        pieces[i].disk = disk;
        pieces[i].index = i;
        co_event_init(&pieces[i].done);
        co_start_on(loop_io(i % loop_io_count()), "piece", write_pieces, &pieces[i]);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
        co_event_wait(&pieces[i].done, "a writer");
    for (unsigned i = 0; i < 1024; i++)
        expect(reads_as(disk, (uint64_t)i * 4096, 4096, (int)(i % 251) + 1));
    handle_close(disk);
    remove_image("disk");
    check_image("a.qcow2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual_clusters),
        cmocka_unit_test(smallest_clusters),
        cmocka_unit_test(small_caches),
        cmocka_unit_test(wide_refcounts),
        cmocka_unit_test(on_a_backing_file),
        cmocka_unit_test(subclusters),
        cmocka_unit_test(subclusters_on_a_backing_file),
        cmocka_unit_test(data_files),
        cmocka_unit_test(one_sequential_writer),
        cmocka_unit_test(compressed_clusters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
