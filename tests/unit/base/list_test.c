#include "blockcore/base/list.h"

#include "tests/unit/base/unit.h"

struct item {
    int number;
    struct list link;
};

/* The numbers in the list, as text: "1 2 3". Checks that both directions agree. */
static void expect_numbers(const struct list *head, const char *expected)
{
    char text[128] = "";
    size_t length = 0;
    const struct list *before = head;
    for (const struct list *link = head->next; link != head; link = link->next) {
        assert_ptr_equal(link->prev, before);
        const struct item *item = (const struct item *)((const char *)link - offsetof(struct item, link));
        length += (size_t)snprintf(text + length, sizeof(text) - length, length ? " %d" : "%d", item->number);
        before = link;
    }
    assert_ptr_equal(head->prev, before);
    assert_string_equal(text, expected);
}

static void append_makes_a_queue_and_prepend_a_stack(void **state)
{
    (void)state;
    struct list head = LIST_INIT(head);
    struct item items[4] = { { .number = 1 }, { .number = 2 }, { .number = 3 }, { .number = 4 } };
    assert_true(list_empty(&head));
    list_append(&head, &items[0].link);
    list_append(&head, &items[1].link);
    list_prepend(&head, &items[2].link);
    list_prepend(&head, &items[3].link);
    expect_numbers(&head, "4 3 1 2");
    assert_false(list_empty(&head));
}

static void removing_twice_is_harmless(void **state)
{
    (void)state;
    struct list head = LIST_INIT(head);
    struct item items[3] = { { .number = 1 }, { .number = 2 }, { .number = 3 } };
    for (int i = 0; i < 3; i++)
        list_append(&head, &items[i].link);
    list_remove(&items[1].link);
    list_remove(&items[1].link);
    expect_numbers(&head, "1 3");
    assert_true(list_empty(&items[1].link));
}

static void take_first_empties_in_order(void **state)
{
    (void)state;
    struct list head = LIST_INIT(head);
    struct item items[3] = { { .number = 1 }, { .number = 2 }, { .number = 3 } };
    for (int i = 0; i < 3; i++)
        list_append(&head, &items[i].link);
    for (int i = 0; i < 3; i++) {
        assert_ptr_equal(list_first(&head, struct item, link), &items[i]);
        assert_ptr_equal(list_take_first(&head), &items[i].link);
    }
    assert_null(list_take_first(&head));
    assert_null(list_first(&head, struct item, link));
}

static void splice_moves_everything_to_the_end(void **state)
{
    (void)state;
    struct list to = LIST_INIT(to);
    struct list from = LIST_INIT(from);
    struct item items[4] = { { .number = 1 }, { .number = 2 }, { .number = 3 }, { .number = 4 } };
    list_splice(&to, &from);
    expect_numbers(&to, "");
    list_append(&from, &items[0].link);
    list_append(&from, &items[1].link);
    list_splice(&to, &from);
    expect_numbers(&to, "1 2");
    expect_numbers(&from, "");
    list_append(&from, &items[2].link);
    list_append(&from, &items[3].link);
    list_splice(&to, &from);
    expect_numbers(&to, "1 2 3 4");
    list_splice(&to, &from);
    expect_numbers(&to, "1 2 3 4");
}

static void the_safe_walk_survives_removal_of_its_element(void **state)
{
    (void)state;
    struct list head = LIST_INIT(head);
    struct item items[5];
    for (int i = 0; i < 5; i++) {
        items[i].number = i;
        list_append(&head, &items[i].link);
    }
    struct item *item;
    struct item *following;
    int sum = 0;
    list_for_each_safe (item, following, &head, link) {
        if (item->number % 2 == 0)
            list_remove(&item->link);
    }
    expect_numbers(&head, "1 3");
    list_for_each (item, &head, link)
        sum += item->number;
    assert_int_equal(sum, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append_makes_a_queue_and_prepend_a_stack),
        cmocka_unit_test(removing_twice_is_harmless),
        cmocka_unit_test(take_first_empties_in_order),
        cmocka_unit_test(splice_moves_everything_to_the_end),
        cmocka_unit_test(the_safe_walk_survives_removal_of_its_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
