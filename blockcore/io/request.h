/* request - the one path that all reads and writes take, once for all drivers
 *
 * What is here, drivers need not do: bounds, read-only, alignment (bounce or read-modify-write), cutting to
 * limits, emulation of write-zeroes and FUA, order of requests that must not overlap, detection of zeroes.
 *
 *     outside user --> handle_*() --> enter, check --.
 *     a driver ------> child_*()  -------------------+--> align --> cut --> driver->preadv() ...
 *
 * All of these await and run on any loop. They return 0 or -errno: -EINVAL outside the node, -EACCES on a read-only
 * node, -EPERM without the permission, what the driver said otherwise. Bytes of @iov and @range agree. Any alignment is
 * allowed. */
#ifndef CAIRN_IO_REQUEST_H
#define CAIRN_IO_REQUEST_H

#include "blockcore/base/iov.h"
#include "blockcore/base/range.h"
#include "blockcore/graph/driver.h"
#include "blockcore/graph/handle.h"

int handle_preadv(struct handle *handle, struct range range, const struct iov *iov) CO_FN;
int handle_pwritev(struct handle *handle, struct range range, const struct iov *iov, unsigned flags) CO_FN;
int handle_pwrite_zeroes(struct handle *handle, struct range range, unsigned flags) CO_FN;
int handle_pdiscard(struct handle *handle, struct range range) CO_FN;
int handle_flush(struct handle *handle) CO_FN;
int handle_truncate(struct handle *handle, uint64_t bytes, enum truncate_mode mode) CO_FN;
/* The same for a node that others use, or use what it stands on: their requests, and those of this handle, are held
 * back meanwhile. */
int handle_resize(struct handle *handle, uint64_t bytes, enum truncate_mode mode) CO_FN CONTROL_FN;

/* For drivers, towards their children. What lies past the end reads as zeroes; an edge that holds PERM_RESIZE may write
 * there (the child grows). */
int child_preadv(struct child *child, struct range range, const struct iov *iov, unsigned flags) CO_FN;
int child_pwritev(struct child *child, struct range range, const struct iov *iov, unsigned flags) CO_FN;
int child_pwrite_zeroes(struct child *child, struct range range, unsigned flags) CO_FN;
int child_pdiscard(struct child *child, struct range range) CO_FN;
int child_flush(struct child *child) CO_FN;
int child_truncate(struct child *child, uint64_t bytes, enum truncate_mode mode) CO_FN;
/* As handle_resize(), from outside of requests. */
int child_resize(struct child *child, uint64_t bytes, enum truncate_mode mode) CO_FN CONTROL_FN;
uint64_t child_length(const struct child *child);

/* The same with one piece of memory. */
int child_pread(struct child *child, uint64_t offset, void *data, size_t bytes) CO_FN;
int child_pwrite(struct child *child, uint64_t offset, const void *data, size_t bytes, unsigned flags) CO_FN;

/* A format tells the filters below its child what it is about to do, so that tests can make it fail there; @event is
 * a name of BlkdebugEvent ("l2_update"). Costs one branch when no blkdebug is below. */
void child_debug_event(struct child *child, const char *event) CO_FN;

/* Will a write with REQ_COMPRESSED be taken, as far as drivers decide on it? */
bool node_can_compress(const struct node *node);

/* Storage occupied, or -errno. The caller keeps the node. */
int64_t node_allocated_bytes(struct node *node) CO_FN CONTROL_FN;

#endif
