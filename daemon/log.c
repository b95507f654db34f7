#include "daemon/log.h"

#include "blockcore/base/cleanup.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

static _Atomic int least_urgent = LOG_LEVEL_WARNING;

void log_set_level(enum log_level level)
{
    atomic_store(&least_urgent, (int)level);
}

bool log_shows(enum log_level level)
{
    return (int)level <= atomic_load(&least_urgent);
}

int log_level_parse(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0)
            return (int)i;
    }
    return -1;
}

static void PRINTF_LIKE(2, 0) log_line(enum log_level level, const char *format, va_list args)
{
    if (!log_shows(level))
        return;
    CLEANUP(free) char *text = NULL;
    if (vasprintf(&text, format, args) < 0)
        return;
    if (level == LOG_LEVEL_ERROR)
        fprintf(stderr, "cairnd: %s\n", text);
    else
        fprintf(stderr, "cairnd: %s: %s\n", level_names[level], text);
}

#define DEFINE_LOG(name, level)                                                                                        \
    void name(const char *format, ...)                                                                                 \
    {                                                                                                                  \
        va_list args;                                                                                                  \
        va_start(args, format);                                                                                        \
        log_line(level, format, args);                                                                                 \
        va_end(args);                                                                                                  \
    }

DEFINE_LOG(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING)
DEFINE_LOG(log_info, LOG_LEVEL_INFO)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG)
