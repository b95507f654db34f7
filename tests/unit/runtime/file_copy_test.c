/* What a thread carries from file to file, and where it stops so that others copy what is behind. */
#include "blockcore/base/memory.h"
#include "blockcore/runtime/buffer.h"
#include "blockcore/runtime/file_io.h"
#include "blockcore/runtime/pool.h"
#include "tests/unit/runtime/co_test.h"

#include <errno.h>
#include <unistd.h>

#define KIB 1024u
#define BYTES (1536 * KIB)
#define UNIT (64 * KIB)
#define SHIFT (8 * KIB) /* the copy lies elsewhere than the original */

struct pair {
    struct file_io *from;
    struct file_io *to;
    char *data; /* what the source holds */
};

static struct file_io *open_file(const char *directory, int flags)
{
    CLEANUP(free) char *path = xasprintf("%s/runtime_file_copy_test.%d", directory, (int)getpid());
    struct pool_domain *domain = pool_domain_create(path, 0);
    int made = co_open(domain, path, O_RDWR | O_CREAT | O_EXCL, 0600);
    expect(made >= 0);
    int fd = co_open(domain, path, flags, 0);
    expect(fd >= 0);
    expect_int(co_close(domain, made), 0);
    unlink(path);
    return file_io_create(fd, domain, &(struct file_io_options){ .direct = flags & O_DIRECT });
}

static void move(struct file_io *file, uint64_t offset, char *data, size_t bytes, bool write)
{
    struct iovec storage;
    struct iov iov = iov_of(&storage, data, bytes);
    expect_int(write ? file_io_pwritev(file, offset, &iov) : file_io_preadv(file, offset, &iov), 0);
}

static struct pair pair_open(const char *from, const char *to)
{
    struct pair pair = { .from = open_file(from, O_RDWR), .to = open_file(to, O_RDWR), .data = buffer_get(BYTES) };
    for (unsigned i = 0; i < BYTES; i++)
        pair.data[i] = (char)(i / 4096 + i % 251 + 1);
    move(pair.from, 0, pair.data, BYTES, true);
    return pair;
}

static void pair_close(struct pair *pair)
{
    buffer_put(pair->data, BYTES);
    expect_int(file_io_destroy(pair->from), 0);
    expect_int(file_io_destroy(pair->to), 0);
}

/* The target holds the first @bytes, and nothing behind them. */
static void expect_copied(const struct pair *pair, uint64_t bytes)
{
    char *got = buffer_get(BYTES);
    move(pair->to, SHIFT, got, BYTES, false);
    expect(memcmp(got, pair->data, bytes) == 0);
    for (uint64_t i = bytes; i < BYTES; i++)
        expect_int(got[i], 0);
    buffer_put(got, BYTES);
}

static int64_t carry(const struct pair *pair, uint64_t bytes, uint64_t zero_unit)
{
    return file_io_carry(pair->to, SHIFT, pair->from, 0, bytes, zero_unit);
}

CO_TEST(all_of_it_is_carried_within_a_file_system_and_between_two)
{
    static const char *const places[] = { ".", "/dev/shm" };
    for (unsigned i = 0; i < 4; i++) {
        struct pair pair = pair_open(places[i / 2], places[i % 2]);
        expect_int(carry(&pair, BYTES, UNIT), BYTES);
        expect_copied(&pair, BYTES);
        pair_close(&pair);
    }
}

CO_TEST(odd_lengths_are_carried_too)
{
    struct pair pair = pair_open(".", ".");
    expect_int(carry(&pair, 777, UNIT), 777);
    expect_copied(&pair, 777);
    expect_int(carry(&pair, 300 * KIB + 1, 0), 300 * KIB + 1);
    expect_copied(&pair, 300 * KIB + 1);
    pair_close(&pair);
}

CO_TEST(it_stops_before_a_unit_of_zeroes)
{
    for (unsigned zero = 0; zero < BYTES / UNIT; zero += 5) {
        struct pair pair = pair_open("/dev/shm", ".");
        memset(pair.data + zero * UNIT, 0, UNIT);
        move(pair.from, 0, pair.data, BYTES, true);
        expect_int(carry(&pair, BYTES, UNIT), zero * UNIT);
        expect_copied(&pair, zero * UNIT);
        expect_int(carry(&pair, BYTES, 0), BYTES);
        expect_copied(&pair, BYTES);
        pair_close(&pair);
    }
}

/* The disk is waited for by others, who do so for many requests at once. */
CO_TEST(it_stops_before_what_the_page_cache_does_not_hold)
{
    struct pair pair = pair_open(".", "/dev/shm");
    expect_int(file_io_fdatasync(pair.from), 0);
    posix_fadvise(file_io_fd(pair.from), 0, 0, POSIX_FADV_DONTNEED);
    move(pair.from, 0, pair.data, 512 * KIB, false);
    int64_t done = carry(&pair, BYTES, UNIT);
    expect(done >= 0 && done <= BYTES);
    expect_copied(&pair, (uint64_t)done);
    move(pair.from, 0, pair.data, BYTES, false);
    expect_int(carry(&pair, BYTES, UNIT), BYTES);
    expect_copied(&pair, BYTES);
    pair_close(&pair);
}

CO_TEST(it_stops_at_the_end_of_the_source)
{
    struct pair pair = pair_open(".", ".");
    expect_int(file_io_ftruncate(pair.from, 600 * KIB), 0);
    int64_t done = carry(&pair, BYTES, UNIT);
    expect(done >= 0 && done <= 600 * KIB);
    expect_copied(&pair, (uint64_t)done);
    pair_close(&pair);
}

/* Whoever copies what is left writes there, and meets the error. */
CO_TEST(a_write_that_fails_carries_nothing)
{
    struct pair pair = pair_open(".", ".");
    struct file_io *to = open_file("/dev/shm", O_RDONLY);
    expect_int(file_io_carry(to, 0, pair.from, 0, BYTES, UNIT), 0);
    expect_int(file_io_carry(pair.to, INT64_MAX - 1, pair.from, 0, BYTES, UNIT), 0);
    expect_int(file_io_destroy(to), 0);
    pair_close(&pair);
}

CO_TEST(what_goes_around_the_page_cache_is_not_carried)
{
    struct pair pair = pair_open(".", ".");
    struct file_io *direct = open_file(".", O_RDWR | O_DIRECT);
    expect_int(file_io_carry(direct, 0, pair.from, 0, BYTES, UNIT), -EOPNOTSUPP);
    expect_int(file_io_carry(pair.to, 0, direct, 0, BYTES, UNIT), -EOPNOTSUPP);
    expect_int(file_io_destroy(direct), 0);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_is_carried_within_a_file_system_and_between_two),
        cmocka_unit_test(odd_lengths_are_carried_too),
        cmocka_unit_test(it_stops_before_a_unit_of_zeroes),
        cmocka_unit_test(it_stops_before_what_the_page_cache_does_not_hold),
        cmocka_unit_test(it_stops_at_the_end_of_the_source),
        cmocka_unit_test(a_write_that_fails_carries_nothing),
        cmocka_unit_test(what_goes_around_the_page_cache_is_not_carried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
