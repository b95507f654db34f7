#include "blockcore/filters/write_log.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/range.h"

#define MAGIC UINT64_C(0x6a736677736872)
#define VERSION 1

bool write_log_sector_is_valid(uint64_t bytes)
{
    return is_power_of_two(bytes) && bytes >= WRITE_LOG_SECTOR_MIN && bytes <= WRITE_LOG_SECTOR_MAX;
}

struct error *write_log_parse_super(const uint8_t *bytes, struct write_log_super *super)
{
    if (load_le64(bytes) != MAGIC)
        return error_new("this is no log of writes: it does not begin with the magic number of one");
    if (load_le64(bytes + 8) != VERSION)
        return error_new("version %llu of the log is not known; %d is", (unsigned long long)load_le64(bytes + 8),
                         VERSION);
    super->records = load_le64(bytes + 16);
    super->sector_bytes = load_le32(bytes + 24);
    if (!write_log_sector_is_valid(super->sector_bytes))
        return error_new("the log's sectors of %u bytes are not a power of two between %d and %u", super->sector_bytes,
                         WRITE_LOG_SECTOR_MIN, WRITE_LOG_SECTOR_MAX);
    return NULL;
}

void write_log_format_super(const struct write_log_super *super, uint8_t *bytes)
{
    store_le64(bytes, MAGIC);
    store_le64(bytes + 8, VERSION);
    store_le64(bytes + 16, super->records);
    store_le32(bytes + 24, super->sector_bytes);
}

struct error *write_log_parse_record(const uint8_t *bytes, struct write_log_record *record)
{
    *record = (struct write_log_record){
        .sector = load_le64(bytes),
        .sectors = load_le64(bytes + 8),
        .flags = load_le64(bytes + 16),
        .text_bytes = load_le64(bytes + 24),
    };
    if (record->flags & ~(uint64_t)WRITE_LOG_FLAGS)
        return error_new("flags 0x%llx are not known", (unsigned long long)record->flags);
    return NULL;
}

void write_log_format_record(const struct write_log_record *record, uint8_t *bytes)
{
    store_le64(bytes, record->sector);
    store_le64(bytes + 8, record->sectors);
    store_le64(bytes + 16, record->flags);
    store_le64(bytes + 24, record->text_bytes);
}

uint64_t write_log_record_sectors(const struct write_log_record *record)
{
    if (record->flags & WRITE_LOG_DISCARD)
        return 1;
    return record->sectors < UINT64_MAX / WRITE_LOG_SECTOR_MAX ? record->sectors + 1 : UINT64_MAX;
}
