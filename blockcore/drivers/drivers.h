/* drivers - the kinds of nodes that are built in */
#ifndef CAIRN_DRIVERS_DRIVERS_H
#define CAIRN_DRIVERS_DRIVERS_H

#include "blockcore/graph/driver.h"

extern const struct driver blkdebug_driver;
extern const struct driver blklogwrites_driver;
extern const struct driver blkverify_driver;
extern const struct driver compress_driver;
extern const struct driver copy_before_write_driver;
extern const struct driver copy_on_read_driver;
extern const struct driver file_driver;
extern const struct driver gate_driver;
extern const struct driver host_device_driver;
extern const struct driver http_driver;
extern const struct driver https_driver;
extern const struct driver luks_driver;
extern const struct driver nbd_driver;
extern const struct driver null_aio_driver;
extern const struct driver null_co_driver;
extern const struct driver preallocate_driver;
extern const struct driver qcow2_driver;
extern const struct driver quorum_driver;
extern const struct driver raw_driver;
extern const struct driver snapshot_access_driver;
extern const struct driver throttle_driver;

#endif
