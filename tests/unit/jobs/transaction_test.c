/* The engine of transactions: one moment, all or nothing, bit by bit. */
#include "tests/unit/graph/fixture.h"

#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/jobs/transaction_private.h"

#define GRANULE 512u

static struct dirty_bitmap *add_bitmap(const char *node, const char *name)
{
    struct dirty_bitmap *bitmap;
    expect_success(dirty_bitmap_create(node_find(node), name, GRANULE, &bitmap));
    return bitmap;
}

/* One character for each granule of a disk of 4096 bytes. */
static void expect_bits(struct dirty_bitmap *bitmap, const char *expected)
{
    char found[9] = "";
    for (uint64_t at = 0; at < 4096; at += GRANULE)
        strcat(found, dirty_bitmap_next_dirty(bitmap, at) == at ? "x" : ".");
    assert_string_equal(found, expected);
}

static void mark(struct dirty_bitmap *bitmap, uint64_t granule)
{
    dirty_bitmap_mark(bitmap, range_make(granule * GRANULE, GRANULE));
}

static void put(struct handle *handle, uint64_t granule)
{
    struct write write;
    write_start(&write, handle, granule * GRANULE, GRANULE, 1);
    assert_int_equal(write_end(&write), 0);
}

/* An action that tells when it has its turns, and fails at the moment if it shall. */
struct probe {
    struct action action;
    bool fail;
    bool fail_undo;
};

static char told[200];

static void tell(const char *what, const struct action *action)
{
    snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s%zu ", what, action->number);
}

static struct error *probe_moment(struct action *action)
{
    tell("moment", action);
    return CONTAINER_OF(action, struct probe, action)->fail ? error_new("at the moment") : NULL;
}

static struct error *probe_undo(struct action *action)
{
    tell("undo", action);
    return CONTAINER_OF(action, struct probe, action)->fail_undo ? error_new("no way back") : NULL;
}

static void probe_done(struct action *action)
{
    tell("done", action);
}

static void probe_settle(struct action *action)
{
    tell("settle", action);
}

static void probe_give_up(struct action *action)
{
    tell("give-up", action);
}

static void probe_fini(struct action *action)
{
    tell("fini", action);
}

static const struct action_ops probe_ops = {
    .moment = probe_moment,
    .undo_moment = probe_undo,
    .done = probe_done,
    .settle = probe_settle,
    .give_up = probe_give_up,
    .fini = probe_fini,
};

static struct probe *add_probe(struct transaction *transaction)
{
    told[0] = '\0';
    return CONTAINER_OF(action_add(transaction, &probe_ops, sizeof(struct probe)), struct probe, action);
}

static void expect_commit(struct transaction *transaction)
{
    size_t number;
    expect_success(transaction_commit(transaction, &number));
    assert_true(number == SIZE_MAX);
}

static void expect_failure(struct transaction *transaction, const char *message, size_t failed)
{
    size_t number;
    expect_error(transaction_commit(transaction, &number), message);
    assert_true(number == failed);
}

IN_GRAPH(steps_come_in_order)
{
    struct transaction *transaction = transaction_begin(false);
    for (unsigned i = 0; i < 3; i++)
        add_probe(transaction);
    expect_commit(transaction);
    assert_string_equal(told, "moment0 moment1 moment2 done0 done1 done2 settle0 settle1 settle2 fini0 fini1 fini2 ");
}

IN_GRAPH(what_fails_is_undone_in_reverse)
{
    struct transaction *transaction = transaction_begin(false);
    add_probe(transaction);
    add_probe(transaction)->fail = true;
    add_probe(transaction);
    expect_failure(transaction, "at the moment", 1);
    assert_string_equal(told, "moment0 moment1 undo1 undo0 give-up2 give-up1 give-up0 fini0 fini1 fini2 ");

    transaction = transaction_begin(true);
    add_probe(transaction);
    add_probe(transaction);
    transaction_abort(transaction);
    assert_string_equal(told, "give-up1 give-up0 fini0 fini1 ");
}

IN_GRAPH(what_cannot_be_undone_is_said)
{
    struct transaction *transaction = transaction_begin(false);
    add_probe(transaction)->fail_undo = true;
    add_probe(transaction)->fail = true;
    expect_failure(transaction, "at the moment; undoing it: no way back", 1);
}

/* Each action on the bits, and then the end of the world at the moment: all is as it was. */
IN_GRAPH(bits_come_back_as_they_were)
{
    add_mem("a", 4096);
    struct handle *user = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    struct dirty_bitmap *one = add_bitmap("a", "one");
    struct dirty_bitmap *two = add_bitmap("a", "two");
    dirty_bitmap_set_enabled(two, false);
    put(user, 1);
    put(user, 6);
    mark(two, 3);
    for (unsigned fail = 0; fail < 2; fail++) {
        struct transaction *transaction = transaction_begin(false);
        expect_success(transaction_merge_bitmaps(transaction, two, &one, 1));
        expect_success(transaction_clear_bitmap(transaction, one));
        expect_success(transaction_enable_bitmap(transaction, two, true));
        expect_success(transaction_enable_bitmap(transaction, one, false));
        struct dirty_bitmap *more = add_bitmap("a", "more");
        expect_success(transaction_new_bitmap(transaction, more));
        expect_success(transaction_merge_bitmaps(transaction, more, &two, 1));
        expect_success(transaction_merge_bitmaps(transaction, more, &one, 1));
        put(user, 0); /* before the moment */
        if (fail == 0) {
            add_probe(transaction)->fail = true;
            expect_failure(transaction, "at the moment", 7);
            expect_bits(one, "xx....x.");
            expect_bits(two, "...x....");
            assert_true(dirty_bitmap_is_enabled(one) && !dirty_bitmap_is_enabled(two));
            assert_null(dirty_bitmap_find(node_find("a"), "more"));
        } else {
            expect_commit(transaction);
            put(user, 7);
            expect_bits(one, "........");
            expect_bits(two, "xx.x..xx");
            expect_bits(more, "xx.x..xx");
        }
        assert_false(dirty_bitmap_is_busy(one) || dirty_bitmap_is_busy(two));
    }
    handle_close(user);
}

/* Merging takes long where there are many bits, so guests go on until the moment. */
IN_GRAPH(what_is_written_while_bits_are_merged_counts)
{
    add_mem("a", 4096);
    struct handle *user = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    struct dirty_bitmap *one = add_bitmap("a", "one");
    struct dirty_bitmap *two = add_bitmap("a", "two");
    put(user, 1);
    mark(two, 3);

    struct transaction *transaction = transaction_begin(false);
    expect_success(transaction_merge_bitmaps(transaction, two, &one, 1));
    put(user, 5);
    expect_bits(two, ".x.x.x..");
    expect_commit(transaction);
    expect_bits(two, ".x.x.x..");

    dirty_bitmap_set_enabled(two, false);
    transaction = transaction_begin(false);
    expect_success(transaction_merge_bitmaps(transaction, two, &one, 1));
    put(user, 6);
    expect_bits(two, ".x.x.x..");
    expect_commit(transaction);
    expect_bits(two, ".x.x.xx.");

    transaction = transaction_begin(false);
    expect_success(transaction_clear_bitmap(transaction, two));
    expect_success(transaction_merge_bitmaps(transaction, two, &one, 1));
    put(user, 7);
    expect_commit(transaction);
    expect_bits(two, ".x...xxx");

    dirty_bitmap_set_enabled(two, true); /* what it records itself is cleared at the moment */
    dirty_bitmap_set_enabled(one, false);
    transaction = transaction_begin(false);
    expect_success(transaction_clear_bitmap(transaction, two));
    expect_success(transaction_merge_bitmaps(transaction, two, &one, 1));
    put(user, 0);
    expect_commit(transaction);
    expect_bits(two, ".x...xxx");

    transaction = transaction_begin(false);
    expect_success(transaction_clear_bitmap(transaction, one));
    expect_success(transaction_merge_bitmaps(transaction, one, &two, 1));
    expect_success(transaction_merge_bitmaps(transaction, two, &one, 1));
    put(user, 3);
    expect_commit(transaction);
    expect_bits(one, ".x.x.xxx");
    expect_bits(two, ".x.x.xxx");
    handle_close(user);
}

struct committing {
    struct transaction *transaction;
    struct error *err;
    struct co_event done;
};

static void commit_run(void *arg)
{
    struct committing *committing = arg;
    size_t failed;
    committing->err = transaction_commit(committing->transaction, &failed);
    co_event_set(&committing->done);
}

/* The write on "a" has not ended; one on "b" that comes after waits. Both bitmaps are cleared when "a" has ended. */
IN_GRAPH(a_write_that_has_begun_is_before_the_moment_and_one_that_has_not_is_after_it)
{
    add_mem("a", 4096);
    add_mem("b", 4096);
    struct handle *on_a = open_handle("a", "user", PERM_WRITE, PERM_ALL);
    struct handle *on_b = open_handle("b", "user", PERM_WRITE, PERM_ALL);
    struct dirty_bitmap *bits_a = add_bitmap("a", "bits");
    struct dirty_bitmap *bits_b = add_bitmap("b", "bits");
    struct committing committing = { .transaction = transaction_begin(false) };
    co_event_init(&committing.done);
    expect_success(transaction_clear_bitmap(committing.transaction, bits_a));
    expect_success(transaction_clear_bitmap(committing.transaction, bits_b));

    struct write first;
    struct write second;
    mem_hold(mem_of("a"));
    write_start(&first, on_a, 0, GRANULE, 1);
    mem_wait_held(mem_of("a"), 1);
    co_start("transaction", commit_run, &committing);
    settle();
    write_start(&second, on_b, 0, GRANULE, 1);
    settle();
    assert_false(co_event_is_set(&committing.done));
    assert_int_equal(mem_of("b")->bytes[0], 0);
    mem_release(mem_of("a"));
    co_event_wait(&committing.done, "test");
    expect_success(committing.err);
    assert_int_equal(write_end(&first), 0);
    assert_int_equal(write_end(&second), 0);
    expect_bits(bits_a, "........");
    expect_bits(bits_b, "x.......");
    handle_close(on_a);
    handle_close(on_b);
}

IN_GRAPH(a_bitmap_is_busy_for_others_and_after_its_last_action)
{
    add_mem("a", 4096);
    struct dirty_bitmap *bits = add_bitmap("a", "bits");
    struct transaction *transaction = transaction_begin(false);
    struct transaction *other = transaction_begin(false);
    expect_success(transaction_clear_bitmap(transaction, bits));
    expect_error(transaction_clear_bitmap(other, bits), "currently in use");
    expect_success(transaction_enable_bitmap(transaction, bits, false));
    expect_success(transaction_remove_bitmap(transaction, bits));
    expect_error(transaction_enable_bitmap(transaction, bits, true), "currently in use");
    transaction_abort(other);
    transaction_abort(transaction);
    assert_true(dirty_bitmap_find(node_find("a"), "bits") == bits);
    assert_false(dirty_bitmap_is_busy(bits));
    assert_true(dirty_bitmap_is_enabled(bits));

    transaction = transaction_begin(false);
    expect_success(transaction_clear_bitmap(transaction, bits));
    expect_success(transaction_remove_bitmap(transaction, bits));
    expect_commit(transaction);
    assert_null(dirty_bitmap_find(node_find("a"), "bits"));
}

/* The node is deleted in the middle: it stays until the transaction has ended. */
IN_GRAPH(a_node_that_is_deleted_meanwhile)
{
    add_mem("a", 4096);
    struct transaction *transaction = transaction_begin(false);
    struct dirty_bitmap *bits = add_bitmap("a", "bits");
    expect_success(transaction_new_bitmap(transaction, bits));
    expect_success(transaction_clear_bitmap(transaction, bits));
    struct deletion deletion;
    delete_start(&deletion, "a");
    settle();
    expect_commit(transaction);
    co_event_wait(&deletion.done, "test");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_come_in_order),
        cmocka_unit_test(what_fails_is_undone_in_reverse),
        cmocka_unit_test(what_cannot_be_undone_is_said),
        cmocka_unit_test(bits_come_back_as_they_were),
        cmocka_unit_test(what_is_written_while_bits_are_merged_counts),
        cmocka_unit_test(a_write_that_has_begun_is_before_the_moment_and_one_that_has_not_is_after_it),
        cmocka_unit_test(a_bitmap_is_busy_for_others_and_after_its_last_action),
        cmocka_unit_test(a_node_that_is_deleted_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
