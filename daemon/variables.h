/* variables - values from the environment in the scalars of a configuration file
 *
 *     ${NAME}             the value of NAME; an error where there is none
 *     ${NAME:-default}    the same, or what stands there where NAME is not set or empty, up to the next '}'
 *     $$                  a dollar
 *
 * Any other dollar is one. What is put in is not looked at again, so a value cannot name further variables. A name is
 * letters, digits and underscores, and does not begin with a digit. A pure function of the text and what @look_up
 * says. */
#ifndef CAIRN_DAEMON_VARIABLES_H
#define CAIRN_DAEMON_VARIABLES_H

#include "blockcore/base/error.h"

#include <stddef.h>

/* The longest text that may come out, in bytes. */
#define VARIABLES_TEXT_MAX (1024 * 1024)

/* The value of a variable, NULL where it is not set: getenv() is one. Valid until the next call. */
typedef char *variable_look_up(const char *name);

/* @out is the text with its variables put in, ended by a zero byte; the caller frees it. *@out is NULL where there is
 * nothing to do, which is told without taking memory. @text has no zero byte in it. Errors name the variable. */
struct error *variables_expand(const char *text, size_t length, variable_look_up *look_up, char **out) MUST_CHECK;

#endif
