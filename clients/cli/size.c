#include "clients/cli/size.h"

#include "blockcore/base/annotations.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool size_parse(const char *text, uint64_t *out)
{
    static const char suffixes[] = "kMGTPE";
    unsigned shift = 0;
    char *end;

    if (!isdigit((unsigned char)*text)) /* strtoull takes signs and leading space */
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (errno)
        return false;
    if (*end) {
        const char *suffix = strchr(suffixes, *end == 'K' ? 'k' : *end);
        if (!suffix || end[1])
            return false;
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (value > UINT64_MAX >> shift)
        return false;
    *out = value << shift;
    return true;
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
