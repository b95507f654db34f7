#include "clients/cli/seconds.h"

#include <ctype.h>
#include <stdlib.h>
#include <time.h>

bool seconds_parse(const char *text, double *seconds)
{
    char *end;
    double value = strtod(text, &end);

    if (!isdigit((unsigned char)*text) || *end || !(value <= SECONDS_MAX_PARSED))
        return false;
    *seconds = value;
    return true;
}

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
