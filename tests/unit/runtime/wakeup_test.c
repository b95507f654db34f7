/* No wake-up is lost. A token goes from loop to loop, and at each stop it waits for something: a thread of the pool, a
 * timer, a descriptor, io_uring, another coroutine. With few tokens the loops and the threads are asleep most of the
 * time, so a wake-up that is lost is not made up for by the next one: the token stops, and a watchdog tells where.
 * There are more threads than processors, some are always awake, and they give their processor away in the middle of
 * things.
 *
 *     io-0 --call--> pool        io-3 --timer-.
 *       '----------------- token ------------'
 *
 * CAIRN_TEST_SEED=n: this seed alone. CAIRN_TEST_SECONDS=n: rounds of new seeds for so long. */
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine_private.h"
#include "blockcore/runtime/fd_watch.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/pool.h"
#include "blockcore/runtime/sync.h"
#include "tests/unit/runtime/co_test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define LOOPS 6
#define TOKENS_MAX 6
#define STOPS 150 /* of a token in a round */
#define ROUNDS 20
#define WAKERS 3
#define WAKES_IN_A_ROW 20

/* The watchdog counts its own steps, not seconds: when the whole machine stands still for a while, so does it. */
#define WATCHDOG_STEP_MS 100
#define WATCHDOG_STEPS 300

struct token {
    uint64_t random;
    unsigned stops;
    _Atomic(const char *) doing;
    _Atomic(struct co_event *) to_wake;
    struct pool_domain *domain;
};

static struct pool_domain *narrow; /* one thread, for all tokens */
static struct co_mutex mutex;
static _Atomic unsigned steps; /* of all tokens */
static _Atomic unsigned tokens_left;
static _Atomic bool over;
static struct token tokens[TOKENS_MAX];

/* A few instructions, or a few thousand: the moment of what comes next is not always the same. */
static void dawdle(uint64_t *random)
{
    uint64_t choice = next_random(random);
    if (choice % 8 == 0)
        sched_yield();
    for (unsigned i = 0; i < (choice >> 8) % (choice % 16 == 1 ? 20000 : 2000); i++)
        __asm__ volatile("" ::: "memory");
}

static struct loop *any_loop(uint64_t *random)
{
    uint64_t index = next_random(random) % (loop_io_count() + 1);
    return index == loop_io_count() ? loop_control() : loop_io((unsigned)index);
}

/* What a token waits for ------------------------------------------------------------------------------------------- */

static int dawdle_somewhere(void *random)
{
    dawdle(random);
    return 0;
}

static void wait_for_pool(struct token *token)
{
    uint64_t random = next_random(&token->random);
    struct pool_domain *domains[] = { NULL, narrow, token->domain };
    expect_int(co_blocking(domains[random % 3], dawdle_somewhere, &random), 0);
}

static void wait_for_loop(struct token *token)
{
    uint64_t random = next_random(&token->random);
    co_call_on(any_loop(&token->random), "called", dawdle_somewhere, &random);
}

static void wait_for_timer(struct token *token)
{
    co_sleep_ms(next_random(&token->random) % 3);
}

static void wait_for_ring(struct token *token)
{
    co_sleep_ns(next_random(&token->random) % 30000);
}

/* A condition that somebody on another loop makes true. */
struct meeting {
    struct co_mutex lock;
    struct co_queue queue;
    struct co_event over;
    int fd;
    bool come;
    uint64_t random;
};

static void meeting_init(struct meeting *meeting, struct token *token)
{
    *meeting = (struct meeting){ .random = next_random(&token->random) };
    co_mutex_init(&meeting->lock);
    co_queue_init(&meeting->queue);
    co_event_init(&meeting->over);
}

static void come(void *arg)
{
    struct meeting *meeting = arg;
    dawdle(&meeting->random);
    co_mutex_lock(&meeting->lock);
    meeting->come = true;
    co_queue_wake_one(&meeting->queue);
    co_mutex_unlock(&meeting->lock);
    co_event_set(&meeting->over);
}

static void wait_in_queue(struct token *token)
{
    struct meeting meeting;
    meeting_init(&meeting, token);
    co_start_on(any_loop(&token->random), "comes", come, &meeting);
    dawdle(&token->random);
    co_mutex_lock(&meeting.lock);
    while (!meeting.come)
        co_queue_wait(&meeting.queue, &meeting.lock, "somebody to come");
    co_mutex_unlock(&meeting.lock);
    co_event_wait(&meeting.over, "the end of a meeting");
}

static void send_word(void *arg)
{
    struct meeting *meeting = arg;
    dawdle(&meeting->random);
    expect_int(eventfd_write(meeting->fd, 1), 0);
    co_event_set(&meeting->over);
}

/* Now and then a time limit goes off at about the same moment. */
static void wait_for_descriptor(struct token *token)
{
    struct meeting meeting;
    meeting_init(&meeting, token);
    meeting.fd = eventfd(0, EFD_NONBLOCK);
    struct fd_watch *watch = fd_watch_create(meeting.fd);
    co_start_on(any_loop(&token->random), "sends", send_word, &meeting);
    eventfd_t count;
    while (eventfd_read(meeting.fd, &count) != 0)
        fd_watch_readable(watch, next_random(&token->random) % 4 ? FD_WATCH_FOREVER : 1);
    co_event_wait(&meeting.over, "the end of a message");
    fd_watch_destroy(watch);
    close(meeting.fd);
}

static void wait_for_mutex(struct token *token)
{
    co_mutex_lock(&mutex);
    if (next_random(&token->random) % 2)
        wait_for_loop(token);
    co_mutex_unlock(&mutex);
}

/* Somebody who need not be woken first sets the event, so it happens just when the loop goes to sleep. */
static void wait_for_waker(struct token *token)
{
    for (unsigned i = 0; i < WAKES_IN_A_ROW; i++) {
        struct co_event event;
        co_event_init(&event);
        atomic_store(&token->to_wake, &event);
        co_event_wait(&event, "a waker");
    }
}

static const struct {
    const char *name;
    void (*wait)(struct token *token);
} stops[] = {
    { "the pool", wait_for_pool },   { "a loop", wait_for_loop },   { "a timer", wait_for_timer },
    { "the ring", wait_for_ring },   { "a queue", wait_in_queue },  { "a descriptor", wait_for_descriptor },
    { "the mutex", wait_for_mutex }, { "a waker", wait_for_waker },
};

/* From stop to stop ------------------------------------------------------------------------------------------------ */

static void quit(void *arg)
{
    (void)arg;
    runtime_quit();
}

static void token_arrives(void *arg)
{
    struct token *token = arg;
    size_t stop = next_random(&token->random) % ARRAY_SIZE(stops);
    atomic_store(&token->doing, stops[stop].name);
    stops[stop].wait(token);
    atomic_store(&token->doing, "its next loop");
    dawdle(&token->random);
    steps++;
    if (--token->stops > 0)
        co_start_on(any_loop(&token->random), "token", token_arrives, token);
    else if (--tokens_left == 0)
        co_start_on(loop_control(), "the end", quit, NULL);
}

static void run_round(uint64_t seed)
{
    uint64_t random = seed;
    unsigned count = 1 + (unsigned)(next_random(&random) % TOKENS_MAX);
    tokens_left = count;
    for (unsigned i = 0; i < count; i++) {
        tokens[i].random = next_random(&random);
        tokens[i].stops = STOPS;
        atomic_store(&tokens[i].doing, "its first loop");
        co_start_on(any_loop(&random), "token", token_arrives, &tokens[i]);
    }
    runtime_run();
    expect_int(tokens_left, 0);
}

static void *wake_tokens(void *arg)
{
    uint64_t random = (uintptr_t)arg;
    while (!over) {
        for (unsigned i = 0; i < TOKENS_MAX; i++) {
            struct co_event *event = atomic_load(&tokens[i].to_wake) ? atomic_exchange(&tokens[i].to_wake, NULL) : NULL;
            if (!event)
                continue;
            dawdle(&random);
            co_event_set(event);
        }
        if (next_random(&random) % 64 == 0)
            sched_yield();
    }
    return NULL;
}

static void tell_where(void)
{
    print_error("no token has moved for %d steps of the watchdog\n", WATCHDOG_STEPS);
    for (unsigned i = 0; i < TOKENS_MAX; i++)
        print_error("token %u: %u stops left, waits for %s\n", i, tokens[i].stops, atomic_load(&tokens[i].doing));
    for (unsigned i = 0; i < loop_io_count(); i++)
        loop_print_coroutines(loop_io(i), stderr);
    loop_print_coroutines(loop_control(), stderr);
    abort();
}

static pthread_mutex_t watching = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t stop_watching = PTHREAD_COND_INITIALIZER;

static void *watch(void *arg)
{
    unsigned seen = 0;
    unsigned still = 0;
    pthread_mutex_lock(&watching);
    while (!over) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += WATCHDOG_STEP_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&stop_watching, &watching, &until);
        unsigned now = steps;
        still = now == seen ? still + 1 : 0;
        seen = now;
        if (still == WATCHDOG_STEPS)
            tell_where();
    }
    pthread_mutex_unlock(&watching);
    return arg;
}

static uint64_t number_from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void run_rounds(void)
{
    uint64_t seconds = number_from_environment("CAIRN_TEST_SECONDS", 0);
    uint64_t seed = number_from_environment("CAIRN_TEST_SEED", seconds ? (uint64_t)time(NULL) * 1000 : 1);
    unsigned rounds = getenv("CAIRN_TEST_SEED") ? 1 : ROUNDS;
    time_t end = time(NULL) + (time_t)seconds;
    unsigned done = 0;
    do {
        run_round(seed++);
        done++;
    } while (seconds ? time(NULL) < end : done < rounds);
    print_message("%u rounds, %u stops, next seed %llu\n", done, (unsigned)steps, (unsigned long long)seed);
}

static void tokens_do_not_get_stuck(void **state)
{
    (void)state;
    pthread_t wakers[WAKERS];
    pthread_t watchdog;
    over = false;
    assert_null(runtime_start(&(struct runtime_options){ .io_loops = LOOPS }));
    narrow = pool_domain_create("narrow", 1);
    co_mutex_init(&mutex);
    for (unsigned i = 0; i < TOKENS_MAX; i++) {
        tokens[i] = (struct token){ .domain = pool_domain_create("token", 2) };
        atomic_store(&tokens[i].doing, "nothing");
    }
    for (size_t i = 0; i < WAKERS; i++)
        assert_int_equal(pthread_create(&wakers[i], NULL, wake_tokens, (void *)(i + 1)), 0);
    assert_int_equal(pthread_create(&watchdog, NULL, watch, NULL), 0);

    run_rounds();

    pthread_mutex_lock(&watching);
    over = true;
    pthread_cond_signal(&stop_watching);
    pthread_mutex_unlock(&watching);
    pthread_join(watchdog, NULL);
    for (size_t i = 0; i < WAKERS; i++)
        pthread_join(wakers[i], NULL);
    for (unsigned i = 0; i < TOKENS_MAX; i++)
        pool_domain_unref(tokens[i].domain);
    pool_domain_unref(narrow);
    co_mutex_fini(&mutex);
    runtime_stop(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_do_not_get_stuck),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
