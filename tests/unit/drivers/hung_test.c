/* Storage that never answers costs itself only. The file system hung_fs plays dead; it needs FUSE and the right to
 * mount, and is left out where one of them is missing. */
#include "tests/unit/drivers/nodes.h"

#include <signal.h>

static pid_t hung_fs;

/* Mounts it on the directory "hung"; false where that cannot be done. */
static bool hung_fs_start(void)
{
    const char *program = getenv("CAIRN_HUNG_FS");
    int from_child[2];
    if (!program || access(program, X_OK) < 0 || access("/dev/fuse", R_OK | W_OK) < 0)
        return false;
    expect(mkdir(in_dir("hung"), 0755) == 0 && pipe2(from_child, O_CLOEXEC) == 0);
    hung_fs = fork();
    expect(hung_fs >= 0);
    if (hung_fs == 0) {
        dup2(from_child[1], 1);
        execl(program, program, in_dir("hung"), (char *)NULL);
        _exit(127);
    }
    close(from_child[1]);
    char ready[8];
    bool mounted = read(from_child[0], ready, sizeof(ready)) > 0;
    close(from_child[0]);
    return mounted;
}

/* Whatever hangs ends with an error then. */
static void hung_fs_stop(void)
{
    int status;
    kill(hung_fs, SIGTERM);
    expect(waitpid(hung_fs, &status, 0) == hung_fs);
}

static void use_a_file_that_lives(void)
{
    static const char *const names[] = { "one", "two", "three" };
    make_file("a.img", MIB);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        add(file_options(names[i], in_dir("a.img")));
        struct handle *handle = open_handle(names[i], READ_WRITE);
        expect_int(put(handle, 0, MIB, (int)i), 0);
        expect(reads_as(handle, 0, MIB, (int)i));
        expect_text(map_text(handle, ASK_ALL), "0+1024d@0");
        expect_int(handle_flush(handle), 0);
        handle_close(handle);
        expect_success(blockdev_del(names[i]));
    }
}

struct opening {
    const char *filename;
    struct error *err;
    bool ended;
};

static void open_hung(void *arg)
{
    struct opening *opening = arg;
    struct blockdev_options options = file_options(strrchr(opening->filename, '/') + 1, opening->filename);
    opening->err = blockdev_add(&options);
    opening->ended = true;
}

NODE_TEST(a_file_that_does_not_open_holds_up_nobody_else)
{
    if (!hung_fs_start())
        return;
    struct co_group group;
    struct opening lookup = { .filename = in_dir("hung/hang-lookup") };
    struct opening open = { .filename = in_dir("hung/hang-open") };
    co_group_init(&group);
    co_group_start(&group, "hung look-up", open_hung, &lookup);
    co_group_start(&group, "hung open", open_hung, &open);
    use_a_file_that_lives();
    expect(!lookup.ended && !open.ended);
    expect(!node_find("hang-open"));

    hung_fs_stop();
    co_group_join(&group);
    expect_error(lookup.err, "hang-lookup'");
    expect_error(open.err, "hang-open'");
}

#define HUNG_READS 100

struct hung_reads {
    struct handle *handle;
    unsigned ended;
};

static void read_hung(void *arg)
{
    struct hung_reads *reads = arg;
    char byte;
    expect(get_bytes(reads->handle, 0, &byte, 1) < 0);
    reads->ended++;
}

/* On the same dead server, so to speak: it is the file that hangs. */
static void read_a_file_beside_it(void)
{
    add(file_options("beside", in_dir("hung/hang-none")));
    struct handle *handle = open_handle("beside", READ);
    expect(reads_as(handle, 0, 64 * KIB, 0));
    handle_close(handle);
}

static void hang_many_reads(enum blockdev_aio_options aio)
{
    if (!hung_fs_start())
        return;
    struct blockdev_options options = file_options("hung", in_dir("hung/hang-read"));
    options.u.file.has_aio = true;
    options.u.file.aio = aio;
    add(options);
    struct co_group group;
    struct hung_reads reads = { .handle = open_handle("hung", READ) };
    co_group_init(&group);
    for (unsigned i = 0; i < HUNG_READS; i++)
        co_group_start(&group, "hung read", read_hung, &reads);
    use_a_file_that_lives();
    read_a_file_beside_it();
    expect_int(reads.ended, 0);

    hung_fs_stop();
    co_group_join(&group);
    handle_close(reads.handle);
}

NODE_TEST(many_reads_that_hang_hold_up_nobody_else)
{
    hang_many_reads(BLOCKDEV_AIO_OPTIONS_IO_URING);
}

NODE_TEST(many_reads_that_hang_on_threads_hold_up_nobody_else)
{
    hang_many_reads(BLOCKDEV_AIO_OPTIONS_THREADS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_does_not_open_holds_up_nobody_else),
        cmocka_unit_test(many_reads_that_hang_hold_up_nobody_else),
        cmocka_unit_test(many_reads_that_hang_on_threads_hold_up_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
