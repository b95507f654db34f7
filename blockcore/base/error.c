#include "blockcore/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct error {
    enum error_class error_class;
    int errnum;
    char *message;
};

/* Stands for any error when there is no memory for another one. It is never changed and never freed. */
static char no_memory_message[] = "out of memory";
static struct error no_memory = { .errnum = ENOMEM, .message = no_memory_message };

/* NULL when there is no memory. */
static PRINTF_LIKE(1, 0) char *format_text(const char *format, va_list args)
{
    char *text;
    return vasprintf(&text, format, args) < 0 ? NULL : text;
}

/* Consumes @message, which may be NULL for want of memory. */
static struct error *error_make(enum error_class error_class, int errnum, char *message)
{
    struct error *err = message ? malloc(sizeof(*err)) : NULL;
    if (!err) {
        free(message);
        return &no_memory;
    }
    *err = (struct error){ .error_class = error_class, .errnum = errnum, .message = message };
    return err;
}

struct error *error_new(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *message = format_text(format, args);
    va_end(args);
    return error_make(ERROR_GENERIC, 0, message);
}

struct error *error_new_class(enum error_class error_class, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *message = format_text(format, args);
    va_end(args);
    return error_make(error_class, 0, message);
}

struct error *error_errno(int errnum, const char *format, ...)
{
    char buffer[128];
    const char *reason = strerror_r(errnum, buffer, sizeof(buffer));

    va_list args;
    va_start(args, format);
    char *text = format_text(format, args);
    va_end(args);
    char *message = NULL;
    if (!text || asprintf(&message, "%s: %s", text, reason) < 0)
        message = NULL;
    free(text);
    return error_make(ERROR_GENERIC, errnum, message);
}

static PRINTF_LIKE(3, 0) struct error *prepend(struct error *err, const char *separator, const char *format,
                                               va_list args)
{
    char *message = NULL;
    char *text = err == &no_memory ? NULL : format_text(format, args);
    if (text && asprintf(&message, "%s%s%s", text, separator, err->message) >= 0) {
        free(err->message);
        err->message = message;
    }
    free(text);
    return err;
}

struct error *error_wrap(struct error *err, const char *format, ...)
{
    if (!err)
        return NULL;
    va_list args;
    va_start(args, format);
    err = prepend(err, ": ", format, args);
    va_end(args);
    return err;
}

struct error *error_prepend(struct error *err, const char *format, ...)
{
    if (!err)
        return NULL;
    va_list args;
    va_start(args, format);
    err = prepend(err, "", format, args);
    va_end(args);
    return err;
}

struct error *error_set_class(struct error *err, enum error_class error_class)
{
    if (err && err != &no_memory)
        err->error_class = error_class;
    return err;
}

const char *error_message(const struct error *err)
{
    return err->message;
}

enum error_class error_get_class(const struct error *err)
{
    return err->error_class;
}

const char *error_class_name(enum error_class error_class)
{
    switch (error_class) {
    case ERROR_COMMAND_NOT_FOUND:
        return "CommandNotFound";
    case ERROR_DEVICE_NOT_ACTIVE:
        return "DeviceNotActive";
    case ERROR_DEVICE_NOT_FOUND:
        return "DeviceNotFound";
    case ERROR_KVM_MISSING_CAP:
        return "KVMMissingCap";
    case ERROR_GENERIC:
        break;
    }
    return "GenericError";
}

int error_errnum(const struct error *err)
{
    return err->errnum;
}

void error_free(struct error *err)
{
    if (!err || err == &no_memory)
        return;
    free(err->message);
    free(err);
}

void close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}
