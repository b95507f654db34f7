/* Where files may be that clients name: links that are swapped in between, and what leads out on other ways. */
#include "blockcore/runtime/path_policy.h"

#include "blockcore/base/cleanup.h"
#include "blockcore/base/memory.h"
#include "tests/unit/support/temp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define SWAPS 2000

/* in/good, out/bad, and links between them. */
static char folder[TEMP_FOLDER_BYTES];
static char *in;
static struct path_list list;

static char *path_of(const char *name)
{
    return xasprintf("%s/%s", folder, name);
}

static void make_file(const char *name)
{
    CLEANUP(free) char *path = path_of(name);
    CLEANUP(close_fd) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, name, strlen(name)), strlen(name));
}

static void make_link(const char *to, const char *name)
{
    CLEANUP(free) char *path = path_of(name);
    assert_int_equal(symlink(to, path), 0);
}

static int set_up(void **state)
{
    static const char *paths[1];
    (void)state;
    char made[TEMP_FOLDER_BYTES];
    temp_folder_make(made);
    CLEANUP(free) char *real = realpath(made, NULL);
    assert_true(strlen(real) < sizeof(folder));
    strcpy(folder, real);
    in = path_of("in");
    CLEANUP(free) char *out = path_of("out");
    CLEANUP(free) char *in2 = path_of("in2");
    assert_int_equal(mkdir(in, 0700) | mkdir(out, 0700) | mkdir(in2, 0700), 0);
    make_file("in/good");
    make_file("out/bad");
    make_file("in2/bad");
    make_link("../out/bad", "in/link-out");
    make_link("good", "in/link-in");
    make_link("../in/good", "out/link-back");
    make_link("../out", "in/directory-out");
    make_link("nothing", "in/dangling");
    make_link("../out/new", "in/dangling-out");
    paths[0] = in;
    list = (struct path_list){ .paths = paths, .count = 1 };
    path_policy_set(&list);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    path_policy_set(NULL);
    CLEANUP(free) char *command = xasprintf("rm -rf '%s'", folder);
    free(in);
    return system(command);
}

/* What is in the file that is opened as @name, -errno, or "refused". */
static void expect_open(const char *name, const char *content)
{
    char text[64] = "";
    CLEANUP(free) char *path = name[0] == '/' ? xstrdup(name) : path_of(name);
    CLEANUP(error_free) struct error *refusal = NULL;
    CLEANUP(close_fd) int fd = path_open(path, O_RDONLY, 0, &refusal);
    if (fd >= 0)
        assert_true(read(fd, text, sizeof(text) - 1) >= 0);
    else
        strcpy(text, refusal ? "refused" : strerror(-fd));
    if (refusal)
        assert_non_null(strstr(error_message(refusal), path));
    assert_string_equal(text, content);
    struct stat st;
    CLEANUP(error_free) struct error *refused_stat = NULL;
    assert_int_equal(path_stat(path, &st, &refused_stat), fd < 0 ? fd : 0);
    assert_int_equal(!refused_stat, !refusal);
}

static void what_counts_is_where_a_path_leads(void **state)
{
    (void)state;
    expect_open("in/good", "in/good");
    expect_open("in/../in/./good", "in/good");
    expect_open("in/link-in", "in/good");
    expect_open("out/link-back", "in/good");
    expect_open("in/link-out", "refused");
    expect_open("in/directory-out/bad", "refused");
    expect_open("in/../out/bad", "refused");
    expect_open("out/bad", "refused");
    expect_open("in2/bad", "refused"); /* begins with the same letters */
    expect_open("in/missing", "No such file or directory");
    expect_open("/dev/null", "refused");
    expect_open("/proc/self/fd/0", "refused");
    expect_open("/proc/self/root/dev/null", "refused");
}

static void the_refusal_names_all_that_matters(void **state)
{
    (void)state;
    CLEANUP(free) char *path = path_of("in/link-out");
    CLEANUP(free) char *bad = path_of("out/bad");
    CLEANUP(free)
    char *text = xasprintf("the policy does not allow '%s', which leads to '%s' (its 'paths': '%s')", path, bad, in);
    struct error *refusal = NULL;
    assert_int_equal(path_open(path, O_RDONLY, 0, &refusal), -EACCES);
    assert_string_equal(error_message(refusal), text);
    error_free(refusal);
}

static void what_has_no_name_is_refused(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    CLEANUP(free) char *through = xasprintf("/proc/self/fd/%d", ends[0]);
    expect_open(through, "refused");
    close(ends[0]);
    close(ends[1]);

    make_file("in/removed");
    CLEANUP(free) char *removed = path_of("in/removed");
    CLEANUP(close_fd) int fd = open(removed, O_RDONLY | O_CLOEXEC);
    CLEANUP(free) char *again = xasprintf("/proc/self/fd/%d", fd);
    expect_open(again, "in/removed");
    unlink(removed);
    expect_open(again, "refused");
}

static int create(const char *name, int flags)
{
    CLEANUP(free) char *path = path_of(name);
    CLEANUP(error_free) struct error *refusal = NULL;
    CLEANUP(close_fd) int fd = path_open(path, O_RDWR | O_CREAT | flags, 0600, &refusal);
    return fd < 0 ? fd : 0;
}

static bool exists(const char *name)
{
    CLEANUP(free) char *path = path_of(name);
    return access(path, F_OK) == 0;
}

static void files_are_made_where_they_may_be(void **state)
{
    (void)state;
    assert_int_equal(create("in/new", 0), 0);
    assert_true(exists("in/new"));
    assert_int_equal(create("in/new", 0), 0);
    assert_int_equal(create("in/new", O_EXCL), -EEXIST);
    assert_int_equal(create("in/excl", O_EXCL), 0);
    assert_int_equal(create("out/new", 0), -EACCES);
    assert_int_equal(create("in/directory-out/new", 0), -EACCES);
    assert_int_equal(create("in/dangling-out", 0), -ELOOP);
    assert_int_equal(create("in/dangling", 0), -ELOOP);
    assert_int_equal(create("in/link-out", 0), -EACCES);
    assert_int_equal(create("in/missing/new", 0), -ENOENT);
    assert_false(exists("out/new"));
}

static void swap(const char *a, const char *b)
{
    CLEANUP(free) char *one = path_of(a);
    CLEANUP(free) char *two = path_of(b);
    assert_int_equal(syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE), 0);
}

/* Each step of opening, with the link swapped before the next one. */
static void a_link_that_is_swapped_in_between_changes_nothing(void **state)
{
    (void)state;
    char text[64] = "";
    CLEANUP(free) char *path = path_of("in/link-in");
    CLEANUP(close_fd) int pin = path_pin(path, 0);
    swap("in/link-in", "in/link-out");
    assert_null(path_pin_check(pin, path));
    CLEANUP(close_fd) int fd = path_pin_open(pin, O_RDONLY);
    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    assert_string_equal(text, "in/good");

    CLEANUP(close_fd) int bad = path_pin(path, 0);
    swap("in/link-in", "in/link-out");
    struct error *refusal = path_pin_check(bad, path);
    assert_non_null(refusal);
    error_free(refusal);
}

static _Atomic bool over;

static void *swap_all_the_time(void *arg)
{
    (void)arg;
    while (!over)
        swap("in/link-in", "in/link-out");
    return NULL;
}

/* Without gates, as an attacker would do it. */
static void no_swap_gets_through(void **state)
{
    (void)state;
    pthread_t thread;
    CLEANUP(free) char *path = path_of("in/link-in");
    over = false;
    assert_int_equal(pthread_create(&thread, NULL, swap_all_the_time, NULL), 0);
    unsigned opened = 0;
    for (unsigned i = 0; i < SWAPS; i++) {
        char text[64] = "";
        CLEANUP(error_free) struct error *refusal = NULL;
        CLEANUP(close_fd) int fd = path_open(path, O_RDWR | (i & 1 ? O_CREAT : 0), 0600, &refusal);
        assert_true(fd >= 0 || refusal);
        if (fd < 0)
            continue;
        opened++;
        assert_true(read(fd, text, sizeof(text) - 1) > 0);
        assert_string_equal(text, "in/good");
    }
    over = true;
    pthread_join(thread, NULL);
    print_message("%u of %u opened\n", opened, (unsigned)SWAPS);
}

static void an_empty_list_allows_nothing_and_the_root_everything(void **state)
{
    (void)state;
    static const char *const root[] = { "/" };
    static const struct path_list nothing;
    const struct path_list everything = { .paths = root, .count = 1 };
    path_policy_set(&nothing);
    expect_open("in/good", "refused");
    path_policy_set(&everything);
    expect_open("out/bad", "out/bad");
    path_policy_set(&list);
}

static void sockets_are_judged_by_their_directory(void **state)
{
    (void)state;
    static const char *const names[] = { "in/s", "in/missing-name", "out/s", "in/directory-out/s", "in/missing/s" };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP(free) char *path = path_of(names[i]);
        CLEANUP(close_fd) int pin = -1;
        const char *last;
        CLEANUP(error_free) struct error *refusal = path_pin_directory(path, &pin, &last);
        assert_int_equal(refusal == NULL, i < 2);
    }
}

/* As a dead socket is: by then the name may lead to anything of somebody else's. */
static void what_is_removed_is_in_the_directory_that_was_looked_at(void **state)
{
    (void)state;
    make_link("../in", "in/directory-in");
    make_file("in/bad");
    CLEANUP(free) char *path = path_of("in/directory-in/bad");
    CLEANUP(close_fd) int pin = -1;
    const char *last;
    assert_null(path_pin_directory(path, &pin, &last));
    swap("in/directory-in", "in/directory-out");
    assert_int_equal(unlinkat(pin, last, 0), 0);
    CLEANUP(free) char *mine = path_of("in/bad");
    CLEANUP(free) char *others = path_of("out/bad");
    assert_int_not_equal(access(mine, F_OK), 0);
    assert_int_equal(access(others, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_counts_is_where_a_path_leads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_refusal_names_all_that_matters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_has_no_name_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_removed_is_in_the_directory_that_was_looked_at, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_are_made_where_they_may_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_link_that_is_swapped_in_between_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_swap_gets_through, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_list_allows_nothing_and_the_root_everything, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sockets_are_judged_by_their_directory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
