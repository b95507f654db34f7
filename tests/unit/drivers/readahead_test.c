/* What a node of a far server keeps: fetches are held until the test lets them go. */
#include "blockcore/drivers/curl/readahead.h"

#include "blockcore/runtime/sync.h"
#include "tests/unit/runtime/co_test.h"

#include <errno.h>

#define LENGTH (100 * 4096 + 7)
#define AHEAD 8192

struct far {
    struct readahead *ahead;
    bool held;
    uint64_t early; /* bytes that come before the rest is held */
    int result;
    struct co_queue gate;
};

/* Each byte is what its offset makes of it. */
static char byte_at(uint64_t offset)
{
    return (char)(offset * 7 + offset / 251);
}

static int fetch(void *arg, struct range range, char *data, const struct arrival *arrival)
{
    struct far *far = arg;
    char text[64];
    expect(range.bytes > 0 && range_inside(range, LENGTH));
    snprintf(text, sizeof(text), "%llu+%llu", (unsigned long long)range.offset, (unsigned long long)range.bytes);
    note(text);
    for (uint64_t i = 0; i < min_u64(far->early, range.bytes); i++) {
        data[i] = byte_at(range.offset + i);
        arrival->arrived(arrival->arg, i + 1);
    }
    while (far->held)
        co_queue_wait(&far->gate, NULL, "the test");
    for (uint64_t i = 0; i < range.bytes && far->result == 0; i++)
        data[i] = byte_at(range.offset + i);
    return far->result;
}

static void begin(struct far *far, uint64_t ahead_bytes)
{
    *far = (struct far){ 0 };
    co_queue_init(&far->gate);
    const struct readahead_source source = { fetch, far, LENGTH };
    far->ahead = readahead_create(&source, ahead_bytes);
}

static void end(struct far *far)
{
    readahead_destroy(far->ahead);
    co_queue_fini(&far->gate);
}

static void let_go(struct far *far)
{
    far->held = false;
    co_queue_wake_all(&far->gate);
}

/* In two pieces, as requests come. */
static int read_and_compare(struct far *far, uint64_t offset, size_t bytes)
{
    char *data = malloc(bytes);
    struct iovec vec[2] = { { data, bytes / 2 }, { data + bytes / 2, bytes - bytes / 2 } };
    struct iov iov = iov_of_vec(vec, 2);
    int ret = readahead_read(far->ahead, range_make(offset, bytes), &iov);
    for (size_t i = 0; i < bytes && ret == 0; i++)
        expect(data[i] == byte_at(offset + i));
    free(data);
    return ret;
}

struct reader {
    struct far *far;
    uint64_t offset;
    size_t bytes;
    int ret;
};

static void reader_entry(void *arg)
{
    struct reader *reader = arg;
    reader->ret = read_and_compare(reader->far, reader->offset, reader->bytes);
}

static void start(struct co_group *group, struct reader *reader)
{
    co_group_start(group, "reader", reader_entry, reader);
}

CO_TEST(what_comes_next_is_there_already)
{
    struct far far;
    begin(&far, AHEAD);
    expect_int(read_and_compare(&far, 0, 4096), 0);
    expect_int(read_and_compare(&far, 4096, 4096), 0);
    expect_int(read_and_compare(&far, 1, 3 * 4096 - 1), 0);
    expect_text(noted(), "0+12288");
    end(&far);
}

CO_TEST(only_what_is_not_there_is_fetched)
{
    struct far far;
    begin(&far, AHEAD);
    expect_int(read_and_compare(&far, 0, 4096), 0);
    expect_int(read_and_compare(&far, 8192, 8192), 0);
    expect_text(noted(), "0+12288 12288+12288");
    end(&far);
}

CO_TEST(nothing_is_fetched_behind_the_end)
{
    struct far far;
    begin(&far, AHEAD);
    expect_int(read_and_compare(&far, LENGTH - 7, 7), 0);
    expect_int(read_and_compare(&far, LENGTH - 9, 2), 0);
    expect_text(noted(), "409600+7 409598+9");
    end(&far);
}

CO_TEST(without_readahead_only_what_was_asked_for_is_fetched)
{
    struct far far;
    begin(&far, 0);
    expect_int(read_and_compare(&far, 512, 512), 0);
    expect_int(read_and_compare(&far, 1024, 512), 0);
    expect_text(noted(), "512+512 1024+512");
    end(&far);
}

CO_TEST(who_reads_what_is_on_its_way_waits_for_it)
{
    struct far far;
    struct co_group group;
    struct reader readers[] = { { &far, 0, 4096, 1 }, { &far, 4096, 4096, 1 }, { &far, 100, 10, 1 } };
    begin(&far, AHEAD);
    far.held = true;
    co_group_init(&group);
    for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
        start(&group, &readers[i]);
    let_go(&far);
    co_group_join(&group);
    for (size_t i = 0; i < ARRAY_SIZE(readers); i++)
        expect_int(readers[i].ret, 0);
    expect_text(noted(), "0+12288");
    end(&far);
}

CO_TEST(who_waits_for_a_fetch_that_fails_fails_with_it)
{
    struct far far;
    struct co_group group;
    struct reader readers[] = { { &far, 0, 4096, 1 }, { &far, 4096, 4096, 1 } };
    begin(&far, AHEAD);
    far.held = true;
    far.result = -EIO;
    co_group_init(&group);
    start(&group, &readers[0]);
    start(&group, &readers[1]);
    let_go(&far);
    co_group_join(&group);
    expect_int(readers[0].ret, -EIO);
    expect_int(readers[1].ret, -EIO);
    expect_text(noted(), "0+12288");
    far.result = 0;
    expect_int(read_and_compare(&far, 0, 4096), 0);
    expect_text(noted(), "0+12288");
    end(&far);
}

CO_TEST(nobody_waits_for_what_only_comes_along)
{
    struct far far;
    struct co_group group;
    struct reader late = { &far, 4096, 4096, 1 };
    begin(&far, AHEAD);
    far.held = true;
    far.early = 5000;
    co_group_init(&group);
    expect_int(read_and_compare(&far, 0, 4096), 0);
    expect_int(read_and_compare(&far, 4000, 1000), 0);
    start(&group, &late);
    expect_int(late.ret, 1);
    let_go(&far);
    co_group_join(&group);
    expect_int(late.ret, 0);
    expect_text(noted(), "0+12288");
    end(&far);
}

CO_TEST(what_came_before_a_fetch_failed_stays)
{
    struct far far;
    begin(&far, AHEAD);
    far.early = 5000;
    far.result = -EIO;
    expect_int(read_and_compare(&far, 0, 4096), 0);
    expect_int(read_and_compare(&far, 100, 4900), 0);
    expect_text(noted(), "0+12288");
    expect_int(read_and_compare(&far, 5000, 5001), -EIO);
    expect_text(noted(), "5000+13193");
    expect_int(read_and_compare(&far, 0, 4096), 0);
    end(&far);
}

CO_TEST(the_oldest_window_gives_way)
{
    struct far far;
    begin(&far, 0);
    for (unsigned i = 0; i < READAHEAD_WINDOWS_MAX; i++)
        expect_int(read_and_compare(&far, i * 4096, 4096), 0);
    expect_int(read_and_compare(&far, 0, 4096), 0); /* used again: the second one is the oldest now */
    noted();
    expect_int(read_and_compare(&far, 50 * 4096, 4096), 0);
    expect_int(read_and_compare(&far, 0, 4096), 0);
    expect_int(read_and_compare(&far, 4096, 4096), 0);
    expect_text(noted(), "204800+4096 4096+4096");
    end(&far);
}

CO_TEST(more_fetches_than_windows_wait_for_one)
{
    struct far far;
    struct co_group group;
    struct reader readers[READAHEAD_WINDOWS_MAX + 3];
    begin(&far, 0);
    far.held = true;
    co_group_init(&group);
    for (unsigned i = 0; i < ARRAY_SIZE(readers); i++) {
        readers[i] = (struct reader){ &far, i * 8192, 512, 1 };
        start(&group, &readers[i]);
    }
    expect_text(noted(), "0+512 8192+512 16384+512 24576+512 32768+512 40960+512 49152+512 57344+512");
    let_go(&far);
    co_group_join(&group);
    for (unsigned i = 0; i < ARRAY_SIZE(readers); i++)
        expect_int(readers[i].ret, 0);
    noted();
    end(&far);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_comes_next_is_there_already),
        cmocka_unit_test(only_what_is_not_there_is_fetched),
        cmocka_unit_test(nothing_is_fetched_behind_the_end),
        cmocka_unit_test(without_readahead_only_what_was_asked_for_is_fetched),
        cmocka_unit_test(who_reads_what_is_on_its_way_waits_for_it),
        cmocka_unit_test(who_waits_for_a_fetch_that_fails_fails_with_it),
        cmocka_unit_test(nobody_waits_for_what_only_comes_along),
        cmocka_unit_test(what_came_before_a_fetch_failed_stays),
        cmocka_unit_test(the_oldest_window_gives_way),
        cmocka_unit_test(more_fetches_than_windows_wait_for_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
