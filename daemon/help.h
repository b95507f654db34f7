/* help - what --help and --version say */
#ifndef CAIRN_DAEMON_HELP_H
#define CAIRN_DAEMON_HELP_H

#include "blockcore/base/annotations.h"

void help_usage(void) NORETURN;
void help_version(void) NORETURN;
void help_chardev(void) NORETURN;
void help_trace(void) NORETURN;
void help_object(const char *text) NORETURN; /* @text: what was given with --object */

#endif
