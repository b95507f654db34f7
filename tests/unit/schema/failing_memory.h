/* failing_memory - allocations that fail when a test wants them to
 *
 * The linker hands malloc() and its like to the functions of failing_memory.c: link a test with
 * failing_memory(TARGET). */
#ifndef CAIRN_TESTS_SCHEMA_FAILING_MEMORY_H
#define CAIRN_TESTS_SCHEMA_FAILING_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* Lets the allocation after the next @n fail; a negative number: none. */
void memory_fail_after(long n);

/* Whether it did since; none fails any more afterwards. */
bool memory_has_failed(void);

/* Allocations made so far, and those that were not given back. */
size_t memory_allocations(void);
long memory_live(void);

/* For libraries that take the functions to use. */
void *__wrap_malloc(size_t bytes);
void __wrap_free(void *p);

#endif
