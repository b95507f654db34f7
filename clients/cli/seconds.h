/* seconds - times as people say them */
#ifndef CAIRN_CLI_SECONDS_H
#define CAIRN_CLI_SECONDS_H

#include <stdbool.h>

#define SECONDS_INTERVAL_MIN 0.05 /* what looks again and again does not look more often */
#define SECONDS_MAX_PARSED 1e6

/* "2", "0.5"; false for what is no number, negative, or longer than some days. */
bool seconds_parse(const char *text, double *seconds);

/* Of a clock that only goes forward. */
double seconds_now(void);

#endif
