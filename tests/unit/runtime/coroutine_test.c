#include "blockcore/runtime/coroutine.h"

#include "blockcore/runtime/sanitizer.h"
#include "tests/unit/runtime/co_test.h"

#include <fenv.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void note_twice(void *arg)
{
    char first[16];
    char second[16];
    snprintf(first, sizeof(first), "%s1", (const char *)arg);
    snprintf(second, sizeof(second), "%s2", (const char *)arg);
    note(first);
    co_yield ();
    note(second);
}

static char a[] = "a";
static char b[] = "b";
static char c[] = "c";

CO_TEST(a_coroutine_runs_at_once_until_it_first_waits)
{
    struct co_group group;
    co_group_init(&group);
    co_group_start(&group, "a", note_twice, a);
    note("main");
    co_group_join(&group);
    expect_text(noted(), "a1 main a2");
}

CO_TEST(what_is_ready_runs_in_order)
{
    struct co_group group;
    co_group_init(&group);
    co_group_start(&group, "a", note_twice, a);
    co_group_start(&group, "b", note_twice, b);
    co_group_start(&group, "c", note_twice, c);
    co_yield ();
    note("main");
    co_group_join(&group);
    expect_text(noted(), "a1 b1 c1 a2 b2 c2 main");
}

static void start_another(void *arg)
{
    note("outer1");
    co_start("inner", note_twice, arg);
    note("outer2");
    co_yield ();
    note("outer3");
}

/* The one who waits gives control back to the one who started it, not to the loop. */
CO_TEST(starts_nest)
{
    struct co_group group;
    co_group_init(&group);
    co_group_start(&group, "outer", start_another, a);
    note("main");
    co_group_join(&group);
    expect_text(noted(), "outer1 a1 outer2 main a2 outer3");
}

static void expect_name(void *arg)
{
    expect_text(co_name(co_self()), "inner");
    expect(co_self() != arg);
}

CO_TEST(each_coroutine_knows_itself)
{
    struct coroutine *self = co_self();
    expect_text(co_name(self), "each_coroutine_knows_itself");
    co_start("inner", expect_name, self);
    expect(co_self() == self);
    co_yield ();
    expect(co_self() == self);
}

CO_TEST(an_event_set_before_does_not_wait)
{
    struct co_event event;
    co_event_init(&event);
    expect(!co_event_is_set(&event));
    co_event_set(&event);
    expect(co_event_is_set(&event));
    co_event_wait(&event, "nothing");
    co_event_wait(&event, "nothing");
}

static void wait_for_event(void *event)
{
    note("wait");
    co_event_wait(event, "the test");
    note("woken");
}

/* The waiter goes on through the queue of the loop, not in the middle of the code that sets the event. */
CO_TEST(an_event_wakes_its_waiter_later)
{
    struct co_group group;
    struct co_event event;
    co_group_init(&group);
    co_event_init(&event);
    co_group_start(&group, "waiter", wait_for_event, &event);
    note("set");
    co_event_set(&event);
    note("after");
    co_group_join(&group);
    expect_text(noted(), "wait set after woken");
}

static void *set_from_thread(void *event)
{
    expect(loop_current() == NULL);
    expect(co_self() == NULL);
    co_event_set(event);
    return NULL;
}

CO_TEST(any_thread_may_set_an_event)
{
    for (int i = 0; i < 100; i++) {
        struct co_event event;
        pthread_t thread;
        co_event_init(&event);
        expect_int(pthread_create(&thread, NULL, set_from_thread, &event), 0);
        co_event_wait(&event, "a thread");
        pthread_join(thread, NULL);
    }
}

/* Two loops throw a ball: each event lives on the stack of the one who catches. */
struct ball {
    struct loop *to;
    struct co_event *caught;
    int throws;
};

static int throw_back(void *arg)
{
    struct ball *ball = arg;
    ball->throws++;
    return ball->throws;
}

static void throw_many(void *arg)
{
    struct ball *ball = arg;
    for (int i = 1; i <= 2000; i++)
        expect_int(co_call_on(ball->to, "throw back", throw_back, ball), i);
    co_event_set(ball->caught);
}

CO_TEST(loops_call_each_other)
{
    struct co_event events[8];
    struct ball balls[8];
    for (unsigned i = 0; i < 8; i++) {
        co_event_init(&events[i]);
        balls[i] = (struct ball){ .to = loop_io(i % 2), .caught = &events[i] };
        co_start_on(loop_io((i / 2) % 2), "thrower", throw_many, &balls[i]);
    }
    for (unsigned i = 0; i < 8; i++) {
        co_event_wait(&events[i], "a thrower");
        expect_int(balls[i].throws, 2000);
    }
}

struct call {
    struct loop *expected;
    int result;
};

static int answer_after_a_while(void *arg)
{
    const struct call *call = arg;
    expect(loop_is_current(call->expected));
    co_yield ();
    co_sleep_ms(1);
    expect(loop_is_current(call->expected));
    return call->result;
}

CO_TEST(a_call_on_a_loop_runs_there_and_brings_the_result)
{
    struct call call = { .expected = loop_io(1), .result = -5 };
    expect_int(co_call_on(loop_io(1), "call", answer_after_a_while, &call), -5);
    expect(on_control_thread());
    call = (struct call){ .expected = loop_control(), .result = 7 };
    expect_int(co_call_on(loop_control(), "call", answer_after_a_while, &call), 7);
}

CO_TEST(a_group_without_members_is_joined_at_once)
{
    struct co_group group;
    co_group_init(&group);
    co_group_join(&group);
    co_group_start(&group, "inner", expect_name, NULL);
    co_group_join(&group);
}

static void start_more(void *arg)
{
    struct co_group *group = arg;
    co_yield ();
    co_group_start(group, "a", note_twice, a);
    note("member");
}

CO_TEST(a_group_is_joined_with_members_that_came_later_and_is_used_again)
{
    struct co_group group;
    co_group_init(&group);
    for (int i = 0; i < 2; i++) {
        co_group_start(&group, "member", start_more, &group);
        co_group_join(&group);
        expect_text(noted(), "a1 member a2");
    }
}

/* ThreadSanitizer takes milliseconds for each. */
#ifdef WITH_TSAN
#define CROWD 500
#else
#define CROWD 5000
#endif

static void wait_in_crowd(void *arg)
{
    struct co_event *event = arg;
    co_event_wait(event, "the crowd's turn");
}

CO_TEST(thousands_wait_at_once)
{
    static struct co_event events[CROWD];
    struct co_group group;
    co_group_init(&group);
    for (int i = 0; i < CROWD; i++) {
        co_event_init(&events[i]);
        co_group_start(&group, "crowd", wait_in_crowd, &events[i]);
    }
    expect_int(co_count(), CROWD + 1);
    for (int i = CROWD; i-- > 0;)
        co_event_set(&events[i]);
    co_group_join(&group);
    expect_int(co_count(), 1);
}

static void ended(void *arg)
{
    co_event_set(arg);
}

CO_TEST(a_coroutine_counts_from_the_moment_it_is_started_elsewhere)
{
    struct co_event event;
    co_event_init(&event);
    co_start_on(loop_current(), "counted", ended, &event);
    expect_int(co_count(), 2);
    co_event_wait(&event, "the other");
    expect_int(co_count(), 1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_long_enough(void *arg)
{
    const uint64_t *ms = arg;
    uint64_t begin = now_ns();
    co_sleep_ms(*ms);
    expect(now_ns() - begin >= *ms * 1000000);
}

CO_TEST(nobody_sleeps_too_short)
{
    static uint64_t times_ms[] = { 30, 10, 20, 0, 1 };
    struct co_group group;
    co_group_init(&group);
    for (size_t i = 0; i < ARRAY_SIZE(times_ms); i++)
        co_group_start(&group, "sleeper", sleep_long_enough, &times_ms[i]);
    co_group_join(&group);
}

static int use_stack(size_t bytes)
{
    volatile char block[1024];
    block[0] = (char)bytes;
    block[1023] = block[0];
    if (bytes <= sizeof(block))
        return block[1023];
    return use_stack(bytes - sizeof(block)) + block[0];
}

CO_TEST(three_quarters_of_the_stack_can_be_used)
{
    /* Frames of an unoptimised or instrumented build are larger than what they hold. */
    expect(use_stack((size_t)COROUTINE_STACK_BYTES * 3 / 4 / 2) != -1);
}

/* Below the stack that the caller runs on lies memory that cannot be touched. */
CO_TEST(a_guard_page_lies_below_the_stack)
{
    char line[512];
    char access[5] = "";
    char access_below[5] = "";
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t begin = 0;
    uintptr_t end = 0;
    uintptr_t end_below = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    expect(maps);
    while (end <= here && fgets(line, sizeof(line), maps)) {
        strcpy(access_below, access);
        end_below = end;
        expect_int(sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &begin, &end, access), 3);
    }
    fclose(maps);
    expect(begin <= here && here < end);
    expect_text(access, "rw-p");
    expect_text(access_below, "---p");
    expect_int(end_below, begin);
}

static void overflow(void *arg)
{
    (void)arg;
    use_stack((size_t)1 << 30);
}

/* The guard page stops it where it happens, before it reaches other memory. */
static void an_overflow_of_the_stack_ends_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0 });
        close(STDERR_FILENO);
        run_as_coroutine("overflow", overflow);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
#if defined(WITH_ASAN) || defined(WITH_TSAN)
    assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
#else
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
#endif
}

/* The rounding that the x87 unit is set to is what fegetround() tells; double is computed by SSE, which has its own. */
static bool rounds_upwards(void)
{
    volatile double one = 1.0;
    volatile double tiny = 1e-30;
    return fegetround() == FE_UPWARD && one + tiny > 1.0;
}

static bool rounds_to_nearest(void)
{
    volatile double one = 1.0;
    volatile double tiny = 1e-30;
    return fegetround() == FE_TONEAREST && one + tiny == 1.0;
}

static void round_upwards(void *arg)
{
    fesetround(FE_UPWARD);
    co_event_wait(arg, "the test");
    expect(rounds_upwards());
    fesetround(FE_TONEAREST);
}

/* The ABI counts the rounding mode among what calls preserve, so waiting preserves it too. */
CO_TEST(the_rounding_mode_belongs_to_the_coroutine)
{
    struct co_event event;
    struct co_group group;
    co_event_init(&event);
    co_group_init(&group);
    co_group_start(&group, "rounding", round_upwards, &event);
    expect(rounds_to_nearest());
    co_event_set(&event);
    co_group_join(&group);
    expect(rounds_to_nearest());
}

static int keep_in_registers(int seed)
{
    int values[12];
    for (int i = 0; i < 12; i++)
        values[i] = seed * (i + 3);
    int sum = 0;
    for (int round = 0; round < 50; round++) {
        co_yield ();
        for (int i = 0; i < 12; i++)
            sum += values[i] ^ round;
    }
    return sum;
}

static int sums[20];

static void compute(void *arg)
{
    int *sum = arg;
    *sum = keep_in_registers((int)(sum - sums) + 1);
}

CO_TEST(values_survive_switches)
{
    struct co_group group;
    co_group_init(&group);
    for (int i = 0; i < 20; i++)
        co_group_start(&group, "compute", compute, &sums[i]);
    co_group_join(&group);
    for (int i = 0; i < 20; i++)
        expect_int(sums[i], keep_in_registers(i + 1));
}

static uint64_t clock_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#define SHORT_NS 300000

CO_TEST(a_short_sleep_is_a_sleep)
{
    uint64_t begin = clock_of(CLOCK_MONOTONIC);
    uint64_t work = clock_of(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < 20; i++)
        co_sleep_ns(SHORT_NS);
    work = clock_of(CLOCK_THREAD_CPUTIME_ID) - work;
    uint64_t passed = clock_of(CLOCK_MONOTONIC) - begin;
    expect(passed >= 20 * SHORT_NS);
    const char *without = getenv("CAIRN_NO_IO_URING");
    expect((without && *without == '1') || work < passed / 2);
}

static void sleep_short(void *arg)
{
    (void)arg;
    co_sleep_ns(SHORT_NS);
}

/* More than the ring holds. */
CO_TEST(many_sleep_at_once)
{
    struct co_group group;
    co_group_init(&group);
    for (int i = 0; i < 6000; i++)
        co_group_start(&group, "sleep", sleep_short, NULL);
    co_group_join(&group);
}

CO_TEST(a_sleep_may_be_longer_than_a_millisecond)
{
    uint64_t begin = clock_of(CLOCK_MONOTONIC);
    co_sleep_ns(2 * 1000000 + SHORT_NS);
    expect(clock_of(CLOCK_MONOTONIC) - begin >= 2 * 1000000 + SHORT_NS);
}

/* Guard pages keep them apart. With a sanitizer they are larger. */
static unsigned count_stacks(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned count = 0;
    char line[1024];
    expect(maps);
    while (fgets(line, sizeof(line), maps)) {
        char *end;
        uint64_t from = strtoull(line, &end, 16);
        uint64_t bytes = strtoull(end + 1, NULL, 16) - from;
        count += bytes == COROUTINE_STACK_BYTES || bytes == 4 * COROUTINE_STACK_BYTES;
    }
    fclose(maps);
    return count;
}

static void wait_for_end(void *arg)
{
    co_event_wait(arg, "the end of a burst");
}

#define BURST 300

/* A few spare ones stay. */
CO_TEST(stacks_of_a_burst_are_given_back)
{
    static struct co_event ends[BURST];
    unsigned before = count_stacks();
    for (unsigned i = 0; i < BURST; i++) {
        co_event_init(&ends[i]);
        co_start("one of many", wait_for_end, &ends[i]);
    }
    expect(count_stacks() >= before + BURST - 100);
    for (unsigned i = 0; i < BURST; i++)
        co_event_set(&ends[i]);
    while (count_stacks() > before + 70)
        co_sleep_ms(50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_coroutine_runs_at_once_until_it_first_waits),
        cmocka_unit_test(what_is_ready_runs_in_order),
        cmocka_unit_test(starts_nest),
        cmocka_unit_test(each_coroutine_knows_itself),
        cmocka_unit_test(an_event_set_before_does_not_wait),
        cmocka_unit_test(an_event_wakes_its_waiter_later),
        cmocka_unit_test(any_thread_may_set_an_event),
        cmocka_unit_test(loops_call_each_other),
        cmocka_unit_test(a_call_on_a_loop_runs_there_and_brings_the_result),
        cmocka_unit_test(a_group_without_members_is_joined_at_once),
        cmocka_unit_test(a_group_is_joined_with_members_that_came_later_and_is_used_again),
        cmocka_unit_test(thousands_wait_at_once),
        cmocka_unit_test(a_coroutine_counts_from_the_moment_it_is_started_elsewhere),
        cmocka_unit_test(nobody_sleeps_too_short),
        cmocka_unit_test(three_quarters_of_the_stack_can_be_used),
        cmocka_unit_test(a_guard_page_lies_below_the_stack),
        cmocka_unit_test(an_overflow_of_the_stack_ends_the_process),
        cmocka_unit_test(the_rounding_mode_belongs_to_the_coroutine),
        cmocka_unit_test(values_survive_switches),
        cmocka_unit_test(a_short_sleep_is_a_sleep),
        cmocka_unit_test(many_sleep_at_once),
        cmocka_unit_test(a_sleep_may_be_longer_than_a_millisecond),
        cmocka_unit_test(stacks_of_a_burst_are_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
