#include "blockcore/drivers/drivers.h"

#include <string.h>

/* clang-format off */
static const struct driver *const drivers[] = {
    &blkdebug_driver,
    &blklogwrites_driver,
    &blkverify_driver,
    &compress_driver,
    &copy_before_write_driver,
    &copy_on_read_driver,
    &file_driver,
    &gate_driver,
    &host_device_driver,
    &http_driver,
    &https_driver,
    &luks_driver,
    &nbd_driver,
    &null_aio_driver,
    &null_co_driver,
    &preallocate_driver,
    &qcow2_driver,
    &quorum_driver,
    &raw_driver,
    &snapshot_access_driver,
    &throttle_driver,
};
/* clang-format on */

const struct driver *driver_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    }
    return NULL;
}
