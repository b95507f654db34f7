/* Any bytes as a log: a super, then records. */
#include "blockcore/filters/write_log.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void round_trip(const uint8_t *data, const struct write_log_record *record)
{
    uint8_t again[WRITE_LOG_RECORD_BYTES];
    write_log_format_record(record, again);
    if (memcmp(data, again, sizeof(again)) != 0 || write_log_record_sectors(record) == 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct write_log_super super;
    if (bytes < WRITE_LOG_SUPER_BYTES)
        return 0;
    CLEANUP(error_free) struct error *err = write_log_parse_super(data, &super);
    if (!err && !write_log_sector_is_valid(super.sector_bytes))
        abort();
    for (size_t at = WRITE_LOG_SUPER_BYTES; at + WRITE_LOG_RECORD_BYTES <= bytes; at += WRITE_LOG_RECORD_BYTES) {
        struct write_log_record record;
        CLEANUP(error_free) struct error *bad = write_log_parse_record(data + at, &record);
        if (!bad)
            round_trip(data + at, &record);
    }
    return 0;
}
