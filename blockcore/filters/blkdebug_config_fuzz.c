/* Any text: the parser must end, within its limits, with rules or with an error that names a line. */
#include "blockcore/filters/blkdebug_config.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct blkdebug_config config;
    struct error *err = blkdebug_config_parse((const char *)data, size, &config);
    assert(!err || strncmp(error_message(err), "line ", 5) == 0 || size > BLKDEBUG_CONFIG_BYTES_MAX);
    assert(config.injections_count <= BLKDEBUG_CONFIG_RULES_MAX &&
           config.transitions_count <= BLKDEBUG_CONFIG_RULES_MAX);
    for (size_t i = 0; !err && i < config.injections_count; i++) {
        assert(config.injections[i].event < BLKDEBUG_EVENT__MAX);
        assert(config.injections[i].errno_ >= 0 && config.injections[i].sector >= -1);
    }
    error_free(err);
    blkdebug_config_fini(&config);
    return 0;
}
