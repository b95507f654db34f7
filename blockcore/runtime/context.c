#include "blockcore/runtime/context.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef COROUTINE_UCONTEXT

/* makecontext passes ints only, so the pointer comes in two halves. */
static void ucontext_entry(unsigned high, unsigned low)
{
    struct context *context = (struct context *)(uintptr_t)((uint64_t)high << 32 | low);
    context->entry(context->arg);
}

static void prepare(struct context *context, void *stack, size_t bytes, void (*entry)(void *arg), void *arg)
{
    context->entry = entry;
    context->arg = arg;
    getcontext(&context->saved);
    context->saved.uc_stack = (stack_t){ .ss_sp = stack, .ss_size = bytes };
    context->saved.uc_link = NULL;
    uint64_t address = (uintptr_t)context;
    makecontext(&context->saved, (void (*)(void))ucontext_entry, 2, (unsigned)(address >> 32), (unsigned)address);
}

#elif defined(__x86_64__)

/* System V ABI, AMD64 supplement, 3.2.1: rbx, rbp, r12 to r15 and the control bits of mxcsr and of the x87 unit belong
 * to the caller. Loading the control words is slow and they are nearly always equal, so they are compared first. The
 * jump instead of a return keeps the processor's return predictor in step with the calls that were made. Both stacks
 * have the same layout when they are exchanged, so one description for unwinders holds on both sides. */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl context_swap_stacks\n"
        ".hidden context_swap_stacks\n"
        ".type context_swap_stacks, @function\n"
        "context_swap_stacks:\n"
        ".cfi_startproc\n"
        "    pushq %rbp\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %rbp, 0\n"
        "    pushq %rbx\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %rbx, 0\n"
        "    pushq %r12\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %r12, 0\n"
        "    pushq %r13\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %r13, 0\n"
        "    pushq %r14\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %r14, 0\n"
        "    pushq %r15\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %r15, 0\n"
        "    subq $8, %rsp\n"
        ".cfi_adjust_cfa_offset 8\n"
        "    stmxcsr (%rsp)\n"
        "    fnstcw 4(%rsp)\n"
        "    movl (%rsp), %eax\n"
        "    movzwl 4(%rsp), %edx\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    cmpl (%rsp), %eax\n"
        "    je 1f\n"
        "    ldmxcsr (%rsp)\n"
        "1:  cmpw 4(%rsp), %dx\n"
        "    je 2f\n"
        "    fldcw 4(%rsp)\n"
        "2:  addq $8, %rsp\n"
        ".cfi_adjust_cfa_offset -8\n"
        "    popq %r15\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore %r15\n"
        "    popq %r14\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore %r14\n"
        "    popq %r13\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore %r13\n"
        "    popq %r12\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore %r12\n"
        "    popq %rbx\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore %rbx\n"
        "    popq %rbp\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_restore %rbp\n"
        "    popq %rcx\n"
        ".cfi_adjust_cfa_offset -8\n"
        ".cfi_register %rip, %rcx\n"
        "    jmp *%rcx\n"
        ".cfi_endproc\n"
        ".size context_swap_stacks, .-context_swap_stacks\n"

        /* Where a new context begins. The undefined return address tells unwinders that the stack ends here. */
        ".p2align 4\n"
        ".globl context_begin\n"
        ".hidden context_begin\n"
        ".type context_begin, @function\n"
        "context_begin:\n"
        ".cfi_startproc\n"
        ".cfi_undefined %rip\n"
        "    movq %r13, %rdi\n"
        "    call *%r12\n"
        "    ud2\n"
        ".cfi_endproc\n"
        ".size context_begin, .-context_begin\n");

struct saved_registers {
    uint32_t mxcsr;
    uint16_t x87_control;
    uint16_t padding;
    void *r15, *r14, *r13, *r12, *rbx, *rbp, *rip;
};

void context_begin(void);

static void prepare(struct context *context, void *stack, size_t bytes, void (*entry)(void *arg), void *arg)
{
    uintptr_t top = ((uintptr_t)stack + bytes) & ~(uintptr_t)15;
    struct saved_registers *saved = (struct saved_registers *)top - 1;
    *saved = (struct saved_registers){ .r12 = (void *)entry, .r13 = arg, .rip = (void *)context_begin };
    __asm__("stmxcsr %0" : "=m"(saved->mxcsr));
    __asm__("fnstcw %0" : "=m"(saved->x87_control));
    context->stack_pointer = saved;
}

#elif defined(__aarch64__)

/* Procedure Call Standard for the Arm 64-bit Architecture, 6.1: x19 to x29, the low halves of v8 to v15 and the
 * control bits of fpcr belong to the caller. */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl context_swap_stacks\n"
        ".hidden context_swap_stacks\n"
        ".type context_swap_stacks, @function\n"
        "context_swap_stacks:\n"
        ".cfi_startproc\n"
        "    sub sp, sp, #176\n"
        ".cfi_adjust_cfa_offset 176\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        ".cfi_rel_offset x19, 0\n"
        ".cfi_rel_offset x20, 8\n"
        ".cfi_rel_offset x21, 16\n"
        ".cfi_rel_offset x22, 24\n"
        ".cfi_rel_offset x23, 32\n"
        ".cfi_rel_offset x24, 40\n"
        ".cfi_rel_offset x25, 48\n"
        ".cfi_rel_offset x26, 56\n"
        ".cfi_rel_offset x27, 64\n"
        ".cfi_rel_offset x28, 72\n"
        ".cfi_rel_offset x29, 80\n"
        ".cfi_rel_offset x30, 88\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mrs x9, fpcr\n"
        "    str x9, [sp, #160]\n"
        "    mov x10, sp\n"
        "    str x10, [x0]\n"
        "    mov sp, x1\n"
        "    ldr x10, [sp, #160]\n"
        "    cmp x9, x10\n"
        "    b.eq 1f\n"
        "    msr fpcr, x10\n"
        "1:  ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    add sp, sp, #176\n"
        ".cfi_adjust_cfa_offset -176\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size context_swap_stacks, .-context_swap_stacks\n"

        /* Where a new context begins. The undefined return address tells unwinders that the stack ends here. */
        ".p2align 4\n"
        ".globl context_begin\n"
        ".hidden context_begin\n"
        ".type context_begin, @function\n"
        "context_begin:\n"
        ".cfi_startproc\n"
        ".cfi_undefined x30\n"
        "    mov x0, x20\n"
        "    blr x19\n"
        "    brk #1\n"
        ".cfi_endproc\n"
        ".size context_begin, .-context_begin\n");

struct saved_registers {
    void *x19, *x20, *x21_to_x28[8], *x29, *x30;
    uint64_t d8_to_d15[8];
    uint64_t fpcr;
    uint64_t padding;
};

void context_begin(void);

static void prepare(struct context *context, void *stack, size_t bytes, void (*entry)(void *arg), void *arg)
{
    uintptr_t top = ((uintptr_t)stack + bytes) & ~(uintptr_t)15;
    struct saved_registers *saved = (struct saved_registers *)top - 1;
    *saved = (struct saved_registers){ .x19 = (void *)entry, .x20 = arg, .x30 = (void *)context_begin };
    __asm__("mrs %0, fpcr" : "=r"(saved->fpcr));
    context->stack_pointer = saved;
}

#else
#error "no assembly for this processor: configure with -DCAIRN_COROUTINE=ucontext"
#endif

#ifdef WITH_ASAN
/* AddressSanitizer wants to know the bounds of the stack that a coroutine switches back to. */
static void find_thread_stack(struct context *context)
{
    pthread_attr_t attributes;
    void *stack;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0)
        abort();
    pthread_attr_getstack(&attributes, &stack, &context->stack_bytes);
    context->stack = stack;
    pthread_attr_destroy(&attributes);
}
#endif

void context_init_thread(struct context *context)
{
    *context = (struct context){ 0 };
#ifdef WITH_ASAN
    find_thread_stack(context);
#endif
#ifdef WITH_TSAN
    context->fiber = __tsan_get_current_fiber();
#endif
}

void context_init(struct context *context, void *stack, size_t bytes, void (*entry)(void *arg), void *arg)
{
    *context = (struct context){ 0 };
#ifdef WITH_ASAN
    context->stack = stack;
    context->stack_bytes = bytes;
#endif
#ifdef WITH_TSAN
    context->fiber = __tsan_create_fiber(0);
#endif
    prepare(context, stack, bytes, entry, arg);
}

void context_fini(struct context *context)
{
#ifdef WITH_TSAN
    __tsan_destroy_fiber(context->fiber);
#else
    (void)context;
#endif
}
