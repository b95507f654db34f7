#include "blockcore/runtime/stack.h"

#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/sanitizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Instrumented frames are several times larger. */
#if defined(WITH_ASAN) || defined(WITH_TSAN)
#define STACK_BYTES (4 * (size_t)COROUTINE_STACK_BYTES)
#else
#define STACK_BYTES ((size_t)COROUTINE_STACK_BYTES)
#endif

static size_t guard_bytes(void)
{
    static size_t page_bytes;
    size_t bytes = __atomic_load_n(&page_bytes, __ATOMIC_RELAXED);
    if (bytes == 0) {
        bytes = (size_t)sysconf(_SC_PAGESIZE);
        __atomic_store_n(&page_bytes, bytes, __ATOMIC_RELAXED);
    }
    return bytes;
}

static _Noreturn void no_memory(void)
{
    fprintf(stderr, "cairn: no memory for the stack of a coroutine: %s\n", strerror(errno));
    abort();
}

struct stack stack_create(void)
{
    size_t guard = guard_bytes();
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK;
    char *memory = mmap(NULL, guard + STACK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED)
        no_memory();
    if (mprotect(memory, guard, PROT_NONE) != 0)
        no_memory();
    struct stack stack = { .base = memory + guard, .bytes = STACK_BYTES };
    stack.valgrind_id = stack_register(stack.base, memory + guard + STACK_BYTES);
    return stack;
}

void stack_destroy(struct stack stack)
{
    size_t guard = guard_bytes();
    stack_deregister(stack.valgrind_id);
    memory_unpoison(stack.base, stack.bytes);
    munmap((char *)stack.base - guard, guard + stack.bytes);
}
