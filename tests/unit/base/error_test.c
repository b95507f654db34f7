#include "blockcore/base/error.h"

#include "tests/unit/base/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void a_new_error_is_generic_and_has_no_errno(void **state)
{
    (void)state;
    CLEANUP(error_free) struct error *err = error_new("node '%s' not found", "a");
    assert_string_equal(error_message(err), "node 'a' not found");
    assert_int_equal(error_get_class(err), ERROR_GENERIC);
    assert_int_equal(error_errnum(err), 0);
}

static void an_errno_is_spelled_out_and_kept(void **state)
{
    (void)state;
    CLEANUP(error_free) struct error *err = error_errno(ENOENT, "cannot open '%s'", "/a");
    assert_string_equal(error_message(err), "cannot open '/a': No such file or directory");
    assert_int_equal(error_errnum(err), ENOENT);
}

static void each_level_puts_what_it_knows_in_front(void **state)
{
    (void)state;
    struct error *err = error_errno(EACCES, "cannot open '/srv/a.img'");
    err = error_wrap(err, "node '%s' (driver '%s')", "base0", "file");
    assert_string_equal(error_message(err),
                        "node 'base0' (driver 'file'): cannot open '/srv/a.img': Permission denied");
    assert_int_equal(error_errnum(err), EACCES);
    error_free(err);
}

static void paths_grow_outwards(void **state)
{
    (void)state;
    struct error *err = error_new(": expected a string");
    err = error_prepend(err, ".%s", "filename");
    err = error_prepend(err, "%s", "file");
    assert_string_equal(error_message(err), "file.filename: expected a string");
    error_free(err);
}

static void success_stays_success(void **state)
{
    (void)state;
    assert_null(error_wrap(NULL, "level"));
    assert_null(error_prepend(NULL, "level"));
    assert_null(error_set_class(NULL, ERROR_DEVICE_NOT_FOUND));
    error_free(NULL);
}

static void classes_have_their_names_on_the_wire(void **state)
{
    (void)state;
    struct error *err = error_new_class(ERROR_DEVICE_NOT_FOUND, "no such device");
    assert_string_equal(error_class_name(error_get_class(err)), "DeviceNotFound");
    err = error_set_class(error_wrap(err, "more"), ERROR_COMMAND_NOT_FOUND);
    assert_string_equal(error_class_name(error_get_class(err)), "CommandNotFound");
    error_free(err);
    assert_string_equal(error_class_name(ERROR_GENERIC), "GenericError");
    assert_string_equal(error_class_name(ERROR_DEVICE_NOT_ACTIVE), "DeviceNotActive");
    assert_string_equal(error_class_name(ERROR_KVM_MISSING_CAP), "KVMMissingCap");
}

static struct error *fails_or_hands_over(bool hand_over)
{
    CLEANUP(error_free) struct error *err = error_new("x");
    return hand_over ? steal(&err) : NULL;
}

static void steal_moves_ownership_out_of_a_cleanup(void **state)
{
    (void)state;
    assert_null(fails_or_hands_over(false));
    CLEANUP(error_free) struct error *err = fails_or_hands_over(true);
    assert_string_equal(error_message(err), "x");
}

static void descriptors_are_closed_at_the_end_of_the_scope_unless_stolen(void **state)
{
    (void)state;
    int kept;
    int closed;
    {
        CLEANUP(close_fd) int first = open("/dev/null", O_RDONLY);
        CLEANUP(close_fd) int second = open("/dev/null", O_RDONLY);
        closed = first;
        kept = steal_fd(&second);
        assert_int_equal(second, -1);
    }
    assert_int_equal(fcntl(closed, F_GETFD), -1);
    assert_true(fcntl(kept, F_GETFD) >= 0);
    close_fd(kept);
    close_fd(-1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_error_is_generic_and_has_no_errno),
        cmocka_unit_test(an_errno_is_spelled_out_and_kept),
        cmocka_unit_test(each_level_puts_what_it_knows_in_front),
        cmocka_unit_test(paths_grow_outwards),
        cmocka_unit_test(success_stays_success),
        cmocka_unit_test(classes_have_their_names_on_the_wire),
        cmocka_unit_test(steal_moves_ownership_out_of_a_cleanup),
        cmocka_unit_test(descriptors_are_closed_at_the_end_of_the_scope_unless_stolen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
