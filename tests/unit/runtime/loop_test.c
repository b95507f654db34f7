#include "blockcore/runtime/loop.h"

#include "blockcore/runtime/loop_uv.h"
#include "blockcore/runtime/pool.h"
#include "tests/unit/runtime/co_test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct numbered {
    struct loop_task task;
    int number;
    int *last;
    unsigned *count;
};

static void expect_next(struct loop_task *task)
{
    struct numbered *numbered = CONTAINER_OF(task, struct numbered, task);
    expect(loop_is_current(loop_io(0)));
    expect(co_self() == NULL);
    expect_int(numbered->number, *numbered->last + 1);
    *numbered->last = numbered->number;
    ++*numbered->count;
}

#define POSTERS 4
#define POSTS 2000

struct poster {
    pthread_t thread;
    struct numbered posts[POSTS];
    int last;
};

static struct poster posters[POSTERS];
static unsigned posts_run;

static void *post_all(void *arg)
{
    struct poster *poster = arg;
    poster->last = 0;
    for (int i = 0; i < POSTS; i++) {
        poster->posts[i] = (struct numbered){
            .task.run = expect_next,
            .number = i + 1,
            .last = &poster->last,
            .count = &posts_run,
        };
        loop_post(loop_io(0), &poster->posts[i].task);
    }
    return NULL;
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

CO_TEST(posts_of_a_thread_run_in_order)
{
    posts_run = 0;
    for (int i = 0; i < POSTERS; i++)
        expect_int(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
    for (int i = 0; i < POSTERS; i++)
        pthread_join(posters[i].thread, NULL);
    /* This one comes after all the others. */
    co_call_on(loop_io(0), "last", nothing, NULL);
    expect_int(posts_run, POSTERS * POSTS);
}

static void set_event(struct loop_task *task)
{
    struct {
        struct loop_task task;
        struct co_event event;
    } *post = (void *)task;
    co_event_set(&post->event);
}

/* Each post finds the loop asleep, or about to be: none may be overlooked. */
CO_TEST(a_sleeping_loop_is_woken)
{
    for (int i = 0; i < 3000; i++) {
        struct {
            struct loop_task task;
            struct co_event event;
        } post = { .task.run = set_event };
        co_event_init(&post.event);
        loop_post(loop_io(1), &post.task);
        co_event_wait(&post.event, "the other loop");
    }
}

CO_TEST(loops_have_indices)
{
    expect_int(loop_io_count(), 2);
    expect_int(loop_index(loop_io(0)), 0);
    expect_int(loop_index(loop_io(1)), 1);
    expect_int(loop_index(loop_control()), 2);
    expect(loop_current() == loop_control());
    expect(on_control_thread());
    struct loop *first = loop_io_next();
    struct loop *second = loop_io_next();
    expect(first != second);
    expect(loop_io_next() == first);
}

static void note_timer(void *name)
{
    note(name);
}

static char a[] = "a";
static char b[] = "b";

/* A sleep that begins after a timer was started for a shorter time ends after it. */
CO_TEST(a_timer_expires_once)
{
    struct timer *timer = timer_create_on_loop(note_timer, a);
    timer_start(timer, 1);
    expect_text(noted(), "");
    co_sleep_ms(2);
    expect_text(noted(), "a");
    co_sleep_ms(2);
    expect_text(noted(), "");
    timer_destroy(timer);
    timer_destroy(NULL);
}

CO_TEST(a_timer_can_be_stopped_moved_and_used_again)
{
    struct timer *timer = timer_create_on_loop(note_timer, a);
    struct timer *other = timer_create_on_loop(note_timer, b);
    timer_start(timer, 1);
    timer_stop(timer);
    timer_stop(timer);
    timer_start(other, 1);
    timer_start(other, 60000);
    co_sleep_ms(5);
    expect_text(noted(), "");
    timer_start(timer, 60000);
    timer_start(timer, 1);
    co_sleep_ms(5);
    expect_text(noted(), "a");
    timer_start(timer, UINT64_MAX);
    timer_destroy(timer);
    timer_destroy(other);
}

/* Many timers in random order, some stopped: the rest expire in order. The deadline of each is known only to lie
 * between two looks at the clock. */
#define TIMERS 500
#define NS_PER_MS 1000000u

static struct {
    struct timer *timer;
    uint64_t deadline_at_least;
    uint64_t deadline_at_most;
    bool stopped;
    bool expired;
} timers[TIMERS];

static uint64_t last_deadline_at_least;
static unsigned timers_expired;

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 * NS_PER_MS + (uint64_t)now.tv_nsec;
}

static void expect_in_order(void *arg)
{
    size_t index = (size_t)(uintptr_t)arg;
    expect(!timers[index].stopped);
    expect(!timers[index].expired);
    expect(clock_ns() >= timers[index].deadline_at_least);
    expect(timers[index].deadline_at_most >= last_deadline_at_least);
    last_deadline_at_least = timers[index].deadline_at_least;
    timers[index].expired = true;
    timers_expired++;
}

static void start_or_stop(size_t index, uint64_t *seed)
{
    uint64_t ms = next_random(seed) % 100;
    timers[index].stopped = next_random(seed) % 3 == 0;
    if (timers[index].stopped) {
        timer_stop(timers[index].timer);
        return;
    }
    timers[index].deadline_at_least = clock_ns() + ms * NS_PER_MS;
    timer_start(timers[index].timer, ms);
    timers[index].deadline_at_most = clock_ns() + ms * NS_PER_MS;
}

CO_TEST(many_timers_expire_in_order)
{
    uint64_t seed = 3;
    last_deadline_at_least = timers_expired = 0;
    for (size_t i = 0; i < TIMERS; i++) {
        timers[i].timer = timer_create_on_loop(expect_in_order, (void *)(uintptr_t)i);
        timers[i].expired = false;
        timers[i].stopped = true;
    }
    for (unsigned step = 0; step < 20 * TIMERS; step++)
        start_or_stop(next_random(&seed) % TIMERS, &seed);
    unsigned running = 0;
    for (size_t i = 0; i < TIMERS; i++)
        running += !timers[i].stopped;
    co_sleep_ms(100);
    expect_int(timers_expired, running);
    for (size_t i = 0; i < TIMERS; i++)
        timer_destroy(timers[i].timer);
}

CO_TEST(the_time_of_a_turn_moves_on)
{
    uint64_t before = loop_now_ns();
    expect_int(loop_now_ns(), before);
    co_sleep_ms(2);
    expect(loop_now_ns() >= before + 2000000);
}

static int sleep_2_ms(void *arg)
{
    (void)arg;
    usleep(2000);
    return 0;
}

CO_TEST(the_time_moves_on_when_another_thread_wakes_the_loop)
{
    uint64_t before = loop_now_ns();
    for (int i = 0; i < 3; i++)
        co_blocking(NULL, sleep_2_ms, NULL);
    expect(loop_now_ns() >= before + 6000000);
}

CO_TEST(the_time_moves_on_while_the_loop_never_sleeps)
{
    uint64_t before = loop_now_ns();
    for (uint64_t begin = clock_ns(); clock_ns() < begin + 2000000;)
        co_yield ();
    for (int i = 0; i < 100; i++) /* into another turn */
        co_yield ();
    expect(loop_now_ns() >= before + 2000000);
}

static void quit(void *arg)
{
    (void)arg;
    note("quit");
    runtime_quit();
}

static void runtime_run_goes_on_until_it_is_told_to_quit(void **state)
{
    (void)state;
    assert_null(runtime_start(&(struct runtime_options){ .io_loops = 1 }));
    assert_int_equal(loop_io_count(), 1);
    co_start_on(loop_control(), "quit", quit, NULL);
    runtime_run();
    expect_text(noted(), "quit");
    co_start_on(loop_control(), "quit", quit, NULL);
    runtime_run();
    expect_text(noted(), "quit");
    runtime_stop(false);
}

static void the_number_of_loops_has_a_limit_and_a_default(void **state)
{
    (void)state;
    struct error *err = runtime_start(&(struct runtime_options){ .io_loops = IO_LOOPS_MAX + 1 });
    assert_string_equal(error_message(err), "65 I/O threads are too many: at most 64");
    error_free(err);
    assert_null(runtime_start(&(struct runtime_options){ 0 }));
    assert_in_range(loop_io_count(), 1, 4);
    runtime_stop(false);
    assert_null(runtime_start(&(struct runtime_options){ .io_loops = IO_LOOPS_MAX }));
    assert_int_equal(loop_io_count(), IO_LOOPS_MAX);
    runtime_stop(false);
}

static void wait_a_moment(void *arg)
{
    (void)arg;
    co_sleep_ms(0);
    co_call_on(loop_io(0), "there", nothing, NULL);
    co_blocking(NULL, nothing, NULL);
}

/* Nothing is kept that would be in the way of the next. */
static void the_runtime_can_be_started_again(void **state)
{
    (void)state;
    for (int i = 0; i < 30; i++) {
        assert_null(runtime_start(&(struct runtime_options){ .io_loops = 2 }));
        runtime_run_coroutine("moment", wait_a_moment, NULL);
        runtime_stop(false);
    }
}

static void close_signal(uv_handle_t *handle)
{
    co_event_set(handle->data);
}

static void count_signal(uv_signal_t *handle, int number)
{
    expect_int(number, SIGUSR1);
    uv_close((uv_handle_t *)handle, close_signal);
}

/* Handles of libuv work beside coroutines, and signals reach the control thread. */
CO_TEST(foreign_handles_share_the_loop)
{
    struct co_event closed;
    uv_signal_t handle;
    co_event_init(&closed);
    uv_signal_init(loop_uv(loop_current()), &handle);
    handle.data = &closed;
    uv_signal_start(&handle, count_signal, SIGUSR1);
    kill(getpid(), SIGUSR1);
    co_event_wait(&closed, "a signal");
}

static int hang(void *arg)
{
    const int *pipe_end = arg;
    char byte;
    return (int)read(*pipe_end, &byte, 1);
}

static void hang_forever(void *arg)
{
    co_blocking(NULL, hang, arg);
    abort();
}

static void start_hanging(void *arg)
{
    co_start("hangs", hang_forever, arg);
    co_sleep_ms(1);
}

/* A call on dead storage never comes back; the process ends all the same. */
static void stop_abandons_threads_that_hang(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        expect(!runtime_start(&(struct runtime_options){ .io_loops = 2 }));
        runtime_run_coroutine("start", start_hanging, &ends[0]);
        runtime_stop(true);
        _exit(7);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_abandons_threads_that_hang),
        cmocka_unit_test(posts_of_a_thread_run_in_order),
        cmocka_unit_test(a_sleeping_loop_is_woken),
        cmocka_unit_test(loops_have_indices),
        cmocka_unit_test(a_timer_expires_once),
        cmocka_unit_test(a_timer_can_be_stopped_moved_and_used_again),
        cmocka_unit_test(many_timers_expire_in_order),
        cmocka_unit_test(the_time_of_a_turn_moves_on),
        cmocka_unit_test(the_time_moves_on_when_another_thread_wakes_the_loop),
        cmocka_unit_test(the_time_moves_on_while_the_loop_never_sleeps),
        cmocka_unit_test(runtime_run_goes_on_until_it_is_told_to_quit),
        cmocka_unit_test(the_number_of_loops_has_a_limit_and_a_default),
        cmocka_unit_test(the_runtime_can_be_started_again),
        cmocka_unit_test(foreign_handles_share_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
