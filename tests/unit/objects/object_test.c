/* The table of objects: ids, users, order. */
#include "blockcore/objects/object.h"

#include "tests/unit/runtime/co_test.h"

#include <string.h>

static struct object_options group_options(const char *id)
{
    return (struct object_options){ .qom_type = OBJECT_TYPE_THROTTLE_GROUP, .id = id };
}

static void add(const char *id)
{
    struct object_options options = group_options(id);
    struct error *err = object_add(&options);
    expect(!err);
}

static void expect_error(struct error *err, const char *message)
{
    expect(err);
    expect_text(error_message(err), message);
    error_free(err);
}

CO_TEST(an_object_in_use_stays)
{
    struct object_user first = { .name = "node 'a'" };
    struct object_user second = { .name = "node 'b'" };
    add("limits");
    struct object *object = object_find("limits");
    object_use(object, &first);
    object_use(object, &second);
    expect_error(object_del("limits"), "object 'limits' is in use, can not be deleted: node 'a' uses it");
    object_leave(&first);
    expect_error(object_del("limits"), "object 'limits' is in use, can not be deleted: node 'b' uses it");
    object_leave(&second);
    expect(!object_del("limits"));
    expect(!object_find("limits"));
    expect_error(object_del("limits"), "object 'limits' not found");
}

CO_TEST(an_object_of_the_wrong_type_is_told)
{
    struct object *object;
    add("limits");
    expect(!object_find_type("limits", OBJECT_TYPE_THROTTLE_GROUP, &object));
    expect_text(object_id(object), "limits");
    expect_error(object_find_type("limits", OBJECT_TYPE_IOTHREAD, &object),
                 "object 'limits' is a 'throttle-group', but a 'iothread' is wanted");
    expect_error(object_find_type("others", OBJECT_TYPE_IOTHREAD, &object),
                 "object 'others' not found (a 'iothread' is wanted)");
    object_del_all();
}

CO_TEST(objects_are_listed_in_the_order_of_their_making)
{
    for (const char *id = "c\0a\0b\0"; *id; id += 2)
        add(id);
    expect(!object_del("a"));
    add("a");
    for (struct object *object = object_next(NULL); object; object = object_next(object))
        note(object_id(object));
    expect_text(noted(), "c b a");
    object_del_all();
    expect(!object_next(NULL));
}

CO_TEST(what_is_refused_leaves_nothing)
{
    struct throttle_limits both = { .has_iops_total = true, .iops_total = 1, .has_iops_read = true, .iops_read = 1 };
    struct object_options options = group_options("limits");
    options.u.throttle_group.limits = &both;
    struct error *err = object_add(&options);
    expect(err && strstr(error_message(err), "at the same time"));
    error_free(err);
    expect(!object_find("limits"));
    add("limits");
    options = group_options("limits");
    expect_error(object_add(&options), "attempt to add duplicate property 'limits' to object (type 'container')");
    object_del_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_object_in_use_stays),
        cmocka_unit_test(an_object_of_the_wrong_type_is_told),
        cmocka_unit_test(objects_are_listed_in_the_order_of_their_making),
        cmocka_unit_test(what_is_refused_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
