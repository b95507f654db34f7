/* error - why setting something up failed, as a sentence for people
 *
 * What can fail while something is set up returns a struct error *: NULL is success, anything else is owned by
 * the caller, who adds what only it knows (error_wrap) and hands it up. Requests on the data path return 0 or
 * -errno instead and allocate nothing.
 *
 * Sentences are lower case, without a full stop, with names in single quotes:
 *
 *     node 'base0' (driver 'file'): cannot open '/srv/a.img': Permission denied */
#ifndef CAIRN_BASE_ERROR_H
#define CAIRN_BASE_ERROR_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/cleanup.h"

/* The classes that QMP clients switch on (QMP specification, "error response"). */
enum error_class {
    ERROR_GENERIC,
    ERROR_COMMAND_NOT_FOUND,
    ERROR_DEVICE_NOT_ACTIVE,
    ERROR_DEVICE_NOT_FOUND,
    ERROR_KVM_MISSING_CAP,
};

struct error;

/* A new error of class ERROR_GENERIC without an errno. Never NULL: when there is no memory for it, one that stands
 * ready says so ("out of memory"), and when there is none to wrap it, it stays as it is. */
struct error *error_new(const char *format, ...) PRINTF_LIKE(1, 2) MUST_CHECK;

/* The same with the given class. */
struct error *error_new_class(enum error_class error_class, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

/* "<formatted>: <strerror(errnum)>"; @errnum is positive and kept for error_errnum(). */
struct error *error_errno(int errnum, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

/* Puts "<formatted>: " in front of the message. Consumes @err and returns it; NULL stays NULL. */
struct error *error_wrap(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

/* Puts "<formatted>" in front of the message without a separator: for paths that grow outwards ("a" + ".b: ..."). */
struct error *error_prepend(struct error *err, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

/* Changes the class; returns @err; NULL stays NULL. */
struct error *error_set_class(struct error *err, enum error_class error_class) MUST_CHECK;

const char *error_message(const struct error *err);
enum error_class error_get_class(const struct error *err);

/* The class as on the wire: "GenericError", "DeviceNotFound", ... */
const char *error_class_name(enum error_class error_class);

/* The positive errno the error was made with, or 0. */
int error_errnum(const struct error *err);

/* NULL is allowed. */
void error_free(struct error *err);
DEFINE_CLEANUP(error_free, struct error *)

#endif
