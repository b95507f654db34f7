/* runtime_private - what holds for the whole process */
#ifndef CAIRN_RUNTIME_RUNTIME_PRIVATE_H
#define CAIRN_RUNTIME_RUNTIME_PRIVATE_H

#include <signal.h>
#include <stdbool.h>

/* By the options or the environment. Any thread. */
bool runtime_io_uring_disabled(void);

/* Signals are the control thread's, so the other threads of the runtime block them all, but for those that a thread
 * brings about itself by its mistakes. */
void signals_of_control_thread(sigset_t *out);

#endif
