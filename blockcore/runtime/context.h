/* context - a place in code to come back to: the stack pointer and the registers that calls preserve
 *
 * Two implementations of the same four functions, chosen by the CMake option CAIRN_COROUTINE: `asm` (x86-64 and
 * aarch64, some nanoseconds) and `ucontext` (any POSIX system; two system calls per switch). Private to this folder. */
#ifndef CAIRN_RUNTIME_CONTEXT_H
#define CAIRN_RUNTIME_CONTEXT_H

#include "blockcore/runtime/sanitizer.h"

#include <stddef.h>

#ifdef COROUTINE_UCONTEXT
#include <ucontext.h>
#endif

struct context {
#ifdef COROUTINE_UCONTEXT
    ucontext_t saved;
    void (*entry)(void *arg);
    void *arg;
#else
    void *stack_pointer; /* the saved registers lie at the top of the stack */
#endif
#ifdef WITH_ASAN
    const void *stack;
    size_t stack_bytes;
    void *fake_stack;
#endif
#ifdef WITH_TSAN
    void *fiber;
#endif
};

/* The context of the calling thread itself. */
void context_init_thread(struct context *context);

/* A context that begins in @entry(@arg) on the given stack when first switched to. @entry never returns. */
void context_init(struct context *context, void *stack, size_t bytes, void (*entry)(void *arg), void *arg);

/* It is never switched to again. */
void context_fini(struct context *context);

/* Must be the first thing that an @entry calls: ends the switch that began it. */
static inline void context_begun(struct context *context)
{
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(context->fake_stack, NULL, NULL);
#else
    (void)context;
#endif
}

#ifdef COROUTINE_UCONTEXT
static inline void context_swap(struct context *from, struct context *to)
{
    swapcontext(&from->saved, &to->saved);
}
#else
/* Saves the registers on the stack in use and its pointer in *@saved, then goes on where @stack_pointer was saved. */
void context_swap_stacks(void **saved, void *stack_pointer);

static inline void context_swap(struct context *from, struct context *to)
{
    context_swap_stacks(&from->stack_pointer, to->stack_pointer);
}
#endif

/* Goes on in @to; returns when something switches back to @from. */
static inline void context_switch(struct context *from, struct context *to)
{
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef WITH_TSAN
    __tsan_switch_to_fiber(to->fiber, 0);
#endif
    context_swap(from, to);
    context_begun(from);
}

#endif
