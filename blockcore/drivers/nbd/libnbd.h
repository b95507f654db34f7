/* libnbd - the client side of the NBD protocol, loaded when it is first needed
 *
 * A handle of it is one connection: a state machine that is told when its socket can be read or written, and calls back
 * when a command is done. None of the functions in the table waits. */
#ifndef CAIRN_DRIVERS_NBD_LIBNBD_H
#define CAIRN_DRIVERS_NBD_LIBNBD_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"
#include "blockcore/base/late_library.h"

#include <libnbd.h>

#define LIBNBD_FUNCTIONS(F)                                                                                            \
    F(nbd_create)                                                                                                      \
    F(nbd_close)                                                                                                       \
    F(nbd_get_error)                                                                                                   \
    F(nbd_get_errno)                                                                                                   \
    F(nbd_set_export_name)                                                                                             \
    F(nbd_set_tls)                                                                                                     \
    F(nbd_set_strict_mode)                                                                                             \
    F(nbd_set_pread_initialize)                                                                                        \
    F(nbd_add_meta_context)                                                                                            \
    F(nbd_can_meta_context)                                                                                            \
    F(nbd_is_read_only)                                                                                                \
    F(nbd_can_flush)                                                                                                   \
    F(nbd_can_fua)                                                                                                     \
    F(nbd_can_trim)                                                                                                    \
    F(nbd_can_zero)                                                                                                    \
    F(nbd_can_fast_zero)                                                                                               \
    F(nbd_get_size)                                                                                                    \
    F(nbd_get_block_size)                                                                                              \
    F(nbd_aio_connect)                                                                                                 \
    F(nbd_aio_connect_socket)                                                                                          \
    F(nbd_aio_disconnect)                                                                                              \
    F(nbd_aio_pread)                                                                                                   \
    F(nbd_aio_pwrite)                                                                                                  \
    F(nbd_aio_zero)                                                                                                    \
    F(nbd_aio_trim)                                                                                                    \
    F(nbd_aio_flush)                                                                                                   \
    F(nbd_aio_block_status)                                                                                            \
    F(nbd_aio_get_fd)                                                                                                  \
    F(nbd_aio_get_direction)                                                                                           \
    F(nbd_aio_notify_read)                                                                                             \
    F(nbd_aio_notify_write)                                                                                            \
    F(nbd_aio_is_ready)                                                                                                \
    F(nbd_aio_is_dead)                                                                                                 \
    F(nbd_aio_is_closed)

struct libnbd {
    LIBNBD_FUNCTIONS(LATE_MEMBER)
};

/* Valid once libnbd_load() has succeeded. */
extern struct libnbd libnbd;

/* Awaits the pool the first time. */
struct error *libnbd_load(void) CO_FN MUST_CHECK;

#endif
