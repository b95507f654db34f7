#include "blockcore/base/hash.h"

#include "tests/unit/base/unit.h"

struct item {
    struct hash_link link;
    char name[32];
    bool inside; /* the model */
    unsigned seen;
};

#define ITEMS 3000

static struct item items[ITEMS];

static void forget_everything(void)
{
    memset(items, 0, sizeof(items));
    for (unsigned i = 0; i < ITEMS; i++)
        snprintf(items[i].name, sizeof(items[i].name), "node%u", i);
}

/* An empty table answers without having any memory. */
static void an_empty_table_holds_nothing(void **state)
{
    (void)state;
    struct hash hash;
    hash_init(&hash);
    assert_null(hash_find_string(&hash, "a"));
    assert_null(hash_find_number(&hash, 0));
    assert_null(hash_next(&hash, NULL));
    hash_fini(&hash);
}

static void names_are_compared_by_content(void **state)
{
    (void)state;
    struct hash hash;
    hash_init(&hash);
    forget_everything();
    hash_insert_string(&hash, &items[7].link, items[7].name);
    char copy[] = "node7";
    assert_ptr_equal(hash_find_string(&hash, copy), &items[7].link);
    assert_ptr_equal(hash_entry(hash_find_string(&hash, copy), struct item, link), &items[7]);
    assert_null(hash_find_string(&hash, "node"));
    assert_null(hash_find_string(&hash, "node77"));
    assert_null(hash_find_string(&hash, ""));
    hash_remove(&hash, &items[7].link);
    assert_null(hash_find_string(&hash, copy));
    hash_fini(&hash);
}

static void names_that_differ_late_or_by_trailing_bytes_are_different(void **state)
{
    (void)state;
    static const char *const names[] = { "", "a", "aaaaaaaa", "aaaaaaaaa", "aaaaaaab", "aaaaaaaaaaaaaaaa", "\x01" };
    struct hash_link links[ARRAY_SIZE(names)];
    struct hash hash;
    hash_init(&hash);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        hash_insert_string(&hash, &links[i], names[i]);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_ptr_equal(hash_find_string(&hash, names[i]), &links[i]);
    hash_fini(&hash);
}

static void expect_the_model(const struct hash *hash, size_t count)
{
    assert_int_equal(hash->count, count);
    for (unsigned i = 0; i < ITEMS; i++)
        items[i].seen = 0;
    size_t walked = 0;
    for (struct hash_link *link = hash_next(hash, NULL); link; link = hash_next(hash, link)) {
        hash_entry(link, struct item, link)->seen++;
        walked++;
    }
    assert_int_equal(walked, count);
    for (unsigned i = 0; i < ITEMS; i++)
        assert_int_equal(items[i].seen, items[i].inside);
}

/* Random inserts and removals against an array of flags. */
static void strings_behave_like_a_set(void **state)
{
    (void)state;
    struct hash hash;
    uint64_t seed = 1;
    size_t count = 0;
    hash_init(&hash);
    forget_everything();
    for (unsigned step = 0; step < 100000; step++) {
        struct item *item = &items[next_random(&seed) % ITEMS];
        assert_ptr_equal(hash_find_string(&hash, item->name), item->inside ? &item->link : NULL);
        if (item->inside)
            hash_remove(&hash, &item->link);
        else
            hash_insert_string(&hash, &item->link, item->name);
        item->inside = !item->inside;
        count = item->inside ? count + 1 : count - 1;
        if (step % 10000 == 0)
            expect_the_model(&hash, count);
    }
    expect_the_model(&hash, count);
    hash_fini(&hash);
}

static uint64_t number_of(const struct item *item)
{
    /* Multiples of a cluster size: their low bits are all alike. */
    return (uint64_t)(item - items) << 48 | (uint64_t)(item - items) << 16;
}

static void numbers_behave_like_a_set(void **state)
{
    (void)state;
    struct hash hash;
    uint64_t seed = 2;
    size_t count = 0;
    hash_init(&hash);
    forget_everything();
    for (unsigned step = 0; step < 100000; step++) {
        struct item *item = &items[next_random(&seed) % ITEMS];
        assert_ptr_equal(hash_find_number(&hash, number_of(item)), item->inside ? &item->link : NULL);
        if (item->inside)
            hash_remove(&hash, &item->link);
        else
            hash_insert_number(&hash, &item->link, number_of(item));
        item->inside = !item->inside;
        count = item->inside ? count + 1 : count - 1;
    }
    expect_the_model(&hash, count);
    hash_fini(&hash);
}

/* However regular the keys are, no chain is longer than a handful. */
static void regular_numbers_spread_over_the_buckets(void **state)
{
    (void)state;
    struct hash hash;
    hash_init(&hash);
    forget_everything();
    for (unsigned i = 0; i < ITEMS; i++)
        hash_insert_number(&hash, &items[i].link, number_of(&items[i]));
    assert_true(hash.bucket_count >= ITEMS);
    for (size_t i = 0; i < hash.bucket_count; i++) {
        unsigned chain = 0;
        for (struct hash_link *link = hash.buckets[i]; link; link = link->next)
            chain++;
        assert_true(chain < 16);
    }
    hash_fini(&hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_table_holds_nothing),
        cmocka_unit_test(names_are_compared_by_content),
        cmocka_unit_test(names_that_differ_late_or_by_trailing_bytes_are_different),
        cmocka_unit_test(strings_behave_like_a_set),
        cmocka_unit_test(numbers_behave_like_a_set),
        cmocka_unit_test(regular_numbers_spread_over_the_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
