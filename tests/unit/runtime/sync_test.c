#include "blockcore/runtime/sync.h"

#include "tests/unit/runtime/co_test.h"

#include <sched.h>

/* Runs @entry(@arg) @count times on each I/O loop and waits for all of them. */
struct everywhere {
    coroutine_entry *entry;
    void *arg;
    unsigned count;
};

static int run_here(void *arg)
{
    struct everywhere *all = arg;
    struct co_group group;
    co_group_init(&group);
    for (unsigned i = 0; i < all->count; i++)
        co_group_start(&group, "one of many", all->entry, all->arg);
    co_group_join(&group);
    return 0;
}

struct loop_share {
    struct everywhere *all;
    struct loop *loop;
};

static void run_there(void *arg)
{
    struct loop_share *share = arg;
    co_call_on(share->loop, "many", run_here, share->all);
}

static void run_everywhere(coroutine_entry *entry, void *arg, unsigned count)
{
    struct everywhere all = { .entry = entry, .arg = arg, .count = count };
    struct loop_share shares[2];
    struct co_group group;
    co_group_init(&group);
    for (unsigned i = 0; i < 2; i++) {
        shares[i] = (struct loop_share){ .all = &all, .loop = loop_io(i) };
        co_group_start(&group, "loop", run_there, &shares[i]);
    }
    co_group_join(&group);
}

static struct co_mutex mutex;
static struct co_rwlock rwlock;
static struct co_queue queue;

static void lock_and_note(void *name)
{
    co_mutex_lock(&mutex);
    note(name);
    co_yield ();
    co_mutex_unlock(&mutex);
}

static char a[] = "a";
static char b[] = "b";
static char c[] = "c";
static char d[] = "d";

CO_TEST(a_mutex_is_handed_over_in_the_order_of_asking)
{
    struct co_group group;
    co_mutex_init(&mutex);
    co_group_init(&group);
    co_mutex_lock(&mutex);
    co_group_start(&group, "a", lock_and_note, a);
    co_group_start(&group, "b", lock_and_note, b);
    co_group_start(&group, "c", lock_and_note, c);
    co_yield ();
    expect_text(noted(), "");
    co_mutex_unlock(&mutex);
    /* It belongs to "a" already, so nobody can slip in between. */
    expect(!co_mutex_try_lock(&mutex));
    co_mutex_lock(&mutex);
    note("main");
    co_mutex_unlock(&mutex);
    co_group_join(&group);
    expect_text(noted(), "a b c main");
    co_mutex_fini(&mutex);
}

CO_TEST(try_lock_does_not_wait)
{
    co_mutex_init(&mutex);
    expect(co_mutex_try_lock(&mutex));
    expect(!co_mutex_try_lock(&mutex));
    co_mutex_unlock(&mutex);
    expect(co_mutex_try_lock(&mutex));
    co_mutex_unlock(&mutex);
    co_mutex_fini(&mutex);
}

CO_TEST(a_held_mutex_is_released_at_the_end_of_the_scope)
{
    co_mutex_init(&mutex);
    {
        CLEANUP(co_mutex_release) struct co_mutex *held = co_mutex_hold(&mutex);
        expect(held == &mutex);
        expect(!co_mutex_try_lock(&mutex));
    }
    expect(co_mutex_try_lock(&mutex));
    co_mutex_unlock(&mutex);
}

static struct {
    bool inside;
    unsigned count;
} guarded;

static void enter_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++) {
        co_mutex_lock(&mutex);
        expect(!guarded.inside);
        guarded.inside = true;
        if (i % 4 == 0)
            co_yield ();
        guarded.inside = false;
        guarded.count++;
        co_mutex_unlock(&mutex);
    }
}

/* The fields are plain: the mutex alone orders the threads. */
CO_TEST(a_mutex_has_one_holder_among_all_threads)
{
    co_mutex_init(&mutex);
    guarded.count = 0;
    run_everywhere(enter_often, NULL, 50);
    expect_int(guarded.count, 2 * 50 * 200);
    co_mutex_fini(&mutex);
}

static void read_and_note(void *name)
{
    co_rwlock_read(&rwlock);
    note(name);
    co_yield ();
    co_rwlock_unlock(&rwlock);
}

static void write_and_note(void *name)
{
    co_rwlock_write(&rwlock);
    note(name);
    co_yield ();
    note("end");
    co_rwlock_unlock(&rwlock);
}

CO_TEST(readers_share)
{
    struct co_group group;
    co_rwlock_init(&rwlock);
    co_group_init(&group);
    co_rwlock_read(&rwlock);
    co_group_start(&group, "a", read_and_note, a);
    co_group_start(&group, "b", read_and_note, b);
    expect_text(noted(), "a b");
    co_rwlock_unlock(&rwlock);
    co_group_join(&group);
    co_rwlock_fini(&rwlock);
}

/*   holder   waiting in line
 *   reader   writer a, reader b, reader c, writer d */
CO_TEST(a_waiting_writer_holds_back_later_readers)
{
    struct co_group group;
    co_rwlock_init(&rwlock);
    co_group_init(&group);
    co_rwlock_read(&rwlock);
    co_group_start(&group, "a", write_and_note, a);
    co_group_start(&group, "b", read_and_note, b);
    co_group_start(&group, "c", read_and_note, c);
    co_group_start(&group, "d", write_and_note, d);
    co_yield ();
    expect_text(noted(), "");
    co_rwlock_unlock(&rwlock);
    co_group_join(&group);
    expect_text(noted(), "a end b c d end");
    co_rwlock_fini(&rwlock);
}

static struct {
    _Atomic int readers;
    _Atomic int writers;
    unsigned written; /* plain: the lock guards it */
} shared;

static void read_or_write_often(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 100; i++) {
        if (i % 4 == 0) {
            co_rwlock_write(&rwlock);
            expect_int(shared.writers++, 0);
            expect_int(shared.readers, 0);
            shared.written++;
            co_yield ();
            shared.writers--;
        } else {
            co_rwlock_read(&rwlock);
            shared.readers++;
            expect_int(shared.writers, 0);
            unsigned before = shared.written;
            co_yield ();
            expect_int(shared.written, before);
            shared.readers--;
        }
        co_rwlock_unlock(&rwlock);
    }
}

CO_TEST(a_writer_is_alone_among_all_threads)
{
    co_rwlock_init(&rwlock);
    shared.written = 0;
    run_everywhere(read_or_write_often, NULL, 20);
    expect_int(shared.written, 2 * 20 * 25);
    co_rwlock_fini(&rwlock);
}

static void queue_and_note(void *name)
{
    co_queue_wait(&queue, NULL, "the test");
    note(name);
}

CO_TEST(a_queue_wakes_the_first_or_all)
{
    struct co_group group;
    co_queue_init(&queue);
    co_group_init(&group);
    expect(!co_queue_wake_one(&queue));
    expect(co_queue_empty(&queue));
    co_group_start(&group, "a", queue_and_note, a);
    co_group_start(&group, "b", queue_and_note, b);
    co_group_start(&group, "c", queue_and_note, c);
    expect(!co_queue_empty(&queue));
    expect(co_queue_wake_one(&queue));
    co_yield ();
    expect_text(noted(), "a");
    co_queue_wake_all(&queue);
    expect(co_queue_empty(&queue));
    co_group_join(&group);
    expect_text(noted(), "b c");
    co_queue_fini(&queue);
}

static struct coroutine *patient;

static void queue_until_cancelled(void *name)
{
    patient = co_self();
    expect(co_queue_wait_unless_cancelled(&queue, "the test"));
    note("woken");
    expect(!co_cancelled());
    expect(!co_queue_wait_unless_cancelled(&queue, "the test"));
    expect(co_cancelled());
    expect(!co_queue_wait_unless_cancelled(&queue, "the test")); /* not again either */
    note(name);
    co_queue_wait(&queue, NULL, "the test"); /* others do not end early */
    note("woken");
}

CO_TEST(a_wait_may_end_when_the_coroutine_is_cancelled)
{
    struct co_group group;
    struct co_note note_of_test;
    co_queue_init(&queue);
    co_group_init(&group);
    co_note_begin(&note_of_test, "testing", NULL);
    co_note_end(&note_of_test);
    co_group_start(&group, "a", queue_until_cancelled, a);
    CLEANUP(free) char *text = co_describe(patient);
    expect_text(text, "the test");
    co_queue_wake_all(&queue);
    co_yield ();
    expect_text(noted(), "woken");
    co_cancel(patient);
    co_cancel(patient);
    expect(!co_queue_empty(&queue));
    co_yield ();
    expect_text(noted(), "a");
    co_queue_wake_all(&queue);
    co_group_join(&group);
    expect_text(noted(), "woken");
    expect(co_queue_empty(&queue));
    expect(!co_cancelled());
    co_queue_fini(&queue);
}

/* A store with room for one; the producer lives on one loop, the consumer on the other. One wake-up that is lost
 * between looking at the store and waiting stops both for good. */
static struct {
    struct spinlock spin;
    struct co_queue not_full;
    struct co_queue not_empty;
    int items;
    unsigned taken;
} store;

#define ITEMS 20000

static void store_init(void)
{
    co_mutex_init(&mutex);
    spinlock_init(&store.spin);
    co_queue_init(&store.not_full);
    co_queue_init(&store.not_empty);
    store.items = 0;
    store.taken = 0;
}

static int produce(void *unused)
{
    (void)unused;
    for (int i = 0; i < ITEMS; i++) {
        co_mutex_lock(&mutex);
        while (store.items == 1)
            co_queue_wait(&store.not_full, &mutex, "room");
        store.items++;
        co_queue_wake_one(&store.not_empty);
        co_mutex_unlock(&mutex);
    }
    return 0;
}

static int consume(void *unused)
{
    (void)unused;
    for (int i = 0; i < ITEMS; i++) {
        co_mutex_lock(&mutex);
        while (store.items == 0)
            co_queue_wait(&store.not_empty, &mutex, "an item");
        store.items--;
        store.taken++;
        co_queue_wake_one(&store.not_full);
        co_mutex_unlock(&mutex);
    }
    return 0;
}

static int produce_spinning(void *unused)
{
    (void)unused;
    for (int i = 0; i < ITEMS; i++) {
        spinlock_lock(&store.spin);
        while (store.items == 1)
            co_queue_wait_spin(&store.not_full, &store.spin, "room");
        store.items++;
        spinlock_unlock(&store.spin);
        co_queue_wake_one(&store.not_empty);
    }
    return 0;
}

static int consume_spinning(void *unused)
{
    (void)unused;
    for (int i = 0; i < ITEMS; i++) {
        spinlock_lock(&store.spin);
        while (store.items == 0)
            co_queue_wait_spin(&store.not_empty, &store.spin, "an item");
        store.items--;
        store.taken++;
        spinlock_unlock(&store.spin);
        co_queue_wake_one(&store.not_full);
    }
    return 0;
}

static void consume_on_other_loop(void *consumer)
{
    int (*const *fn)(void *) = consumer;
    co_call_on(loop_io(1), "consumer", *fn, NULL);
}

static void trade(int (*producer)(void *), int (*consumer)(void *))
{
    struct co_group group;
    store_init();
    co_group_init(&group);
    co_group_start(&group, "consumer", consume_on_other_loop, &consumer);
    co_call_on(loop_io(0), "producer", producer, NULL);
    co_group_join(&group);
    expect_int(store.taken, ITEMS);
    co_queue_fini(&store.not_full);
    co_queue_fini(&store.not_empty);
}

CO_TEST(no_wake_up_is_lost_between_a_mutex_and_a_queue)
{
    trade(produce, consume);
}

CO_TEST(no_wake_up_is_lost_between_a_spinlock_and_a_queue)
{
    trade(produce_spinning, consume_spinning);
}

struct queuer {
    _Atomic bool has_lock;
    struct co_event done;
};

static void queue_with_mutex(void *arg)
{
    struct queuer *queuer = arg;
    co_mutex_lock(&mutex);
    queuer->has_lock = true;
    co_queue_wait(&queue, &mutex, "the test");
    expect(!co_mutex_try_lock(&mutex));
    co_mutex_unlock(&mutex);
    co_event_set(&queuer->done);
}

static void queue_with_spinlock(void *arg)
{
    struct queuer *queuer = arg;
    spinlock_lock(&store.spin);
    queuer->has_lock = true;
    co_queue_wait_spin(&queue, &store.spin, "the test");
    expect(atomic_flag_test_and_set(&store.spin.taken));
    spinlock_unlock(&store.spin);
    co_event_set(&queuer->done);
}

static bool mutex_is_free(void)
{
    return co_mutex_try_lock(&mutex);
}

static bool spinlock_is_free(void)
{
    return !atomic_flag_test_and_set(&store.spin.taken);
}

/* The guard of the queue is held, so nobody can get into the queue: until then the lock must not be released. */
static void watch_lock_while_queue_is_shut(coroutine_entry *waiter, bool (*is_free)(void))
{
    struct queuer queuer = { .has_lock = false };
    store_init();
    co_queue_init(&queue);
    co_event_init(&queuer.done);
    spinlock_lock(&queue.guard);
    co_start_on(loop_io(0), "waiter", waiter, &queuer);
    while (!queuer.has_lock)
        sched_yield();
    for (int i = 0; i < 100000; i++)
        expect(!is_free());
    spinlock_unlock(&queue.guard);
    while (!co_queue_wake_one(&queue))
        co_yield ();
    co_event_wait(&queuer.done, "the waiter");
}

CO_TEST(a_lock_is_released_only_when_its_holder_is_in_the_queue)
{
    watch_lock_while_queue_is_shut(queue_with_mutex, mutex_is_free);
    watch_lock_while_queue_is_shut(queue_with_spinlock, spinlock_is_free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mutex_is_handed_over_in_the_order_of_asking),
        cmocka_unit_test(try_lock_does_not_wait),
        cmocka_unit_test(a_held_mutex_is_released_at_the_end_of_the_scope),
        cmocka_unit_test(a_mutex_has_one_holder_among_all_threads),
        cmocka_unit_test(readers_share),
        cmocka_unit_test(a_waiting_writer_holds_back_later_readers),
        cmocka_unit_test(a_writer_is_alone_among_all_threads),
        cmocka_unit_test(a_queue_wakes_the_first_or_all),
        cmocka_unit_test(a_wait_may_end_when_the_coroutine_is_cancelled),
        cmocka_unit_test(a_lock_is_released_only_when_its_holder_is_in_the_queue),
        cmocka_unit_test(no_wake_up_is_lost_between_a_mutex_and_a_queue),
        cmocka_unit_test(no_wake_up_is_lost_between_a_spinlock_and_a_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
