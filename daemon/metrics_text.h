/* metrics_text - statistics as OpenMetrics text
 *
 * Source of the form: OpenMetrics 1.0.0. Names begin with "cairn_"; counters end with "_total", and units stand in
 * names. What has not been asked for yet has no samples. */
#ifndef CAIRN_DAEMON_METRICS_TEXT_H
#define CAIRN_DAEMON_METRICS_TEXT_H

#define METRICS_CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

struct daemon_statistics;
struct text;

/* Any thread. @version: of the daemon. */
void metrics_text_append(struct text *text, const struct daemon_statistics *statistics, const char *version);

#endif
