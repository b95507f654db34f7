/* The engine that moves data for jobs: what is copied, how much at once, and what becomes of errors. */
#include "tests/unit/support/mem_drivers.h"

#include "blockcore/io/block_status.h"
#include "blockcore/jobs/copier.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GRANULE 4096u
#define GRANULES 64u
#define BYTES (GRANULE * GRANULES)

/* A source in letters, one for each granule: 'd' data, 'z' zero, '.' none of the job's business. */
struct work {
    const char *source;
    char copied[GRANULES + 1]; /* what was done to each granule: 'd', 'z' or '.' */
    unsigned pieces;
    uint64_t longest;
    unsigned running, most_running;
    uint64_t bytes_running, most_bytes;

    struct range fails; /* pieces that touch it fail, so many times */
    unsigned failures;
    int plan_fails; /* once */
    enum copier_answer answer;
    unsigned answered;
    bool held;       /* pieces wait until they are let go */
    bool plans_held; /* plans do */
    unsigned plans;
    struct co_queue go;
    struct co_event released;
};

static int plan(void *arg, struct range range, struct extents *out)
{
    struct work *work = arg;
    work->plans++;
    while (work->plans_held)
        co_queue_wait(&work->go, NULL, "a plan that is held");
    if (work->plan_fails) {
        int ret = work->plan_fails;
        work->plan_fails = 0;
        return ret;
    }
    for (uint64_t at = range.offset; at < range_end(range) && !extents_full(out); at += GRANULE) {
        char letter = work->source[at / GRANULE];
        struct extent extent = { .offset = at, .bytes = min_u64(GRANULE, range_end(range) - at) };
        if (letter != '.')
            extent.flags = EXTENT_ALLOCATED | (letter == 'z' ? EXTENT_ZERO : 0);
        extents_append(out, &extent);
    }
    return 0;
}

static int copy(void *arg, struct copier_piece *piece)
{
    struct work *work = arg;
    work->pieces++;
    work->longest = max_u64(work->longest, piece->range.bytes);
    work->most_running = (unsigned)max_u64(work->most_running, ++work->running);
    work->bytes_running += piece->range.bytes;
    work->most_bytes = max_u64(work->most_bytes, work->bytes_running);
    while (work->held)
        co_queue_wait(&work->go, NULL, "the test");
    for (int i = 0; i < 10; i++)
        co_yield ();
    work->running--;
    work->bytes_running -= piece->range.bytes;
    if (work->failures > 0 && range_overlaps(piece->range, work->fails)) {
        work->failures--;
        piece->write_failed = true;
        return -EIO;
    }
    for (uint64_t at = piece->range.offset; at < range_end(piece->range); at += GRANULE)
        work->copied[at / GRANULE] = piece->zero ? 'z' : 'd';
    return 0;
}

static enum copier_answer failed(void *arg, const struct copier_piece *piece, int ret)
{
    struct work *work = arg;
    assert_true(piece->write_failed ? ret == -EIO : ret == -ENXIO);
    work->answered++;
    return work->answer;
}

static const struct copier_ops ops = { .plan = plan, .copy = copy, .failed = failed };

struct fixture {
    struct work work;
    struct handle *handle;
    struct copier *copier;
};

static struct copier_options options_for(struct fixture *fixture)
{
    return (struct copier_options){
        .ops = &ops,
        .arg = &fixture->work,
        .handle = fixture->handle,
        .bytes = BYTES,
        .granule = GRANULE,
    };
}

static void fixture_init(struct fixture *fixture, const char *source)
{
    memset(fixture, 0, sizeof(*fixture));
    add_mem("disk", BYTES);
    expect_success(handle_open(node_find("disk"), "job", PERM_CONSISTENT_READ, PERM_ALL, &fixture->handle));
    assert_int_equal(strlen(source), GRANULES);
    fixture->work.source = source;
    memset(fixture->work.copied, '.', GRANULES);
    co_queue_init(&fixture->work.go);
}

static void make_copier(struct fixture *fixture, const struct copier_options *options)
{
    expect_success(copier_create(options, &fixture->copier));
    copier_add(fixture->copier, range_make(0, BYTES));
}

static void released(void *arg)
{
    struct work *work = arg;
    co_event_set(&work->released);
}

static void fixture_fini(struct fixture *fixture)
{
    co_event_init(&fixture->work.released);
    copier_destroy(fixture->copier, released, &fixture->work);
    co_event_wait(&fixture->work.released, "the copier");
    handle_close(fixture->handle);
    co_queue_fini(&fixture->work.go);
}

#define COPIER_TEST(name)                                                                                              \
    static void name##_body(void *arg);                                                                                \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        with_runtime(1, name##_body, NULL);                                                                            \
    }                                                                                                                  \
    static void name##_body(void *arg __attribute__((unused)))

static const char mixed[] = "dddd....zzzzzzzzdd.d.dzzzz......ddddddddddddddddd.z.d.zdddddddd.";
static const char all_data[] = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";

COPIER_TEST(data_is_copied_zeroes_are_written_as_such_and_the_rest_is_left_alone)
{
    struct fixture fixture;
    fixture_init(&fixture, mixed);
    struct copier_options options = options_for(&fixture);
    make_copier(&fixture, &options);
    assert_int_equal(copier_left(fixture.copier), BYTES);
    assert_int_equal(copier_run(fixture.copier), 0);
    assert_string_equal(fixture.work.copied, mixed);
    assert_int_equal(copier_left(fixture.copier), 0);
    fixture_fini(&fixture);
}

COPIER_TEST(only_what_is_left_is_copied)
{
    struct fixture fixture;
    fixture_init(&fixture, all_data);
    struct copier_options options = options_for(&fixture);
    expect_success(copier_create(&options, &fixture.copier));
    copier_add(fixture.copier, range_make(3 * GRANULE + 1, 1));
    copier_add(fixture.copier, range_make(62 * GRANULE, 2 * GRANULE));
    assert_int_equal(copier_run(fixture.copier), 0);
    assert_string_equal(fixture.work.copied, "...d..........................................................dd");
    assert_int_equal(copier_run(fixture.copier), 0);
    assert_int_equal(fixture.work.pieces, 2);
    fixture_fini(&fixture);
}

COPIER_TEST(pieces_are_no_longer_than_a_chunk_and_no_more_than_allowed_are_on_their_way)
{
    struct fixture fixture;
    fixture_init(&fixture, all_data);
    struct copier_options options = options_for(&fixture);
    options.chunk_max = 4 * GRANULE;
    options.pieces_max = 3;
    make_copier(&fixture, &options);
    assert_int_equal(copier_run(fixture.copier), 0);
    assert_string_equal(fixture.work.copied, all_data);
    assert_int_equal(fixture.work.longest, 4 * GRANULE);
    assert_int_equal(fixture.work.most_running, 3);
    fixture_fini(&fixture);
}

COPIER_TEST(no_more_bytes_than_allowed_are_on_their_way)
{
    struct fixture fixture;
    fixture_init(&fixture, all_data);
    struct copier_options options = options_for(&fixture);
    options.chunk_max = 4 * GRANULE;
    options.bytes_max = 9 * GRANULE;
    make_copier(&fixture, &options);
    assert_int_equal(copier_run(fixture.copier), 0);
    assert_string_equal(fixture.work.copied, all_data);
    assert_int_equal(fixture.work.most_bytes, 8 * GRANULE);
    fixture_fini(&fixture);
}

COPIER_TEST(a_piece_that_failed_is_tried_again_when_the_job_says_so)
{
    struct fixture fixture;
    fixture_init(&fixture, all_data);
    fixture.work.fails = range_make(5 * GRANULE, 1);
    fixture.work.failures = 2;
    fixture.work.answer = COPIER_TRY_AGAIN;
    struct copier_options options = options_for(&fixture);
    options.chunk_max = 4 * GRANULE;
    make_copier(&fixture, &options);
    assert_int_equal(copier_run(fixture.copier), 0);
    assert_string_equal(fixture.work.copied, all_data);
    assert_int_equal(fixture.work.answered, 2);
    fixture_fini(&fixture);
}

COPIER_TEST(a_piece_that_failed_is_left_out_when_the_job_says_so)
{
    struct fixture fixture;
    fixture_init(&fixture, all_data);
    fixture.work.fails = range_make(5 * GRANULE, 1);
    fixture.work.failures = 1;
    fixture.work.answer = COPIER_LEAVE_OUT;
    struct copier_options options = options_for(&fixture);
    options.chunk_max = 4 * GRANULE;
    make_copier(&fixture, &options);
    assert_int_equal(copier_run(fixture.copier), 0);
    assert_string_equal(fixture.work.copied, "dddd....dddddddddddddddddddddddddddddddddddddddddddddddddddddddd");
    assert_int_equal(copier_left(fixture.copier), 0);
    fixture_fini(&fixture);
}

COPIER_TEST(when_a_piece_gives_up_the_rest_is_left_and_can_be_copied_later)
{
    struct fixture fixture;
    fixture_init(&fixture, all_data);
    fixture.work.fails = range_make(5 * GRANULE, 1);
    fixture.work.failures = 1;
    fixture.work.answer = COPIER_GIVE_UP;
    struct copier_options options = options_for(&fixture);
    options.chunk_max = 4 * GRANULE;
    options.pieces_max = 2;
    make_copier(&fixture, &options);
    assert_int_equal(copier_run(fixture.copier), -EIO);
    assert_true(copier_left(fixture.copier) >= 4 * GRANULE);
    for (unsigned i = 0; i < GRANULES; i++)
        assert_true(fixture.work.copied[i] == 'd' || copier_left(fixture.copier) > 0);
    assert_int_equal(copier_run(fixture.copier), 0);
    assert_string_equal(fixture.work.copied, all_data);
    fixture_fini(&fixture);
}

COPIER_TEST(a_source_that_cannot_say_what_it_has_is_an_error_of_reading)
{
    struct fixture fixture;
    fixture_init(&fixture, all_data);
    fixture.work.plan_fails = -ENXIO;
    fixture.work.answer = COPIER_GIVE_UP;
    struct copier_options options = options_for(&fixture);
    make_copier(&fixture, &options);
    assert_int_equal(copier_run(fixture.copier), -ENXIO);
    assert_int_equal(copier_left(fixture.copier), BYTES);
    assert_int_equal(copier_run(fixture.copier), 0);
    assert_string_equal(fixture.work.copied, all_data);
    fixture_fini(&fixture);
}

struct runner {
    struct copier *copier;
    int ret;
    struct co_event done;
};

static void run_copier(void *arg)
{
    struct runner *runner = arg;
    runner->ret = copier_run(runner->copier);
    co_event_set(&runner->done);
}

static void start_runner(struct runner *runner, struct copier *copier)
{
    *runner = (struct runner){ .copier = copier };
    co_event_init(&runner->done);
    co_start("runner", run_copier, runner);
}

static int let_go(void *arg)
{
    struct work *work = arg;
    work->held = false;
    work->plans_held = false;
    co_queue_wake_all(&work->go);
    return 0;
}

static int wait_running(void *arg)
{
    const struct work *work = arg;
    while (work->running == 0)
        co_yield ();
    return 0;
}

static int wait_planning(void *arg)
{
    const struct work *work = arg;
    while (work->plans == 0)
        co_yield ();
    return 0;
}

static int wait_copied(void *arg)
{
    const struct work *work = arg;
    while (work->copied[0] == '.')
        co_yield ();
    return 0;
}

COPIER_TEST(when_interrupted_pieces_on_their_way_end_and_no_other_begins)
{
    struct fixture fixture;
    struct runner runner;
    fixture_init(&fixture, all_data);
    fixture.work.held = true;
    struct copier_options options = options_for(&fixture);
    options.chunk_max = 4 * GRANULE;
    options.pieces_max = 2;
    make_copier(&fixture, &options);
    start_runner(&runner, fixture.copier);
    co_call_on(loop_io(0), "wait", wait_running, &fixture.work);
    copier_interrupt(fixture.copier);
    co_call_on(loop_io(0), "let go", let_go, &fixture.work);
    co_event_wait(&runner.done, "runner");
    assert_int_equal(runner.ret, -EINTR);
    assert_in_range(fixture.work.pieces, 1, 2);
    assert_int_equal(copier_left(fixture.copier), BYTES - fixture.work.pieces * 4 * GRANULE);
    assert_int_equal(copier_run(fixture.copier), 0);
    assert_string_equal(fixture.work.copied, all_data);
    fixture_fini(&fixture);
}

COPIER_TEST(pieces_that_hang_are_left_behind_when_the_copier_is_abandoned)
{
    struct fixture fixture;
    struct runner runner;
    fixture_init(&fixture, all_data);
    fixture.work.held = true;
    struct copier_options options = options_for(&fixture);
    make_copier(&fixture, &options);
    start_runner(&runner, fixture.copier);
    co_call_on(loop_io(0), "wait", wait_running, &fixture.work);
    copier_abandon(fixture.copier);
    co_event_wait(&runner.done, "runner");
    assert_int_equal(runner.ret, -EINTR);

    /* It is released when they have ended after all, and nobody is asked about their errors. */
    co_event_init(&fixture.work.released);
    copier_destroy(fixture.copier, released, &fixture.work);
    fixture.work.fails = range_make(0, BYTES);
    fixture.work.failures = 100;
    assert_false(co_event_is_set(&fixture.work.released));
    co_call_on(loop_io(0), "let go", let_go, &fixture.work);
    co_event_wait(&fixture.work.released, "the copier");
    assert_int_equal(fixture.work.answered, 0);
    handle_close(fixture.handle);
    co_queue_fini(&fixture.work.go);
}

COPIER_TEST(a_plan_that_hangs_is_left_behind_when_the_copier_is_abandoned)
{
    struct fixture fixture;
    struct runner runner;
    fixture_init(&fixture, all_data);
    fixture.work.plans_held = true;
    struct copier_options options = options_for(&fixture);
    make_copier(&fixture, &options);
    start_runner(&runner, fixture.copier);
    co_call_on(loop_io(0), "wait", wait_planning, &fixture.work);
    copier_abandon(fixture.copier);
    co_event_wait(&runner.done, "runner");
    assert_int_equal(runner.ret, -EINTR);

    co_event_init(&fixture.work.released);
    copier_destroy(fixture.copier, released, &fixture.work);
    assert_false(co_event_is_set(&fixture.work.released));
    co_call_on(loop_io(0), "let go", let_go, &fixture.work);
    co_event_wait(&fixture.work.released, "the copier");
    assert_int_equal(fixture.work.pieces, 0);
    handle_close(fixture.handle);
    co_queue_fini(&fixture.work.go);
}

COPIER_TEST(a_limit_of_speed_holds_pieces_back_until_it_is_lifted)
{
    struct fixture fixture;
    struct runner runner;
    fixture_init(&fixture, all_data);
    struct copier_options options = options_for(&fixture);
    options.speed = 1; /* a byte per second: the second piece would have to wait for an hour */
    make_copier(&fixture, &options);
    start_runner(&runner, fixture.copier);
    co_call_on(loop_io(0), "wait", wait_copied, &fixture.work);
    assert_int_equal(fixture.work.pieces, 1);
    assert_false(co_event_is_set(&runner.done));
    copier_set_speed(fixture.copier, 0);
    co_event_wait(&runner.done, "runner");
    assert_int_equal(runner.ret, 0);
    assert_string_equal(fixture.work.copied, all_data);
    fixture_fini(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_is_copied_zeroes_are_written_as_such_and_the_rest_is_left_alone),
        cmocka_unit_test(only_what_is_left_is_copied),
        cmocka_unit_test(pieces_are_no_longer_than_a_chunk_and_no_more_than_allowed_are_on_their_way),
        cmocka_unit_test(no_more_bytes_than_allowed_are_on_their_way),
        cmocka_unit_test(a_piece_that_failed_is_tried_again_when_the_job_says_so),
        cmocka_unit_test(a_piece_that_failed_is_left_out_when_the_job_says_so),
        cmocka_unit_test(when_a_piece_gives_up_the_rest_is_left_and_can_be_copied_later),
        cmocka_unit_test(a_source_that_cannot_say_what_it_has_is_an_error_of_reading),
        cmocka_unit_test(when_interrupted_pieces_on_their_way_end_and_no_other_begins),
        cmocka_unit_test(pieces_that_hang_are_left_behind_when_the_copier_is_abandoned),
        cmocka_unit_test(a_plan_that_hangs_is_left_behind_when_the_copier_is_abandoned),
        cmocka_unit_test(a_limit_of_speed_holds_pieces_back_until_it_is_lifted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
