#include "blockcore/runtime/pool.h"

#include "tests/unit/runtime/co_test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
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

/* The one that is there ends its call and goes idle while the system looks for another. */
static void let_the_thread_go_idle(void)
{
    while_refusing = NULL;
    gate_open(1);
    for (int i = 0; i < 20000; i++)
        sched_yield();
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
