#include "clients/cli/size.h"

#include "blockcore/base/annotations.h"
#include "schema/codec/scalar.h"

#include <stdio.h>

bool size_parse(const char *text, uint64_t *out)
{
    return scalar_size(text, out) == SCALAR_OK;
}

const char *size_format(uint64_t bytes, char buffer[SIZE_TEXT_MAX])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    size_t unit = 0;

    for (; value >= 1024 && unit + 1 < ARRAY_SIZE(units); unit++)
        value /= 1024;
    snprintf(buffer, SIZE_TEXT_MAX, value < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return buffer;
}
