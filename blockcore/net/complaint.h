/* complaint - what the log is told about clients that misbehave
 *
 * Who misbehaves may do it ten thousand times a second, and a log that fills the disk is what some of them are after.
 * So there are COMPLAINTS_BURST lines, and then one each COMPLAINT_MS; the next one says how many were left out. */
#ifndef CAIRN_NET_COMPLAINT_H
#define CAIRN_NET_COMPLAINT_H

#include "blockcore/base/annotations.h"

#define COMPLAINTS_BURST 10
#define COMPLAINT_MS 1000

/* A line for the log, which should name an address. @client: NULL, or the client's by itself. On any loop. */
void complain(const char *client, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
