#include "blockcore/runtime/pool.h"

#include "blockcore/runtime/pool_private.h"
#include "tests/unit/runtime/co_test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

/* A gate: calls hang in read(2) until the test lets one through per byte. */
static int gate[2];
static _Atomic int begun;

static void gate_create(void)
{
    expect_int(pipe(gate), 0);
    begun = 0;
}

static void gate_open(int calls)
{
    for (int i = 0; i < calls; i++)
        expect_int(write(gate[1], "", 1), 1);
}

static void gate_destroy(void)
{
    close(gate[0]);
    close(gate[1]);
}

static int hang(void *arg)
{
    char byte;
    (void)arg;
    begun++;
    return (int)read(gate[0], &byte, 1);
}

/* The system gives no thread as long as this is set; @while_refusing runs before it says so. */
static _Atomic bool no_threads;
static void (*while_refusing)(void);

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*entry)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*entry)(void *), void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*entry)(void *), void *arg)
{
    if (!no_threads)
        return __real_pthread_create(thread, attributes, entry, arg);
    if (while_refusing)
        while_refusing();
    return EAGAIN;
}

/* Something that no test could be too impatient for: others get their turn until it is true. */
#define await_that(condition)                                                                                          \
    do {                                                                                                               \
        while (!(condition))                                                                                           \
            co_sleep_ms(1);                                                                                            \
    } while (0)

struct hanging {
    struct pool_domain *domain;
    int result;
};

static void call_and_hang(void *arg)
{
    struct hanging *hanging = arg;
    hanging->result = co_blocking(hanging->domain, hang, NULL);
}

struct question {
    pthread_t asker;
    int result;
};

static int answer(void *arg)
{
    const struct question *question = arg;
    sigset_t blocked;
    expect(loop_current() == NULL);
    expect(!pthread_equal(pthread_self(), question->asker));
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    expect(sigismember(&blocked, SIGTERM));
    expect(sigismember(&blocked, SIGINT));
    return question->result;
}

static int ask(void *arg)
{
    (void)arg;
    struct question question = { .asker = pthread_self(), .result = -EDQUOT };
    return co_blocking(NULL, answer, &question);
}

CO_TEST(a_call_runs_on_a_thread_of_its_own_and_brings_the_result)
{
    expect_int(ask(NULL), -EDQUOT);
    expect_int(co_call_on(loop_io(0), "ask", ask, NULL), -EDQUOT);
}

/*   dead [##]  2 hang, 3 queued        alive: answers at once */
CO_TEST(a_dead_domain_costs_its_own_threads_only)
{
    struct pool_domain *dead = pool_domain_create("dead", 2);
    struct pool_domain *alive = pool_domain_create("alive", 1);
    struct hanging calls[5];
    struct co_group group;
    gate_create();
    co_group_init(&group);
    for (int i = 0; i < 5; i++) {
        calls[i] = (struct hanging){ .domain = dead, .result = -1 };
        co_group_start(&group, "hangs", call_and_hang, &calls[i]);
    }
    await_that(begun == 2);
    struct question question = { .asker = pthread_self(), .result = 3 };
    for (int i = 0; i < 20; i++) {
        expect_int(co_blocking(alive, answer, &question), 3);
        expect_int(co_blocking(NULL, answer, &question), 3);
    }
    expect_int(begun, 2);

    gate_open(1);
    await_that(begun == 3);
    gate_open(4);
    co_group_join(&group);
    expect_int(begun, 5);
    for (int i = 0; i < 5; i++)
        expect_int(calls[i].result, 1);
    gate_destroy();
    pool_domain_unref(dead);
    pool_domain_unref(alive);
}

struct recorded {
    struct pool_domain *domain;
    int number;
};

static int record[10];
static _Atomic int recorded;

static int record_number(void *arg)
{
    record[recorded++] = ((struct recorded *)arg)->number;
    return 0;
}

static void call_record(void *arg)
{
    struct recorded *call = arg;
    co_blocking(call->domain, record_number, call);
}

CO_TEST(calls_beyond_the_limit_run_in_order)
{
    struct pool_domain *domain = pool_domain_create("one at a time", 1);
    struct recorded calls[10];
    struct co_group group;
    recorded = 0;
    co_group_init(&group);
    for (int i = 0; i < 10; i++) {
        calls[i] = (struct recorded){ .domain = domain, .number = i };
        co_group_start(&group, "call", call_record, &calls[i]);
    }
    co_group_join(&group);
    for (int i = 0; i < 10; i++)
        expect_int(record[i], i);
    pool_domain_unref(domain);
}

CO_TEST(a_domain_may_be_dropped_while_calls_hang_in_it)
{
    struct hanging call = { .domain = pool_domain_create("dropped", 1) };
    struct hanging queued = call;
    struct co_group group;
    gate_create();
    co_group_init(&group);
    co_group_start(&group, "hangs", call_and_hang, &call);
    co_group_start(&group, "queued", call_and_hang, &queued);
    await_that(begun == 1);
    pool_domain_unref(call.domain);
    pool_domain_unref(NULL);
    gate_open(2);
    co_group_join(&group);
    expect_int(queued.result, 1);
    gate_destroy();
}

static _Atomic int inside;
static _Atomic int inside_most;

static int count_inside(void *arg)
{
    (void)arg;
    int now = ++inside;
    int most = inside_most;
    while (now > most && !atomic_compare_exchange_weak(&inside_most, &most, now))
        ;
    sched_yield();
    inside--;
    return now;
}

static void call_often(void *domain)
{
    for (int i = 0; i < 50; i++)
        expect(co_blocking(domain, count_inside, NULL) <= 3);
}

static int call_from_here(void *domain)
{
    struct co_group group;
    co_group_init(&group);
    for (int i = 0; i < 20; i++)
        co_group_start(&group, "calls often", call_often, domain);
    co_group_join(&group);
    return 0;
}

static void call_from_io(void *domain)
{
    co_call_on(loop_io(0), "calls", call_from_here, domain);
}

CO_TEST(the_limit_holds_among_all_loops)
{
    struct pool_domain *domain = pool_domain_create("three", 3);
    struct co_group group;
    inside = inside_most = 0;
    co_group_init(&group);
    co_group_start(&group, "io", call_from_io, domain);
    call_from_here(domain);
    co_group_join(&group);
    expect_int(inside, 0);
    expect(inside_most >= 1);
    pool_domain_unref(domain);
}

CO_TEST(hundreds_of_calls_may_hang_at_once)
{
    enum { DOMAINS = 20, EACH = POOL_DOMAIN_THREADS_MAX };
    static struct hanging calls[DOMAINS * EACH];
    struct co_group group;
    gate_create();
    co_group_init(&group);
    for (int i = 0; i < DOMAINS; i++) {
        struct pool_domain *domain = pool_domain_create("full", 0);
        for (int j = 0; j < EACH; j++) {
            calls[i * EACH + j].domain = domain;
            co_group_start(&group, "hangs", call_and_hang, &calls[i * EACH + j]);
        }
        pool_domain_unref(domain);
    }
    await_that(begun == DOMAINS * EACH);
    gate_open(DOMAINS * EACH);
    co_group_join(&group);
    gate_destroy();
}

static int next_result(void *arg)
{
    return ++*(int *)arg;
}

CO_TEST(calls_wait_for_the_thread_that_is_there_if_the_system_gives_no_other)
{
    struct hanging calls[5] = { 0 };
    struct co_group group;
    int result = 0;
    gate_create();
    no_threads = true;
    co_group_init(&group);
    for (int i = 0; i < 5; i++)
        co_group_start(&group, "hangs", call_and_hang, &calls[i]);
    await_that(begun == 1);
    gate_open(5);
    co_group_join(&group);
    expect_int(co_blocking(NULL, next_result, &result), 1);
    no_threads = false;
    gate_destroy();
}

#define GOING_IDLE_NS 20000000L

/* The one that is there ends its call and goes idle while the system looks for another. */
static void let_the_thread_go_idle(void)
{
    while_refusing = NULL;
    gate_open(1);
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do { /* on a machine with other things to do each turn takes long */
        sched_yield();
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) * 1000000000L + now.tv_nsec - begin.tv_nsec < GOING_IDLE_NS);
}

CO_TEST(a_thread_that_goes_idle_meanwhile_is_given_the_call)
{
    struct hanging call = { 0 };
    struct co_group group;
    int result = 0;
    gate_create();
    no_threads = true;
    while_refusing = let_the_thread_go_idle;
    co_group_init(&group);
    co_group_start(&group, "hangs", call_and_hang, &call);
    await_that(begun == 1);
    expect_int(co_blocking(NULL, next_result, &result), 1);
    co_group_join(&group);
    no_threads = false;
    gate_destroy();
}

/* A call with memory of its own, and whoever waits for it. */
struct own {
    _Atomic int *released;
};

static struct own *own_new(_Atomic int *released)
{
    struct own *own = malloc(sizeof(*own));
    *own = (struct own){ .released = released };
    return own;
}

static void own_release(void *arg)
{
    struct own *own = arg;
    (*own->released)++;
    free(own);
}

struct leaver {
    struct pool_domain *domain;
    int (*fn)(void *arg); /* NULL: it hangs */
    struct own *own;
    struct coroutine *co;
    bool over;
    bool ended;
    int result;
};

static void call_or_leave(void *arg)
{
    struct leaver *leaver = arg;
    leaver->co = co_self();
    int (*fn)(void *arg) = leaver->fn ? leaver->fn : hang;
    leaver->ended = co_blocking_or_leave(leaver->domain, fn, own_release, leaver->own, &leaver->result);
    leaver->over = true;
    if (leaver->ended)
        free(leaver->own);
}

CO_TEST(a_call_that_is_not_left_is_one_like_any_other)
{
    _Atomic int released = 0;
    struct leaver leaver = { .own = own_new(&released) };
    gate_create();
    gate_open(1);
    call_or_leave(&leaver);
    expect(leaver.ended);
    expect_int(leaver.result, 1);
    expect_int(released, 0);
    gate_destroy();
}

/*   dead [#]  one hangs, one is queued: the other is left, then the one, which comes back; the other is never made */
CO_TEST(a_call_that_is_left_frees_what_is_its_own_when_it_comes_back)
{
    _Atomic int released = 0;
    struct pool_domain *dead = pool_domain_create("dead", 1);
    struct leaver leavers[2];
    gate_create();
    for (int i = 0; i < 2; i++) {
        leavers[i] = (struct leaver){ .domain = dead, .own = own_new(&released) };
        co_start("leaves", call_or_leave, &leavers[i]);
    }
    pool_domain_unref(dead);
    await_that(begun == 1);
    for (int i = 1; i >= 0; i--) {
        co_cancel(leavers[i].co);
        await_that(leavers[i].over);
        expect(!leavers[i].ended);
    }
    await_that(released == 1); /* the one that was never made */
    await_that(pool_threads_left() == 1);
    gate_open(1);
    await_that(released == 2);
    await_that(pool_threads_left() == 0);
    expect_int(begun, 1);
    gate_destroy();
}

/*   dead [#]  hangs, and is left: others have the thread that the domain may have */
CO_TEST(what_is_left_uses_up_no_thread_of_its_domain)
{
    enum { HANGING = 5 };
    _Atomic int released = 0;
    struct pool_domain *dead = pool_domain_create("dead", 1);
    struct leaver leavers[HANGING];
    struct question question = { .asker = pthread_self(), .result = 42 };
    gate_create();
    for (int i = 0; i < HANGING; i++) {
        leavers[i] = (struct leaver){ .domain = dead, .own = own_new(&released) };
        co_start("leaves", call_or_leave, &leavers[i]);
    }
    for (int i = 0; i < HANGING; i++) {
        await_that(begun == i + 1); /* each when the one before it was left */
        co_cancel(leavers[i].co);
        await_that(leavers[i].over);
        expect(!leavers[i].ended);
    }
    expect_int(co_blocking(dead, answer, &question), 42);
    expect_int(pool_threads_left(), HANGING);
    gate_open(HANGING);
    await_that(released == HANGING);
    await_that(pool_threads_left() == 0);
    expect_int(co_blocking(dead, answer, &question), 42);
    pool_domain_unref(dead);
    gate_destroy();
}

static int come_back_soon(void *arg)
{
    (void)arg;
    usleep((unsigned)begun++ % 4 * 50);
    return 1;
}

/* Both at once, often, and nothing else that orders them: the sanitizers see who touches what the other one has freed.
 */
CO_TEST(a_call_may_come_back_while_it_is_being_left)
{
    _Atomic int released = 0;
    int left = 0;
    begun = 0;
    for (int i = 0; i < 300; i++) {
        struct leaver leaver = { .fn = come_back_soon, .own = own_new(&released) };
        int before = begun;
        co_start("leaves", call_or_leave, &leaver);
        if (i % 8)
            await_that(begun > before);
        co_cancel(leaver.co);
        await_that(leaver.over);
        left += !leaver.ended;
    }
    await_that(released == left);
    await_that(pool_threads_left() == 0);
}

CO_TEST(who_is_cancelled_before_makes_no_call_that_can_be_left)
{
    _Atomic int released = 0;
    struct leaver leaver = { .own = own_new(&released) };
    gate_create();
    co_cancel(co_self());
    call_or_leave(&leaver);
    expect(!leaver.ended || leaver.result == 1);
    gate_open(1);
    await_that(released == 1);
    await_that(pool_threads_left() == 0);
    gate_destroy();
}

CO_TEST(no_more_are_left_than_the_limit_says)
{
    enum { LAST = POOL_LEFT_MAX + 1 }; /* the first holds the thread, and is not left; those between are */
    static struct leaver leavers[LAST + 1];
    _Atomic int released = 0;
    struct pool_domain *dead = pool_domain_create("dead", 1);
    gate_create();
    for (int i = 0; i <= LAST; i++) {
        leavers[i] = (struct leaver){ .domain = dead, .own = own_new(&released) };
        co_start("leaves", call_or_leave, &leavers[i]);
    }
    await_that(begun == 1);
    for (int i = 1; i <= LAST; i++)
        co_cancel(leavers[i].co);
    await_that(leavers[LAST - 1].over);
    expect(!leavers[LAST].over);
    gate_open(2);
    await_that(leavers[LAST].over);
    expect(leavers[LAST].ended);
    await_that(leavers[0].over);
    expect_int(begun, 2);
    await_that(released == POOL_LEFT_MAX);
    await_that(pool_threads_left() == 0);
    pool_domain_unref(dead);
    gate_destroy();
}

/* The end of the process does not wait for a thread that hangs: the caller is told, and the thread may come back. */
static _Atomic int released_late;

static void leave_one(void *arg)
{
    struct leaver leaver = { .own = own_new(&released_late) };
    (void)arg;
    gate_create();
    co_start("leaves", call_or_leave, &leaver);
    await_that(begun == 1);
    co_cancel(leaver.co);
    await_that(leaver.over);
}

static void the_end_does_not_wait_for_what_was_left(void **state)
{
    (void)state;
    struct error *err = runtime_start(&(struct runtime_options){ .io_loops = 1 });
    expect(!err);
    runtime_run_coroutine("leaves", leave_one, NULL);
    expect_int(runtime_stop(false), 1);
    expect_int(released_late, 0);
    gate_open(1);
    while (released_late == 0 || pool_threads_left() > 0)
        sched_yield();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_runs_on_a_thread_of_its_own_and_brings_the_result),
        cmocka_unit_test(a_dead_domain_costs_its_own_threads_only),
        cmocka_unit_test(calls_beyond_the_limit_run_in_order),
        cmocka_unit_test(a_domain_may_be_dropped_while_calls_hang_in_it),
        cmocka_unit_test(the_limit_holds_among_all_loops),
        cmocka_unit_test(hundreds_of_calls_may_hang_at_once),
        cmocka_unit_test(calls_wait_for_the_thread_that_is_there_if_the_system_gives_no_other),
        cmocka_unit_test(a_thread_that_goes_idle_meanwhile_is_given_the_call),
        cmocka_unit_test(a_call_that_is_not_left_is_one_like_any_other),
        cmocka_unit_test(a_call_that_is_left_frees_what_is_its_own_when_it_comes_back),
        cmocka_unit_test(what_is_left_uses_up_no_thread_of_its_domain),
        cmocka_unit_test(a_call_may_come_back_while_it_is_being_left),
        cmocka_unit_test(who_is_cancelled_before_makes_no_call_that_can_be_left),
        cmocka_unit_test(no_more_are_left_than_the_limit_says),
        cmocka_unit_test(the_end_does_not_wait_for_what_was_left), /* last: the thread still ends */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
