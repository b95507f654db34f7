#include "tests/unit/schema/failing_memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void __real_free(void *p);
int __real_vasprintf(char **text, const char *format, va_list args);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
int __wrap_vasprintf(char **text, const char *format, va_list args);
int __wrap_asprintf(char **text, const char *format, ...);

static long countdown = -1; /* allocations until one fails; negative: none does */
static size_t allocations;
static long live;

void memory_fail_after(long n)
{
    countdown = n;
}

bool memory_has_failed(void)
{
    bool failed = countdown < 0;
    countdown = -1;
    return failed;
}

size_t memory_allocations(void)
{
    return allocations;
}

long memory_live(void)
{
    return live;
}

static bool fails(void)
{
    allocations++;
    return countdown >= 0 && countdown-- == 0;
}

void *__wrap_malloc(size_t bytes)
{
    void *p = fails() ? NULL : __real_malloc(bytes);
    live += p != NULL;
    return p;
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    void *p = fails() ? NULL : __real_calloc(count, bytes);
    live += p != NULL;
    return p;
}

void *__wrap_realloc(void *p, size_t bytes)
{
    void *moved = fails() ? NULL : __real_realloc(p, bytes);
    live += moved && !p;
    return moved;
}

void __wrap_free(void *p)
{
    live -= p != NULL;
    __real_free(p);
}

int __wrap_vasprintf(char **text, const char *format, va_list args)
{
    int length = fails() ? -1 : __real_vasprintf(text, format, args);
    live += length >= 0;
    return length;
}

int __wrap_asprintf(char **text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = __wrap_vasprintf(text, format, args);
    va_end(args);
    return length;
}
