/* coroutine_private - what the files of this folder know of coroutines */
#ifndef CAIRN_RUNTIME_COROUTINE_PRIVATE_H
#define CAIRN_RUNTIME_COROUTINE_PRIVATE_H

#include <stdio.h>

struct loop;

/* Writes a line per coroutine of @loop: its name and what it waits for. */
void loop_print_coroutines(struct loop *loop, FILE *to);

/* Frees the spare coroutines. */
void loop_free_coroutines(struct loop *loop);

#endif
