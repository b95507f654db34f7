/* write_log - the format in which blklogwrites records
 *
 * All numbers are little-endian, all places are in sectors of the log's own size:
 *
 *     sector 0    super: magic, version 1, number of records, size of a sector
 *     sector 1    record: sector, number of sectors, flags, length of a mark's text
 *     sector 2..  its data, unless it is a discard
 *     ...         the next record
 *
 * Source: Linux, drivers/md/dm-log-writes.c and Documentation/admin-guide/device-mapper/log-writes.rst. No I/O here. */
#ifndef CAIRN_FILTERS_WRITE_LOG_H
#define CAIRN_FILTERS_WRITE_LOG_H

#include "blockcore/base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define WRITE_LOG_SUPER_BYTES 28
#define WRITE_LOG_RECORD_BYTES 32
#define WRITE_LOG_SECTOR_MIN 512
#define WRITE_LOG_SECTOR_MAX (8u * 1024 * 1024)

enum write_log_flags {
    WRITE_LOG_FLUSH = 0x1,
    WRITE_LOG_FUA = 0x2,
    WRITE_LOG_DISCARD = 0x4,
    WRITE_LOG_MARK = 0x8,
    WRITE_LOG_METADATA = 0x10,
    WRITE_LOG_FLAGS = 0x1f,
};

struct write_log_super {
    uint64_t records;
    uint32_t sector_bytes;
};

struct write_log_record {
    uint64_t sector;
    uint64_t sectors;
    uint64_t flags;      /* enum write_log_flags */
    uint64_t text_bytes; /* of a mark, behind the record in its sector */
};

bool write_log_sector_is_valid(uint64_t bytes);

/* @bytes: WRITE_LOG_SUPER_BYTES of them. What is foreign is checked. */
struct error *write_log_parse_super(const uint8_t *bytes, struct write_log_super *super) MUST_CHECK;
void write_log_format_super(const struct write_log_super *super, uint8_t *bytes);

/* @bytes: WRITE_LOG_RECORD_BYTES of them. */
struct error *write_log_parse_record(const uint8_t *bytes, struct write_log_record *record) MUST_CHECK;
void write_log_format_record(const struct write_log_record *record, uint8_t *bytes);

/* Sectors that the record takes with its data; UINT64_MAX where that is out of range. */
uint64_t write_log_record_sectors(const struct write_log_record *record);

#endif
