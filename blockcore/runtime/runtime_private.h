/* runtime_private - what holds for the whole process */
#ifndef CAIRN_RUNTIME_RUNTIME_PRIVATE_H
#define CAIRN_RUNTIME_RUNTIME_PRIVATE_H

#include <stdbool.h>

/* By the options or the environment. Any thread. */
bool runtime_io_uring_disabled(void);

#endif
