/* The buckets of limits, with time that the test makes. */
#include "blockcore/filters/throttle_bucket.h"

#include "blockcore/base/range.h"
#include "tests/unit/base/unit.h"

#include <math.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define BEGIN (7 * SECOND)

static struct throttle_config config;
static struct throttle_buckets buckets;
static uint64_t now;

static int reset(void **state)
{
    (void)state;
    throttle_config_init(&config);
    now = BEGIN;
    return 0;
}

static void limit(enum throttle_rate rate, int64_t average, int64_t burst, int64_t burst_seconds)
{
    config.rates[rate] =
        (struct throttle_rate_limit){ .average = average, .burst = burst, .burst_seconds = burst_seconds };
    throttle_buckets_init(&buckets, &config, now);
}

static uint64_t wait_of(enum throttle_direction direction)
{
    return throttle_buckets_wait(&buckets, direction, now);
}

/* How many requests of @bytes pass in the next @ns, from somebody who always has one more. */
static unsigned pass_for(enum throttle_direction direction, uint64_t bytes, uint64_t ns)
{
    unsigned passed = 0;
    for (uint64_t end = now + ns;;) {
        uint64_t wait = wait_of(direction);
        if (wait > end - now) {
            now = end;
            return passed;
        }
        now += wait;
        if (wait == 0) {
            throttle_buckets_account(&buckets, direction, bytes);
            passed++;
        }
    }
}

static void assert_near(double value, double expected)
{
    if (fabs(value - expected) > expected / 100 + 2)
        fail_msg("%f is not about %f", value, expected);
}

static void what_is_not_limited_never_waits(void **state)
{
    (void)state;
    throttle_buckets_init(&buckets, &config, now);
    assert_false(throttle_config_limits(&config));
    throttle_buckets_account(&buckets, THROTTLE_WRITE, UINT64_MAX);
    assert_int_equal(wait_of(THROTTLE_WRITE), 0);
    config.rates[THROTTLE_BPS_WRITE].average = 1;
    assert_true(throttle_config_limits(&config));
}

static void a_bucket_without_burst_holds_a_tenth_of_a_second(void **state)
{
    (void)state;
    limit(THROTTLE_IOPS_TOTAL, 100, 0, 1);
    assert_int_equal(pass_for(THROTTLE_READ, 512, 0), 11); /* the last one makes it overflow */
    assert_near((double)wait_of(THROTTLE_READ), 10.0 * MS);
    assert_near((double)wait_of(THROTTLE_WRITE), 10.0 * MS);
    assert_near(pass_for(THROTTLE_READ, 512, 10 * SECOND), 1000);
}

static void a_limit_of_one_kind_leaves_the_other_alone(void **state)
{
    (void)state;
    limit(THROTTLE_IOPS_READ, 100, 0, 1);
    pass_for(THROTTLE_READ, 512, SECOND + MS);
    assert_int_not_equal(wait_of(THROTTLE_READ), 0);
    for (unsigned i = 0; i < 1000; i++)
        throttle_buckets_account(&buckets, THROTTLE_WRITE, 1 << 20);
    assert_int_equal(wait_of(THROTTLE_WRITE), 0);
}

static void requests_and_bytes_are_limited_at_once(void **state)
{
    (void)state;
    limit(THROTTLE_IOPS_WRITE, 1000, 0, 1);
    limit(THROTTLE_BPS_TOTAL, 1 << 20, 0, 1);
    assert_near(pass_for(THROTTLE_WRITE, 512, 10 * SECOND), 1000 * 10 + 100);
    assert_near(pass_for(THROTTLE_WRITE, 1 << 16, 10 * SECOND), 16 * 10);
    assert_near(pass_for(THROTTLE_READ, 1 << 16, 10 * SECOND), 16 * 10);
}

/* The numbers of the example in QEMU's docs/throttle.txt. */
static void a_burst_lasts_as_long_as_it_may(void **state)
{
    (void)state;
    limit(THROTTLE_IOPS_TOTAL, 100, 2000, 60);
    assert_near(pass_for(THROTTLE_READ, 512, 60 * SECOND), 2000 * 60 + 200);
    assert_near(pass_for(THROTTLE_READ, 512, 3 * SECOND), 2000 * 3);
    assert_near(pass_for(THROTTLE_READ, 512, 100 * SECOND), 100 * 100 + 100);
    now += 600 * SECOND; /* half of the bucket runs out */
    assert_near(pass_for(THROTTLE_READ, 512, 30 * SECOND), 2000 * 30 + 200);
}

static void a_short_burst_is_all_at_once(void **state)
{
    (void)state;
    limit(THROTTLE_BPS_READ, 1000, 5000, 1);
    assert_int_equal(pass_for(THROTTLE_READ, 1000, 0), 6);
    assert_near((double)wait_of(THROTTLE_READ), 1.0 * SECOND);
}

static void long_requests_count_as_several(void **state)
{
    (void)state;
    config.request_bytes = 4096;
    limit(THROTTLE_IOPS_TOTAL, 100, 0, 1);
    assert_near(pass_for(THROTTLE_READ, 512, 10 * SECOND), 1000);
    assert_near(pass_for(THROTTLE_READ, 8192, 10 * SECOND), 500);
    assert_near(pass_for(THROTTLE_READ, 6144, 10 * SECOND), 667);
}

static void a_request_is_never_too_large_but_the_next_waits(void **state)
{
    (void)state;
    limit(THROTTLE_BPS_WRITE, 1000, 0, 1);
    assert_int_equal(wait_of(THROTTLE_WRITE), 0);
    throttle_buckets_account(&buckets, THROTTLE_WRITE, 10100);
    assert_near((double)wait_of(THROTTLE_WRITE), 10.0 * SECOND);
    throttle_buckets_account(&buckets, THROTTLE_WRITE, UINT64_MAX);
    assert_int_equal(wait_of(THROTTLE_WRITE), THROTTLE_WAIT_MAX_NS);
    now = UINT64_MAX / 2;
    assert_true(wait_of(THROTTLE_WRITE) > 0);
}

static void a_clock_that_goes_back_changes_nothing(void **state)
{
    (void)state;
    limit(THROTTLE_IOPS_TOTAL, 1, 0, 1);
    throttle_buckets_account(&buckets, THROTTLE_READ, 1);
    uint64_t wait = wait_of(THROTTLE_READ);
    now -= SECOND;
    assert_int_equal(wait_of(THROTTLE_READ), wait);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_not_limited_never_waits, reset),
        cmocka_unit_test_setup(a_bucket_without_burst_holds_a_tenth_of_a_second, reset),
        cmocka_unit_test_setup(a_limit_of_one_kind_leaves_the_other_alone, reset),
        cmocka_unit_test_setup(requests_and_bytes_are_limited_at_once, reset),
        cmocka_unit_test_setup(a_burst_lasts_as_long_as_it_may, reset),
        cmocka_unit_test_setup(a_short_burst_is_all_at_once, reset),
        cmocka_unit_test_setup(long_requests_count_as_several, reset),
        cmocka_unit_test_setup(a_request_is_never_too_large_but_the_next_waits, reset),
        cmocka_unit_test_setup(a_clock_that_goes_back_changes_nothing, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
