/* Sets of descriptors and names of descriptors, without any daemon around them. */
#include "blockcore/runtime/passed_fd.h"

#include "blockcore/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int null_fd(int access)
{
    int fd = open("/dev/null", access | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int64_t add(int64_t id, int fd)
{
    assert_null(fdset_add(&id, fd, NULL));
    return id;
}

static void remove_set(int64_t id)
{
    CLEANUP(free) int *fds;
    size_t count;
    assert_null(fdset_remove(id, FDSET_ANY, &fds, &count));
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

static struct error *refused_removal(int64_t id, int64_t fd)
{
    CLEANUP(free) int *fds;
    size_t count;
    struct error *err = fdset_remove(id, fd, &fds, &count);
    assert_int_equal(count, 0);
    return err;
}

static void close_it(int fd)
{
    assert_int_equal(close(fd), 0);
}

static void assert_error(struct error *err, const char *text)
{
    CLEANUP(error_free) struct error *owned = err;
    assert_non_null(owned);
    assert_non_null(strstr(error_message(owned), text));
}

static void what_is_the_name_of_a_set(void **state)
{
    (void)state;
    assert_true(fdset_is_name("/dev/fdset/0"));
    assert_true(fdset_is_name("/dev/fdset/123456789012345678"));
    static const char *const others[] = { "/dev/fdset/",    "/dev/fdset/-1",
                                          "/dev/fdset/1/a", "dev/fdset/1",
                                          "/dev/fdset/1 ",  "/dev/fdset/1234567890123456789",
                                          "/dev/fdset/0x",  "",
                                          "/dev/fdset" };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_false(fdset_is_name(others[i]));
        assert_int_equal(fdset_open(others[i], O_RDONLY), -ENOENT);
    }
}

static void a_copy_of_the_one_that_fits(void **state)
{
    (void)state;
    int reading = null_fd(O_RDONLY);
    int writing = null_fd(O_RDWR);
    assert_int_equal(add(5, reading), 5);
    assert_int_equal(fdset_open("/dev/fdset/5", O_RDWR), -EACCES);
    assert_int_equal(add(5, writing), 5);
    CLEANUP(close_fd) int one = fdset_open("/dev/fdset/5", O_RDONLY);
    CLEANUP(close_fd) int other = fdset_open("/dev/fdset/5", O_RDWR);
    CLEANUP(close_fd) int any = fdset_open_any("/dev/fdset/5");
    assert_int_equal(fcntl(one, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(fcntl(other, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_int_equal(fcntl(other, F_GETFD), FD_CLOEXEC);
    assert_true(any >= 0);
    assert_int_equal(fdset_open("/dev/fdset/5", O_WRONLY), -EACCES);
    assert_int_equal(fdset_open("/dev/fdset/6", O_RDONLY), -ENOENT);
    assert_int_equal(fdset_open_any("/dev/fdset/6"), -ENOENT);

    remove_set(5);
    assert_false(is_open(reading) || is_open(writing));
    assert_true(is_open(one) && is_open(other));
    assert_error(refused_removal(5, FDSET_ANY), "'fdset-id:5' not found");
    assert_error(refused_removal(5, 7), "'fdset-id:5, fd:7' not found");
}

static void numbers_are_the_smallest_that_are_free(void **state)
{
    (void)state;
    assert_int_equal(add(1, null_fd(O_RDONLY)), 1);
    assert_int_equal(add(FDSET_ANY, null_fd(O_RDONLY)), 0);
    assert_int_equal(add(1, null_fd(O_RDWR)), 1);
    assert_int_equal(add(FDSET_ANY, null_fd(O_RDONLY)), 2);
    struct fdset_member *members;
    size_t count;
    fdset_list(&members, &count);
    assert_int_equal(count, 4);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(members[i].id, ((int[]){ 0, 1, 1, 2 })[i]);
    free(members);
    for (int64_t id = 0; id < 3; id++)
        remove_set(id);
}

static void names_are_used_once_and_go_with_their_owner(void **state)
{
    (void)state;
    int first = null_fd(O_RDONLY);
    int second = null_fd(O_RDONLY);
    int third = null_fd(O_RDONLY);
    int replaced;
    assert_null(named_fd_put("a", 1, first, &replaced));
    assert_int_equal(replaced, -1);
    assert_null(named_fd_put("a", 2, second, &replaced));
    assert_int_equal(replaced, first);
    close(first);
    assert_null(named_fd_put("b", 2, third, &replaced));
    named_fds_forget(1, close_it);
    assert_int_equal(named_fd_take("a"), second);
    assert_int_equal(named_fd_take("a"), -1);
    named_fds_forget(2, close_it);
    assert_int_equal(named_fd_take("b"), -1);
    assert_false(is_open(third));
    assert_true(is_open(second));
    close(second);
}

static bool is_equal(int fd, const void *wanted)
{
    return fd == *(const int *)wanted;
}

static void append_name(const char *name, void *names)
{
    strcat(names, name);
}

static void what_the_parent_passed_is_found_by_what_it_is(void **state)
{
    (void)state;
    int ours = null_fd(O_RDONLY);
    int other = null_fd(O_RDONLY);
    int clients = null_fd(O_RDONLY);
    int replaced;
    char names[16] = "";
    char *name = NULL;
    assert_null(named_fd_put("a", NAMED_FD_PARENT, other, &replaced));
    assert_null(named_fd_put("b", NAMED_FD_PARENT, ours, &replaced));
    assert_null(named_fd_put("c", 1, clients, &replaced));
    assert_int_equal(named_fd_take_fitting(NAMED_FD_PARENT, is_equal, &clients, &name), -1);
    named_fds_each(NAMED_FD_PARENT, append_name, names);
    assert_string_equal(names, "ab");
    assert_int_equal(named_fd_take_fitting(NAMED_FD_PARENT, is_equal, &ours, &name), ours);
    assert_string_equal(name, "b");
    free(name);
    assert_int_equal(named_fd_take_fitting(NAMED_FD_PARENT, is_equal, &ours, &name), -1);
    assert_true(named_fd_exists("a") && !named_fd_exists("b") && named_fd_exists("c"));
    close(ours);
    named_fds_forget(NAMED_FD_PARENT, close_it);
    named_fds_forget(1, close_it);
}

static void there_is_a_limit(void **state)
{
    (void)state;
    int64_t id = 0;
    int fd = null_fd(O_RDONLY);
    /* The same descriptor again and again: only numbers are kept, and it is closed once in the end. */
    for (size_t i = 0; i + 1 < PASSED_FDS_MAX; i++)
        assert_null(fdset_add(&id, fd, NULL));
    int replaced;
    assert_null(named_fd_put("last", 1, null_fd(O_RDONLY), &replaced));
    int refused = null_fd(O_RDONLY);
    assert_error(fdset_add(&id, refused, NULL), "too many");
    assert_error(named_fd_put("more", 1, refused, &replaced), "too many");
    close_it(refused);
    named_fds_forget(1, close_it);
    remove_set(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_the_name_of_a_set),
        cmocka_unit_test(a_copy_of_the_one_that_fits),
        cmocka_unit_test(numbers_are_the_smallest_that_are_free),
        cmocka_unit_test(names_are_used_once_and_go_with_their_owner),
        cmocka_unit_test(what_the_parent_passed_is_found_by_what_it_is),
        cmocka_unit_test(there_is_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
