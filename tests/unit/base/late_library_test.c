#include "blockcore/base/late_library.h"

#include "tests/unit/base/unit.h"

#include <math.h>
#include <pthread.h>

#define MATH_FUNCTIONS(F) F(cos) F(sqrt)

static struct {
    MATH_FUNCTIONS(LATE_MEMBER)
} math;

#define MATH_SYMBOL(name) LATE_SYMBOL(math, name)
static const struct late_symbol math_symbols[] = { MATH_FUNCTIONS(MATH_SYMBOL) };

static void functions_can_be_called_after_loading(void **state)
{
    (void)state;
    struct late_library library = LATE_LIBRARY("libm.so.6", "libc6", math_symbols);
    assert_false(late_library_is_loaded(&library));
    assert_null(late_library_load(&library));
    assert_true(late_library_is_loaded(&library));
    assert_true(math.sqrt(9.0) > 2.99 && math.cos(0.0) > 0.99);
    assert_null(late_library_load(&library));
}

static void a_library_that_is_absent_is_named_with_its_package(void **state)
{
    (void)state;
    struct late_library library = LATE_LIBRARY("libnone-of-that.so.7", "libnone7", math_symbols);
    for (int i = 0; i < 2; i++) {
        struct error *err = late_library_load(&library);
        assert_non_null(err);
        assert_non_null(strstr(error_message(err), "cannot load library 'libnone-of-that.so.7' (install package "
                                                   "'libnone7'): "));
        error_free(err);
        assert_false(late_library_is_loaded(&library));
    }
}

static void a_function_that_is_absent_is_named(void **state)
{
    (void)state;
    static void (*nothing)(void);
    static const struct late_symbol symbols[] = { { "none_of_that", &nothing } };
    struct late_library library = LATE_LIBRARY("libm.so.6", "libc6", symbols);
    struct error *err = late_library_load(&library);
    assert_string_equal(error_message(err), "library 'libm.so.6' has no function 'none_of_that': another version of "
                                            "package 'libc6' is needed");
    error_free(err);
}

static struct error *init_result;

static struct error *init(void)
{
    assert_true(math.sqrt(4.0) > 1.99);
    struct error *err = init_result;
    init_result = NULL;
    return err;
}

static void what_a_library_needs_first_is_called_once_and_may_fail(void **state)
{
    (void)state;
    struct late_library library = LATE_LIBRARY("libm.so.6", "libc6", math_symbols, .init = init);
    init_result = error_new("no settings");
    struct error *err = late_library_load(&library);
    assert_string_equal(error_message(err), "library 'libm.so.6': no settings");
    error_free(err);
    assert_false(late_library_is_loaded(&library));
    assert_null(late_library_load(&library));
    init_result = error_new("not called again");
    assert_null(late_library_load(&library));
    error_free(init_result);
}

/* Returns its argument when all is well. */
static void *load_and_call(void *arg)
{
    struct error *err = late_library_load(arg);
    return !err && math.sqrt(16.0) > 3.99 ? arg : NULL;
}

static void threads_that_load_at_once_see_the_whole_table(void **state)
{
    (void)state;
    memset(&math, 0, sizeof(math));
    struct late_library library = LATE_LIBRARY("libm.so.6", "libc6", math_symbols);
    pthread_t threads[8];
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, load_and_call, &library), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, &library);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_can_be_called_after_loading),
        cmocka_unit_test(a_library_that_is_absent_is_named_with_its_package),
        cmocka_unit_test(a_function_that_is_absent_is_named),
        cmocka_unit_test(what_a_library_needs_first_is_called_once_and_may_fail),
        cmocka_unit_test(threads_that_load_at_once_see_the_whole_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
