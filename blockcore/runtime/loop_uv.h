/* loop_uv - the libuv loop of a loop, for code above blockcore that brings libuv handles of its own (rpc/) */
#ifndef CAIRN_RUNTIME_LOOP_UV_H
#define CAIRN_RUNTIME_LOOP_UV_H

#include <uv.h>

struct loop;

/* Only on the loop's own thread. Handles must be closed before runtime_stop(). */
uv_loop_t *loop_uv(struct loop *loop);

#endif
