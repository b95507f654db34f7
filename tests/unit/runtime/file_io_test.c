/* Every test runs on each kind of file that the machine offers: on a disk and in memory, through the page cache and
 * around it (O_DIRECT), with aio=threads or not. CTest runs it all once more with CAIRN_NO_IO_URING=1. */
#include "blockcore/runtime/file_io.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/range.h"
#include "blockcore/base/sanitizer.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/pool.h"
#include "tests/unit/runtime/co_test.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB 1024u

struct place {
    const char *name;
    const char *directory;
    bool direct;
    bool use_threads;
};

static const struct place places[] = {
    { "on disk", ".", false, false },          { "on disk, aio=threads", ".", false, true },
    { "on disk, direct", ".", true, false },   { "on disk, direct, aio=threads", ".", true, true },
    { "in memory", "/dev/shm", false, false }, { "in memory, direct", "/dev/shm", true, false },
};

struct subject {
    struct file_io *file;
    size_t alignment; /* of offsets, lengths and memory */
};

/* False when there is no such place on this machine. */
static bool subject_open(struct subject *subject, const struct place *place)
{
    CLEANUP(free) char *path = xasprintf("%s/runtime_file_io_test.%d", place->directory, (int)getpid());
    struct pool_domain *domain = pool_domain_create(place->name, 0);
    int flags = O_RDWR | O_CREAT | O_EXCL | (place->direct ? O_DIRECT : 0);
    int fd = co_open(domain, path, flags, 0600);
    if (fd < 0) {
        expect(fd == -EINVAL || fd == -ENOENT || fd == -EACCES);
        print_message("no file %s here: %s\n", place->name, strerror(-fd));
        unlink(path);
        pool_domain_unref(domain);
        return false;
    }
    unlink(path);
    struct file_io_options options = { .direct = place->direct, .use_threads = place->use_threads };
    subject->file = file_io_create(fd, domain, &options);
    subject->alignment = place->direct ? 4096 : 1;
    expect_int(file_io_fd(subject->file), fd);
    expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    return true;
}

static void subject_close(struct subject *subject)
{
    expect_int(file_io_destroy(subject->file), 0);
}

typedef void subject_body(struct subject *subject);

static void at_each_place(subject_body *body)
{
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        struct subject subject;
        if (!subject_open(&subject, &places[i]))
            continue;
        body(&subject);
        subject_close(&subject);
    }
}

static int write_at(struct file_io *file, uint64_t offset, void *data, size_t bytes)
{
    struct iovec vec;
    struct iov iov = iov_of(&vec, data, bytes);
    return file_io_pwritev(file, offset, &iov);
}

static int read_at(struct file_io *file, uint64_t offset, void *data, size_t bytes)
{
    struct iovec vec;
    struct iov iov = iov_of(&vec, data, bytes);
    return file_io_preadv(file, offset, &iov);
}

/* Cuts [data, data + bytes) at random places that are multiples of @alignment. */
static struct iov cut(struct iovec *vec, size_t pieces_max, char *data, size_t bytes, size_t alignment, uint64_t *seed)
{
    size_t count = 0;
    for (size_t at = 0; at < bytes; count++) {
        size_t left = bytes - at;
        size_t length = align_down(next_random(seed) % (left + 1), alignment);
        if (length == 0)
            length = alignment < left ? alignment : left;
        if (count + 1 == pieces_max)
            length = left;
        vec[count] = (struct iovec){ data + at, length };
        at += length;
    }
    return iov_of_vec(vec, count);
}

#define MODEL_BYTES (1024 * KIB)
#define REQUEST_BYTES (96 * KIB)

/* Requests of one coroutine, in a part of the file of its own. */
struct modeller {
    struct subject *subject;
    uint64_t part_offset;
    uint64_t seed;
    char *model; /* what this part of the file must hold; zero where nothing was written */
    uint64_t written_end;
};

static void model_step(struct modeller *modeller, char *data)
{
    size_t alignment = modeller->subject->alignment;
    struct iovec vec[8];
    uint64_t offset = align_down(next_random(&modeller->seed) % (MODEL_BYTES - REQUEST_BYTES), alignment);
    size_t bytes = align_up(next_random(&modeller->seed) % REQUEST_BYTES, alignment);
    struct iov iov = cut(vec, ARRAY_SIZE(vec), data, bytes, alignment, &modeller->seed);
    if (next_random(&modeller->seed) % 2) {
        for (size_t i = 0; i < bytes; i++)
            data[i] = (char)next_random(&modeller->seed);
        expect_int(file_io_pwritev(modeller->subject->file, modeller->part_offset + offset, &iov), 0);
        memcpy(modeller->model + offset, data, bytes);
    } else {
        memset(data, 0xee, bytes);
        expect_int(file_io_preadv(modeller->subject->file, modeller->part_offset + offset, &iov), 0);
        expect(bytes == 0 || memcmp(data, modeller->model + offset, bytes) == 0);
    }
}

static void run_modeller(void *arg)
{
    struct modeller *modeller = arg;
    modeller->model = xcalloc(1, MODEL_BYTES);
    char *data = buffer_get(REQUEST_BYTES);
    for (int i = 0; i < 60; i++)
        model_step(modeller, data);
    buffer_put(data, REQUEST_BYTES);
    free(modeller->model);
}

static int run_modellers(void *arg)
{
    struct modeller *modellers = arg;
    struct co_group group;
    co_group_init(&group);
    for (int i = 0; i < 6; i++)
        co_group_start(&group, "modeller", run_modeller, &modellers[i]);
    co_group_join(&group);
    return 0;
}

static void run_modellers_on_other_loop(void *arg)
{
    co_call_on(loop_io(0), "modellers", run_modellers, arg);
}

/* Two loops, six coroutines each, read and write at random, also behind the end of the file, which grows meanwhile. */
static void check_model(struct subject *subject)
{
    struct modeller modellers[12];
    struct co_group group;
    for (unsigned i = 0; i < ARRAY_SIZE(modellers); i++)
        modellers[i] = (struct modeller){ .subject = subject, .part_offset = i * MODEL_BYTES, .seed = i };
    co_group_init(&group);
    co_group_start(&group, "other loop", run_modellers_on_other_loop, &modellers[6]);
    run_modellers(modellers);
    co_group_join(&group);
}

CO_TEST(random_requests_of_two_loops_agree_with_a_model)
{
    at_each_place(check_model);
}

static void check_end(struct subject *subject)
{
    char *data = buffer_get(64 * KIB);
    memset(data, 'x', 8 * KIB);
    expect_int(write_at(subject->file, 0, data, 8 * KIB), 0);
    expect_int(file_io_ftruncate(subject->file, 5000), 0); /* the end lies inside a block */

    memset(data, 'y', 64 * KIB);
    expect_int(read_at(subject->file, 0, data, 64 * KIB), 0);
    for (size_t i = 0; i < 64 * KIB; i++)
        expect_int(data[i], i < 5000 ? 'x' : 0);

    memset(data, 'y', 64 * KIB);
    expect_int(read_at(subject->file, 16 * KIB, data, 16 * KIB), 0);
    for (size_t i = 0; i < 64 * KIB; i++)
        expect_int(data[i], i < 16 * KIB ? 0 : 'y');
    buffer_put(data, 64 * KIB);
}

CO_TEST(bytes_past_the_end_read_as_zero)
{
    at_each_place(check_end);
}

/* 512 bytes are a block of many disks, but need not be one of this. */
static void check_end_at_sector(struct subject *subject)
{
    char *data = buffer_get(16 * KIB);
    memset(data, 'x', 16 * KIB);
    expect_int(write_at(subject->file, 0, data, 16 * KIB), 0);
    expect_int(file_io_ftruncate(subject->file, 4096 + 512), 0);
    expect_int(read_at(subject->file, 0, data, 16 * KIB), 0);
    for (size_t i = 0; i < 16 * KIB; i++)
        expect_int(data[i], i < 4096 + 512 ? 'x' : 0);
    buffer_put(data, 16 * KIB);
}

CO_TEST(an_end_between_two_blocks_is_found)
{
    at_each_place(check_end_at_sector);
}

/* More pieces than any system call takes at once (IOV_MAX is 1024). */
static void check_pieces(struct subject *subject)
{
    enum { PIECES = 3000 };
    size_t step = subject->alignment == 1 ? 37 : subject->alignment;
    size_t pieces = subject->alignment == 1 ? PIECES : PIECES / 10;
    char *data = try_aligned_alloc(4096, pieces * step);
    char *back = try_aligned_alloc(4096, pieces * step);
    struct iovec *vec = xcalloc(pieces, sizeof(*vec));
    uint64_t seed = 9;
    for (size_t i = 0; i < pieces * step; i++)
        data[i] = (char)next_random(&seed);
    /* The memory in reverse order, so that a piece at the wrong place shows. */
    for (size_t i = 0; i < pieces; i++)
        vec[i] = (struct iovec){ data + (pieces - 1 - i) * step, step };
    struct iov iov = iov_of_vec(vec, pieces);
    expect_int(file_io_pwritev(subject->file, 0, &iov), 0);
    for (size_t i = 0; i < pieces; i++)
        vec[i].iov_base = back + (pieces - 1 - i) * step;
    expect_int(file_io_preadv(subject->file, 0, &iov), 0);
    expect_int(memcmp(data, back, pieces * step), 0);
    free(vec);
    free(back);
    free(data);
}

CO_TEST(any_number_of_pieces)
{
    at_each_place(check_pieces);
}

/* What the page cache does not hold comes from the disk. */
static void check_cold(struct subject *subject)
{
    char *data = buffer_get(1024 * KIB);
    for (unsigned i = 0; i < 1024 * KIB; i++)
        data[i] = (char)(i / 4096 + 1);
    expect_int(write_at(subject->file, 0, data, 1024 * KIB), 0);
    expect_int(file_io_fdatasync(subject->file), 0);
    for (unsigned round = 0; round < 3; round++) {
        posix_fadvise(file_io_fd(subject->file), 0, 0, POSIX_FADV_DONTNEED);
        if (round == 1) /* the first half is in the cache, the second is not */
            expect_int(read_at(subject->file, 0, data, 512 * KIB), 0);
        memset(data, 0, 1024 * KIB);
        expect_int(read_at(subject->file, 0, data, 1024 * KIB), 0);
        for (unsigned i = 0; i < 1024 * KIB; i++)
            expect_int(data[i], (char)(i / 4096 + 1));
    }
    buffer_put(data, 1024 * KIB);
}

CO_TEST(cold_and_half_cold_reads)
{
    at_each_place(check_cold);
}

static void check_calls(struct subject *subject)
{
    struct stat st;
    expect_int(file_io_ftruncate(subject->file, 1024 * KIB), 0);
    expect_int(file_io_fstat(subject->file, &st), 0);
    expect_int(st.st_size, 1024 * KIB);
    expect_int(st.st_blocks, 0);
    expect_int(file_io_fallocate(subject->file, 0, 0, 64 * KIB), 0);
    expect_int(file_io_fstat(subject->file, &st), 0);
    expect_int(st.st_blocks, 64 * KIB / 512);
    expect_int(file_io_fallocate(subject->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 64 * KIB), 0);
    expect_int(file_io_fstat(subject->file, &st), 0);
    expect_int(st.st_blocks, 0);
    expect_int(file_io_fdatasync(subject->file), 0);
}

static int get_size(void *arg)
{
    struct stat st;
    return fstat(*(int *)arg, &st) == 0 ? (int)st.st_size : -errno;
}

CO_TEST(calls_on_the_file)
{
    at_each_place(check_calls);
    struct subject subject;
    expect(subject_open(&subject, &places[0]));
    int fd = file_io_fd(subject.file);
    expect_int(file_io_ftruncate(subject.file, 777), 0);
    expect_int(file_io_blocking(subject.file, get_size, &fd), 777);
    subject_close(&subject);
}

static void check_bounds(struct subject *subject)
{
    char *data = buffer_get(8 * KIB);
    expect_int(write_at(subject->file, (uint64_t)INT64_MAX, data, 4096), -EINVAL);
    expect_int(write_at(subject->file, UINT64_MAX, data, 4096), -EINVAL);
    expect_int(read_at(subject->file, UINT64_MAX - 4095, data, 4096), -EINVAL);
    expect_int(file_io_ftruncate(subject->file, UINT64_MAX), -EINVAL);
    expect_int(file_io_fallocate(subject->file, 0, INT64_MAX, 1), -EINVAL);
    expect_int(write_at(subject->file, 0, data, 0), 0);
    expect_int(read_at(subject->file, 0, data, 0), 0);
    buffer_put(data, 8 * KIB);
}

CO_TEST(offsets_that_the_kernel_does_not_know_are_refused)
{
    at_each_place(check_bounds);
}

static struct file_io *open_for_errors(const char *path, int flags, bool direct)
{
    struct pool_domain *domain = pool_domain_create(path, 1);
    int fd = co_open(domain, path, flags, 0);
    expect(fd >= 0);
    return file_io_create(fd, domain, &(struct file_io_options){ .direct = direct });
}

CO_TEST(errors_come_back_as_they_are)
{
    char block[512] = "";
    expect_int(co_open(NULL, "/nonexistent/a", O_RDONLY, 0), -ENOENT);
    expect_int(co_close(NULL, 100000), -EBADF);

    struct file_io *full = open_for_errors("/dev/full", O_RDWR, false);
    expect_int(write_at(full, 0, block, sizeof(block)), -ENOSPC);
    expect_int(file_io_destroy(full), 0);

    struct file_io *read_only = open_for_errors("/proc/self/exe", O_RDONLY, false);
    expect_int(write_at(read_only, 0, block, sizeof(block)), -EBADF);
    expect_int(file_io_ftruncate(read_only, 0), -EINVAL);
    expect_int(file_io_destroy(read_only), 0);

    struct file_io *write_only = open_for_errors("/dev/null", O_WRONLY, false);
    expect_int(read_at(write_only, 0, block, sizeof(block)), -EBADF);
    expect_int(write_at(write_only, 0, block, sizeof(block)), 0);
    expect_int(file_io_destroy(write_only), 0);

    struct file_io *directory = open_for_errors("/", O_RDONLY, false);
    expect_int(read_at(directory, 0, block, sizeof(block)), -EISDIR);
    expect_int(file_io_destroy(directory), 0);
}

/* Direct requests that are not aligned are errors of that request; no way round may hide them. */
CO_TEST(misaligned_direct_requests_fail)
{
    struct subject subject;
    if (!subject_open(&subject, &places[2]))
        return;
    char *data = buffer_get(8 * KIB);
    memset(data, 'x', 8 * KIB);
    expect_int(write_at(subject.file, 0, data, 8 * KIB), 0);
    expect_int(read_at(subject.file, 1, data, 4096), -EINVAL);
    expect_int(write_at(subject.file, 1, data, 4096), -EINVAL);
    expect_int(write_at(subject.file, 0, data, 100), -EINVAL);
    buffer_put(data, 8 * KIB);
    subject_close(&subject);
}

struct late_write {
    struct subject *subject;
    struct co_event done;
};

static void write_a_lot(void *arg)
{
    struct late_write *late = arg;
    char *data = buffer_get(256 * KIB);
    memset(data, 'z', 256 * KIB);
    for (unsigned i = 0; i < 20; i++)
        expect_int(write_at(late->subject->file, (uint64_t)i * 256 * KIB, data, 256 * KIB), 0);
    buffer_put(data, 256 * KIB);
    co_event_set(&late->done);
}

/* The last write of one loop and the end of the file on another: the writer's thread must be off the file by then. */
static void check_end_of_life(struct subject *subject)
{
    struct late_write writes[2];
    for (unsigned i = 0; i < 2; i++) {
        writes[i].subject = subject;
        co_event_init(&writes[i].done);
        co_start_on(loop_io(i), "writer", write_a_lot, &writes[i]);
    }
    for (unsigned i = 0; i < 2; i++)
        co_event_wait(&writes[i].done, "a writer");
}

CO_TEST(a_file_may_be_destroyed_as_soon_as_its_requests_are_answered)
{
    for (int i = 0; i < 5; i++)
        at_each_place(check_end_of_life);
}

struct many {
    struct subject *subject;
    char *data;
};

static void read_in_crowd(void *arg)
{
    struct many *many = arg;
    char *data = buffer_get(4096);
    for (unsigned i = 0; i < 3; i++) {
        expect_int(read_at(many->subject->file, i * 4096, data, 4096), 0);
        expect_int(data[0], 'm');
    }
    buffer_put(data, 4096);
}

/* More requests than a ring holds (4096): the rest waits in line. ThreadSanitizer has no room for so many. */
#ifdef WITH_TSAN
#define CROWD 1000
#else
#define CROWD 6000
#endif

static void check_crowd(struct subject *subject)
{
    struct many many = { .subject = subject, .data = buffer_get(16 * KIB) };
    struct co_group group;
    memset(many.data, 'm', 16 * KIB);
    expect_int(write_at(subject->file, 0, many.data, 16 * KIB), 0);
    expect_int(file_io_fdatasync(subject->file), 0);
    posix_fadvise(file_io_fd(subject->file), 0, 0, POSIX_FADV_DONTNEED);
    co_group_init(&group);
    for (int i = 0; i < CROWD; i++)
        co_group_start(&group, "reader", read_in_crowd, &many);
    co_group_join(&group);
    buffer_put(many.data, 16 * KIB);
}

CO_TEST(thousands_of_requests_at_once)
{
    at_each_place(check_crowd);
}

/* What a container's seccomp filter does: io_uring_setup(2) fails with EPERM. */
static void refuse_io_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = ARRAY_SIZE(filter), .filter = filter };
    expect_int(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    expect_int(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void check_everything(void *arg)
{
    (void)arg;
    at_each_place(check_model);
    at_each_place(check_cold);
}

static void a_kernel_that_refuses_io_uring_is_good_enough(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        refuse_io_uring();
        run_as_coroutine("everything", check_everything);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kernel_that_refuses_io_uring_is_good_enough),
        cmocka_unit_test(random_requests_of_two_loops_agree_with_a_model),
        cmocka_unit_test(bytes_past_the_end_read_as_zero),
        cmocka_unit_test(an_end_between_two_blocks_is_found),
        cmocka_unit_test(any_number_of_pieces),
        cmocka_unit_test(cold_and_half_cold_reads),
        cmocka_unit_test(calls_on_the_file),
        cmocka_unit_test(offsets_that_the_kernel_does_not_know_are_refused),
        cmocka_unit_test(errors_come_back_as_they_are),
        cmocka_unit_test(misaligned_direct_requests_fail),
        cmocka_unit_test(a_file_may_be_destroyed_as_soon_as_its_requests_are_answered),
        cmocka_unit_test(thousands_of_requests_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
