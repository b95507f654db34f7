/* sanitizer - what AddressSanitizer, ThreadSanitizer and valgrind must be told; nothing in other builds */
#ifndef CAIRN_RUNTIME_SANITIZER_H
#define CAIRN_RUNTIME_SANITIZER_H

#include "blockcore/base/sanitizer.h"

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define memory_poison(p, bytes) ASAN_POISON_MEMORY_REGION(p, bytes)
#define memory_unpoison(p, bytes) ASAN_UNPOISON_MEMORY_REGION(p, bytes)
#else
#define memory_poison(p, bytes) ((void)(p), (void)(bytes))
#define memory_unpoison(p, bytes) ((void)(p), (void)(bytes))
#endif

#ifdef WITH_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define stack_register(low, high) ((unsigned)VALGRIND_STACK_REGISTER(low, high))
#define stack_deregister(id) VALGRIND_STACK_DEREGISTER(id)
#else
#define stack_register(low, high) ((void)(low), (void)(high), 0u)
#define stack_deregister(id) ((void)(id))
#endif

#endif
