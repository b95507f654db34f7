/* audit - what clients changed, a JSON object a line
 *
 *     {"time": "2026-03-01T12:00:00.123456Z", "number": 17, "client": "monitor '/run/x.sock' client 3", "role":
 * "operate", "uid": 1000, "pid": 4711, "id": "a1", "command": "blockdev-del", "arguments": {"node-name": "disk0"},
 *      "result": "error", "class": "GenericError", "desc": "...", "seconds": 0.000123}
 *
 * Whatever a client sends, its line has a bound: one that is longer than a datagram (208 KiB) would
 * stop the journal for all others.
 *
 * For commands that need more than the role 'read', those that were refused included. The first part is written before
 * the command begins: afterwards its client may be gone, and its arguments belong to others. */
#ifndef CAIRN_RPC_AUDIT_H
#define CAIRN_RPC_AUDIT_H

#include <stdint.h>

struct command_context;
struct error;
struct text;

#define AUDIT_ARGUMENTS_MAX (64 * 1024) /* bytes of JSON; of longer ones the begin is shown, as a string */
#define AUDIT_ID_MAX 1024               /* the same for the id that the client gave its command */
#define AUDIT_DESC_MAX 4096             /* bytes of the text of an error */

/* Appends all that is known before @request is executed. */
void audit_begin_line(struct text *line, const struct command_context *request);

/* Appends what became of it, @ns after its begin, and the line feed. */
void audit_end_line(struct text *line, const struct command_context *request, uint64_t ns);

#endif
