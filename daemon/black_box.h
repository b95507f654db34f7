/* black_box - what a process that dies says last
 *
 * A failed assertion, a broken pointer or a signal from outside (kill -ABRT) prints what happened last in all threads
 * (blockcore/base/trace.h) on standard error, or in the journal where the log goes there, and then the process dies as
 * it would have. */
#ifndef CAIRN_DAEMON_BLACK_BOX_H
#define CAIRN_DAEMON_BLACK_BOX_H

#define BLACK_BOX_RECORDS 256 /* that are printed, the newest */

/* For SIGABRT, SIGSEGV, SIGBUS, SIGFPE and SIGILL; what a sanitizer takes for itself is left to it. On the control
 * thread. */
void black_box_install(void);

#endif
