/* co_test - tests whose body is a coroutine
 *
 *     CO_TEST(a_mutex_has_one_holder)
 *     {
 *         expect(co_mutex_try_lock(&mutex));
 *     }
 *
 * The body runs on the control loop of a runtime of its own, with two I/O loops; runtime_stop() sees to it that no
 * coroutine is left.
 * cmocka's own assertions jump to another stack and must not be used inside: expect() ends the program instead. */
#ifndef CAIRN_TESTS_CO_TEST_H
#define CAIRN_TESTS_CO_TEST_H

#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "tests/unit/base/unit.h"

#define expect(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            expectation_failed(__FILE__, __LINE__, #condition);                                                        \
    } while (0)

#define expect_int(value, expected)                                                                                    \
    do {                                                                                                               \
        long long value_now = (long long)(value);                                                                      \
        long long value_expected = (long long)(expected);                                                              \
        if (value_now != value_expected) {                                                                             \
            print_error("%s is %lld, not %lld\n", #value, value_now, value_expected);                                  \
            expectation_failed(__FILE__, __LINE__, #value " == " #expected);                                           \
        }                                                                                                              \
    } while (0)

#define expect_text(text, expected)                                                                                    \
    do {                                                                                                               \
        if (strcmp(text, expected) != 0) {                                                                             \
            print_error("%s is \"%s\", not \"%s\"\n", #text, text, expected);                                          \
            expectation_failed(__FILE__, __LINE__, #text " is " #expected);                                            \
        }                                                                                                              \
    } while (0)

static inline __attribute__((noreturn)) void expectation_failed(const char *file, int line, const char *condition)
{
    print_error("%s:%d: expected: %s\n", file, line, condition);
    abort();
}

static inline void run_as_coroutine(const char *name, void (*body)(void *arg))
{
    struct error *err = runtime_start(&(struct runtime_options){ .io_loops = 2 });
    expect(!err);
    runtime_run_coroutine(name, body, NULL);
    runtime_stop(false);
}

#define CO_TEST(name)                                                                                                  \
    static void name##_body(void *unused);                                                                             \
    static void name(void **state)                                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        run_as_coroutine(#name, name##_body);                                                                          \
    }                                                                                                                  \
    static void name##_body(__attribute__((unused)) void *unused)

/* What happened, in order, as text: note("a"); note("b"); expect_text(noted(), "a b"). One thread only. */
static char noted_text[512];

static inline void note(const char *what)
{
    size_t length = strlen(noted_text);
    snprintf(noted_text + length, sizeof(noted_text) - length, length ? " %s" : "%s", what);
}

static inline const char *noted(void)
{
    static char text[sizeof(noted_text)];
    strcpy(text, noted_text);
    noted_text[0] = '\0';
    return text;
}

#endif
