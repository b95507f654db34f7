/* job_table - jobs in lines, for `jobs` and `top` */
#ifndef CAIRN_CLI_JOB_TABLE_H
#define CAIRN_CLI_JOB_TABLE_H

#include "clients/cli/job_rate.h"

#include <stdbool.h>
#include <stdio.h>

#define JOB_DURATION_MAX 16

/* "1:02:03", "4:05", or "-" when @seconds is negative. Returns @text. */
const char *job_duration(double seconds, char text[JOB_DURATION_MAX]);

bool job_is_over(const json_t *job);

/* Lines end with @end. */
void job_table_head(FILE *out, const char *end);
void job_table_row(FILE *out, const json_t *job, const struct job_rates *rates, const char *end);

#endif
