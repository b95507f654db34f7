/* The driver 'file': what it opens, what it stores, where it has holes, how it resizes. */
#include "tests/unit/drivers/nodes.h"

#include "blockcore/base/arena.h"

#include <sys/stat.h>

/* Opening ------------------------------------------------------------------------------------------------------- */

NODE_TEST(length_is_that_of_the_file_to_the_byte)
{
    make_file("odd.img", 1000);
    add(file_options("disk", in_dir("odd.img")));
    struct node *node = node_find("disk");
    expect_int(node_length(node), 1000);
    expect_text(node_filename(node), in_dir("odd.img"));
    expect(!node_is_read_only(node));

    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_int(put(handle, 900, 100, 0x11), 0);
    expect_int(put(handle, 900, 101, 0x22), -EINVAL);
    expect(reads_as(handle, 900, 100, 0x11));
    expect_text(map_text(handle, ASK_ALLOCATED), "0+0");
    handle_close(handle);
}

NODE_TEST(only_regular_files_are_opened)
{
    expect(mkfifo(in_dir("fifo"), 0644) == 0);
    add_fails(file_options("disk", in_dir("missing.img")), "missing.img': No such file or directory");
    add_fails(file_options("disk", test_dir), "is a directory; this driver needs a regular file");
    add_fails(file_options("disk", in_dir("fifo")), "is a FIFO; this driver needs a regular file");
    add_fails(file_options("disk", "/dev/null"), "is a character device; this driver needs a regular file");
}

NODE_TEST(an_error_names_node_driver_and_path)
{
    add_fails(file_options("disk", in_dir("missing.img")), "node 'disk' (driver 'file'): cannot open '/");
}

NODE_TEST(options_that_cannot_be_met_are_refused)
{
    make_file("a.img", MIB);
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    options.u.file.has_aio = true;
    options.u.file.aio = BLOCKDEV_AIO_OPTIONS_NATIVE;
    add_fails(options, "aio: 'native' needs cache.direct");
    options = file_options("disk", in_dir("a.img"));
    options.u.file.pr_manager = "pr0";
    add_fails(options, "pr-manager: 'pr0'");
}

NODE_TEST(read_only_files_are_not_written)
{
    make_file("a.img", MIB);
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    options.has_read_only = true;
    options.read_only = true;
    add(options);
    struct handle *handle;
    expect_error(handle_open(node_find("disk"), "the test", READ_WRITE, PERM_ALL, &handle), "read-only");
    handle = open_handle("disk", READ);
    expect(reads_as(handle, 0, 512, 0));
    expect_int(put(handle, 0, 512, 1), -EACCES);
    handle_close(handle);
}

/* Root may write everything; so these are somebody else. */
static void as_nobody(void (*body)(void))
{
    bool root = geteuid() == 0;
    expect(!root || seteuid(65534) == 0);
    body();
    expect(!root || seteuid(0) == 0);
}

static void open_unwritable_file(void)
{
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    add_fails(options, "a.img' for writing: Permission denied");

    options.has_auto_read_only = true;
    options.auto_read_only = true;
    add(options);
    expect(node_is_read_only(node_find("disk")));
    struct handle *handle = open_handle("disk", READ);
    expect(reads_as(handle, 0, MIB, 0));
    handle_close(handle);
}

NODE_TEST(auto_read_only_falls_back_where_writing_is_not_allowed)
{
    make_file("a.img", MIB);
    expect(chmod(in_dir("a.img"), 0444) == 0);
    as_nobody(open_unwritable_file);
}

static int access_mode_of(const char *path)
{
    return fcntl(find_descriptor(path), F_GETFL) & O_ACCMODE;
}

NODE_TEST(auto_read_only_opens_for_writing_while_somebody_writes)
{
    make_file("a.img", MIB);
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    options.has_auto_read_only = true;
    options.auto_read_only = true;
    add(options);
    expect(!node_is_read_only(node_find("disk")));
    expect_int(access_mode_of(in_dir("a.img")), O_RDONLY);

    struct handle *reader = open_handle("disk", READ);
    expect_int(access_mode_of(in_dir("a.img")), O_RDONLY);
    struct handle *writer = open_handle("disk", READ_WRITE);
    expect_int(access_mode_of(in_dir("a.img")), O_RDWR);
    expect_int(put(writer, 0, 4096, 0x55), 0);
    expect(reads_as(reader, 0, 4096, 0x55));
    handle_close(writer);
    expect_int(access_mode_of(in_dir("a.img")), O_RDONLY);
    expect(reads_as(reader, 0, 4096, 0x55));
    handle_close(reader);
}

NODE_TEST(a_file_without_a_hint_has_nothing_to_tell_of_itself)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct arena arena;
    struct image_info info = { 0 };
    arena_init(&arena, SIZE_MAX);
    node_driver(node_find("disk"))->describe(node_find("disk"), &info, &arena);
    expect(!info.format_specific);
    arena_fini(&arena);
}

/* Storage ------------------------------------------------------------------------------------------------------- */

NODE_TEST(holes_and_data_are_told_apart)
{
    make_file("a.img", 4 * MIB);
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    options.has_discard = true;
    options.discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP;
    add(options);
    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_text(map_text(handle, ASK_ALL), "0+4096z@0");
    expect_int(put(handle, MIB, MIB, 0x77), 0);
    expect_text(map_text(handle, ASK_ALL), "0+1024z@0 1024+1024d@1024 2048+2048z@2048");
    expect_text(map_text(handle, ASK_ZERO), "0+1024z 1024+1024 2048+2048z");
    expect_text(map_text(handle, ASK_ALLOCATED), "0+4096");

    expect_int(handle_pdiscard(handle, range_make(MIB, 512 * KIB)), 0);
    expect_text(map_text(handle, ASK_ALL), "0+1536z@0 1536+512d@1536 2048+2048z@2048");
    expect(reads_as(handle, MIB, 512 * KIB, 0));
    expect_int(handle_pwrite_zeroes(handle, range_make(MIB + 512 * KIB, 512 * KIB), REQ_MAY_UNMAP), 0);
    expect_text(map_text(handle, ASK_ALL), "0+4096z@0");
    expect_int(node_allocated_bytes(node_find("disk")), 0);
    handle_close(handle);
}

/* What was found to be data stays data, the weaker answer, until we ourselves make a hole somewhere: a format asks
 * about each of its extents, and the kernel looks at every page up to the end of the data each time. */
NODE_TEST(what_is_known_to_be_data_is_not_looked_for_again)
{
    make_file("a.img", 4 * MIB);
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    options.has_discard = true;
    options.discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP;
    add(options);
    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_int(put(handle, MIB, 2 * MIB, 0x77), 0);
    expect_text(map_text(handle, ASK_ALL), "0+1024z@0 1024+2048d@1024 3072+1024z@3072");
    CLEANUP(close_fd) int fd = open(in_dir("a.img"), O_RDWR | O_CLOEXEC);
    expect(fd >= 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MIB, MIB) == 0);
    expect_text(map_text(handle, ASK_ALL), "0+2048z@0 2048+1024d@2048 3072+1024z@3072");
    expect(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * MIB + 512 * KIB, 256 * KIB) == 0);
    expect_text(map_text(handle, ASK_ALL), "0+2048z@0 2048+1024d@2048 3072+1024z@3072");
    expect_int(handle_pdiscard(handle, range_make(4 * MIB - 4096, 4096)), 0);
    expect_text(map_text(handle, ASK_ALL), "0+2048z@0 2048+512d@2048 2560+256z@2560 2816+256d@2816 3072+1024z@3072");
    handle_close(handle);
}

NODE_TEST(discard_is_ignored_by_default)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_int(put(handle, 0, MIB, 0x77), 0);
    expect_int(handle_pdiscard(handle, range_make(0, MIB)), 0);
    expect(reads_as(handle, 0, MIB, 0x77));
    /* Zeroes are written, but their storage is kept even if it may go. */
    expect_int(handle_pwrite_zeroes(handle, range_make(0, MIB), REQ_MAY_UNMAP), 0);
    expect(reads_as(handle, 0, MIB, 0));
    expect(node_allocated_bytes(node_find("disk")) >= MIB);
    handle_close(handle);
}

NODE_TEST(a_file_that_others_cut_off_reads_as_zero_behind_its_end)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_int(put(handle, 0, MIB, 0x77), 0);
    expect(truncate(in_dir("a.img"), 512 * KIB) == 0);
    expect(reads_as(handle, 0, 512 * KIB, 0x77));
    expect(reads_as(handle, 512 * KIB, 512 * KIB, 0));
    expect_text(map_text(handle, ASK_ZERO), "0+512 512+512z");
    handle_close(handle);
}

NODE_TEST(it_grows_by_what_is_written_past_its_end)
{
    make_file("a.img", 1000);
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    options.has_discard = true;
    options.discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP;
    add(options);
    struct node *node = node_find("disk");
    struct handle *handle = open_handle("disk", READ_WRITE_RESIZE);
    struct child *edge = handle_edge(handle);
    expect_int(append_bytes(handle, 2000, "end", 3), 0);
    expect_int(node_length(node), 2003);
    expect(reads_as(handle, 1000, 1000, 0));
    expect_int(child_pwrite_zeroes(edge, range_make(3000, 1000), 0), 0);
    expect_int(node_length(node), 4000);
    /* A hole punched past the end would not make the file longer. */
    expect_int(child_pwrite_zeroes(edge, range_make(2000, 6000), REQ_MAY_UNMAP), 0);
    expect_int(node_length(node), 8000);
    expect(reads_as(handle, 1000, 7000, 0));
    struct stat st;
    expect(stat(in_dir("a.img"), &st) == 0);
    expect_int(st.st_size, 8000);
    handle_close(handle);

    handle = open_handle("disk", READ_WRITE);
    expect_int(append_bytes(handle, 8000, "end", 3), -EINVAL);
    expect_int(child_pwrite_zeroes(handle_edge(handle), range_make(7999, 2), 0), -EINVAL);
    handle_close(handle);
}

NODE_TEST(resizing_adds_zeroes_in_the_way_that_is_asked_for)
{
    make_file("a.img", 1000);
    add(file_options("disk", in_dir("a.img")));
    struct node *node = node_find("disk");
    struct handle *handle = open_handle("disk", READ_WRITE_RESIZE);
    expect_int(put(handle, 0, 1000, 0x11), 0);

    expect_int(handle_truncate(handle, MIB, TRUNCATE_SPARSE), 0);
    expect_int(node_length(node), MIB);
    expect(reads_as(handle, 1000, MIB - 1000, 0));
    expect(node_allocated_bytes(node) < MIB);

    expect_int(handle_truncate(handle, 2 * MIB, TRUNCATE_FALLOC), 0);
    expect(reads_as(handle, 1000, 2 * MIB - 1000, 0));
    expect(node_allocated_bytes(node) >= MIB);

    expect_int(handle_truncate(handle, 3 * MIB + 5, TRUNCATE_FULL), 0);
    expect(reads_as(handle, 1000, 3 * MIB + 5 - 1000, 0));
    expect(node_allocated_bytes(node) >= 2 * MIB);

    expect_int(handle_truncate(handle, 500, TRUNCATE_FULL), -ENOTSUP);
    expect_int(node_length(node), 3 * MIB + 5);
    expect_int(handle_truncate(handle, 500, TRUNCATE_SPARSE), 0);
    expect_int(node_length(node), 500);
    expect_int(handle_truncate(handle, 1000, TRUNCATE_SPARSE), 0);
    expect(reads_as(handle, 0, 500, 0x11));
    expect(reads_as(handle, 500, 500, 0));
    handle_close(handle);
}

NODE_TEST(a_resize_that_fails_leaves_the_old_length)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle = open_handle("disk", READ_WRITE_RESIZE);
    expect(handle_truncate(handle, UINT64_C(1) << 62, TRUNCATE_FALLOC) < 0);
    struct stat st;
    expect(stat(in_dir("a.img"), &st) == 0);
    expect_int(st.st_size, MIB);
    expect_int(node_length(node_find("disk")), MIB);
    handle_close(handle);
}

NODE_TEST(no_flush_drops_flushes)
{
    make_file("a.img", MIB);
    struct blockdev_cache_options cache = { .has_no_flush = true, .no_flush = true };
    struct blockdev_options options = file_options("disk", in_dir("a.img"));
    options.cache = &cache;
    add(options);
    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_int(put(handle, 0, 4096, 1), 0);
    expect_int(handle_flush(handle), 0);
    handle_close(handle);
}

/* O_DIRECT ------------------------------------------------------------------------------------------------------ */

static struct blockdev_options direct_options(const char *node_name, const char *filename)
{
    static const struct blockdev_cache_options cache = { .has_direct = true, .direct = true };
    struct blockdev_options options = file_options(node_name, filename);
    options.cache = &cache;
    return options;
}

NODE_TEST(direct_access_takes_any_alignment_and_keeps_the_length)
{
    make_file("a.img", 10000);
    add(direct_options("disk", in_dir("a.img")));
    const struct node_limits *limits = node_limits(node_find("disk"));
    expect(limits->request_alignment >= 1 && limits->request_alignment <= 4096);

    struct handle *handle = open_handle("disk", READ_WRITE_RESIZE);
    expect_int(put(handle, 0, 10000, 0x11), 0);
    expect_int(put(handle, 777, 3333, 0x22), 0);
    expect_int(put(handle, 9990, 10, 0x33), 0);
    expect(reads_as(handle, 0, 777, 0x11));
    expect(reads_as(handle, 777, 3333, 0x22));
    expect(reads_as(handle, 4110, 5880, 0x11));
    expect(reads_as(handle, 9990, 10, 0x33));
    expect_int(handle_flush(handle), 0);
    expect_int(node_length(node_find("disk")), 10000);
    struct stat st;
    expect(stat(in_dir("a.img"), &st) == 0);
    expect_int(st.st_size, 10000);
    expect_int(handle_truncate(handle, 20001, TRUNCATE_FULL), 0);
    expect(reads_as(handle, 10000, 10001, 0));
    handle_close(handle);
}

/* Against a model ----------------------------------------------------------------------------------------------- */

#define MODEL_BYTES (512 * KIB)

struct model {
    struct handle *handle;
    unsigned char bytes[MODEL_BYTES];
    uint64_t length;
    uint64_t random;
};

static uint64_t below(struct model *model, uint64_t limit)
{
    return next_random(&model->random) % limit;
}

static struct range random_range(struct model *model)
{
    uint64_t offset = below(model, model->length);
    uint64_t most = below(model, 4) ? 20 * KIB : MODEL_BYTES;
    uint64_t bytes = 1 + below(model, min_u64(most, model->length - offset));
    if (below(model, 2)) { /* whole blocks, so that storage really goes */
        offset = align_down(offset, 4096);
        bytes = min_u64(align_up(bytes, 4096), model->length - offset);
    }
    return range_make(offset, bytes);
}

static void check_content(struct model *model)
{
    static unsigned char got[MODEL_BYTES];
    expect_int(get_bytes(model->handle, 0, got, model->length), 0);
    expect(memcmp(got, model->bytes, model->length) == 0);
}

/* What is called zero must be zero; and everything must be answered, whether asked at once or in pieces. */
static void check_status(struct model *model)
{
    struct range range = random_range(model);
    struct extents extents;
    size_t max = 1 + below(model, 5);
    uint64_t at = range.offset;
    while (at < range_end(range)) {
        extents_init(&extents, max);
        expect_int(
            handle_block_status(model->handle, range_between(at, range_end(range)), ASK_ALL, NULL, false, &extents), 0);
        expect(extents.count >= 1 && extents.count <= max);
        for (size_t i = 0; i < extents.count; i++) {
            const struct extent *extent = &extents.items[i];
            expect_int(extent->offset, at);
            expect(extent->bytes > 0 && (extent->flags & EXTENT_ALLOCATED) && (extent->flags & EXTENT_MAPPED));
            expect_int(extent->file_offset, at);
            expect(!(extent->flags & EXTENT_DATA) == !!(extent->flags & EXTENT_ZERO));
            if (extent->flags & EXTENT_ZERO)
                expect(memory_is_zero(model->bytes + at, extent->bytes));
            at += extent->bytes;
        }
        extents_fini(&extents);
    }
    expect_int(at, range_end(range));
}

static void model_write(struct model *model)
{
    struct range range = random_range(model);
    unsigned char *at = model->bytes + range.offset;
    for (uint64_t i = 0; i < range.bytes; i++)
        at[i] = (unsigned char)next_random(&model->random);
    expect_int(put_bytes(model->handle, range.offset, at, range.bytes), 0);
}

static void model_zero(struct model *model, unsigned flags)
{
    struct range range = random_range(model);
    memset(model->bytes + range.offset, 0, range.bytes);
    int ret = handle_pwrite_zeroes(model->handle, range, flags);
    if (ret == -ENOTSUP && (flags & REQ_NO_FALLBACK))
        ret = handle_pwrite_zeroes(model->handle, range, flags & ~(unsigned)REQ_NO_FALLBACK);
    expect_int(ret, 0);
}

/* Each byte reads as before or as zero; with a hole punched by the file system, that is zero. */
static void model_discard(struct model *model)
{
    static unsigned char got[MODEL_BYTES];
    struct range range = random_range(model);
    expect_int(handle_pdiscard(model->handle, range), 0);
    expect_int(get_bytes(model->handle, range.offset, got, range.bytes), 0);
    for (uint64_t i = 0; i < range.bytes; i++)
        expect(got[i] == 0 || got[i] == model->bytes[range.offset + i]);
    memcpy(model->bytes + range.offset, got, range.bytes);
}

static void model_truncate(struct model *model)
{
    uint64_t length = 1 + below(model, MODEL_BYTES);
    enum truncate_mode mode = length < model->length ? TRUNCATE_SPARSE : (enum truncate_mode)below(model, 3);
    expect_int(handle_truncate(model->handle, length, mode), 0);
    if (length > model->length)
        memset(model->bytes + model->length, 0, length - model->length);
    model->length = length;
    expect_int(node_length(handle_node(model->handle)), length);
}

/* Begins inside or behind the end; what lies between is zero. */
static void model_append(struct model *model)
{
    uint64_t offset = below(model, min_u64(model->length + 10 * KIB, MODEL_BYTES - 1));
    uint64_t bytes = 1 + below(model, min_u64(20 * KIB, MODEL_BYTES - offset));
    uint64_t end = offset + bytes;
    if (end <= model->length)
        return;
    memset(model->bytes + model->length, 0, end - model->length);
    if (below(model, 2)) {
        memset(model->bytes + offset, 0, bytes);
        struct range range = range_make(offset, bytes);
        expect_int(child_pwrite_zeroes(handle_edge(model->handle), range, below(model, 2) ? REQ_MAY_UNMAP : 0), 0);
    } else {
        for (uint64_t i = offset; i < end; i++)
            model->bytes[i] = (unsigned char)next_random(&model->random);
        expect_int(append_bytes(model->handle, offset, model->bytes + offset, bytes), 0);
    }
    model->length = end;
    expect_int(node_length(handle_node(model->handle)), end);
}

static void model_step(struct model *model)
{
    static const unsigned zero_flags[] = { 0, REQ_MAY_UNMAP, REQ_NO_FALLBACK, REQ_MAY_UNMAP | REQ_NO_FALLBACK };
    switch (below(model, 10)) {
    case 0:
    case 1:
    case 2:
        return model_write(model);
    case 3:
    case 4:
        return model_zero(model, zero_flags[below(model, 4)]);
    case 5:
        return model_discard(model);
    case 6:
        return below(model, 8) ? model_append(model) : model_truncate(model);
    case 7:
        return check_content(model);
    case 8:
        return check_status(model);
    default:
        expect_int(handle_flush(model->handle), 0);
    }
}

/* What stays when the node is gone. */
static void check_file(const char *path, const struct model *model)
{
    static unsigned char got[MODEL_BYTES + 1];
    FILE *file = fopen(path, "re");
    expect(file);
    expect_int(fread(got, 1, sizeof(got), file), model->length);
    expect(memcmp(got, model->bytes, model->length) == 0);
    fclose(file);
}

static void run_model(struct blockdev_options options, uint64_t seed, unsigned steps)
{
    struct model *model = calloc(1, sizeof(*model));
    expect(model);
    add(options);
    model->handle = open_handle(options.node_name, READ_WRITE_RESIZE);
    model->length = node_length(handle_node(model->handle));
    model->random = seed;
    for (unsigned i = 0; i < steps; i++)
        model_step(model);
    check_content(model);
    handle_close(model->handle);
    expect_success(blockdev_del(options.node_name));
    check_file(options.u.file.filename, model);
    free(model);
}

static struct blockdev_options unmapping(struct blockdev_options options)
{
    options.has_discard = true;
    options.discard = BLOCKDEV_DISCARD_OPTIONS_UNMAP;
    return options;
}

NODE_TEST(a_file_is_what_was_written_to_it)
{
    make_file("a.img", 300001);
    run_model(unmapping(file_options("disk", in_dir("a.img"))), 1, 1500);
}

NODE_TEST(a_file_that_keeps_its_storage_is_what_was_written_to_it)
{
    make_file("a.img", 300001);
    run_model(file_options("disk", in_dir("a.img")), 3, 1000);
}

NODE_TEST(a_direct_file_is_what_was_written_to_it)
{
    make_file("a.img", 300001);
    run_model(unmapping(direct_options("disk", in_dir("a.img"))), 4, 1000);
}

NODE_TEST(a_file_on_threads_is_what_was_written_to_it)
{
    make_file("a.img", 300001);
    struct blockdev_options options = unmapping(file_options("disk", in_dir("a.img")));
    options.u.file.has_aio = true;
    options.u.file.aio = BLOCKDEV_AIO_OPTIONS_THREADS;
    run_model(options, 5, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(length_is_that_of_the_file_to_the_byte),
        cmocka_unit_test(only_regular_files_are_opened),
        cmocka_unit_test(an_error_names_node_driver_and_path),
        cmocka_unit_test(options_that_cannot_be_met_are_refused),
        cmocka_unit_test(read_only_files_are_not_written),
        cmocka_unit_test(auto_read_only_falls_back_where_writing_is_not_allowed),
        cmocka_unit_test(auto_read_only_opens_for_writing_while_somebody_writes),
        cmocka_unit_test(a_file_without_a_hint_has_nothing_to_tell_of_itself),
        cmocka_unit_test(holes_and_data_are_told_apart),
        cmocka_unit_test(what_is_known_to_be_data_is_not_looked_for_again),
        cmocka_unit_test(discard_is_ignored_by_default),
        cmocka_unit_test(a_file_that_others_cut_off_reads_as_zero_behind_its_end),
        cmocka_unit_test(it_grows_by_what_is_written_past_its_end),
        cmocka_unit_test(resizing_adds_zeroes_in_the_way_that_is_asked_for),
        cmocka_unit_test(a_resize_that_fails_leaves_the_old_length),
        cmocka_unit_test(no_flush_drops_flushes),
        cmocka_unit_test(direct_access_takes_any_alignment_and_keeps_the_length),
        cmocka_unit_test(a_file_is_what_was_written_to_it),
        cmocka_unit_test(a_file_that_keeps_its_storage_is_what_was_written_to_it),
        cmocka_unit_test(a_direct_file_is_what_was_written_to_it),
        cmocka_unit_test(a_file_on_threads_is_what_was_written_to_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
