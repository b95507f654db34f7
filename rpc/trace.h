/* trace - what is asked and answered, one line each, for a log
 *
 *     monitor 'm' client 3: --> {"execute": "object-add", "arguments": {"qom-type": "secret", "data": "(secret)"},
 * "id": 7} monitor 'm' client 3: <-- object-add, 1.204 ms: {"return": {}}
 *
 * Written from the decoded values, so that what the schema calls secret never shows; arguments that could not be
 * decoded are left out for the same reason. Errors name no secrets (schema/codec/decode.h). */
#ifndef CAIRN_RPC_TRACE_H
#define CAIRN_RPC_TRACE_H

#include "schema/codec/text.h"

#include <stdint.h>

struct command_context;

#define TRACE_LINE_MAX 4096 /* bytes; what is longer is cut off */

/* Appends the request that is about to be executed; before that, since its handler may give its memory away. */
void trace_request(struct text *text, const struct command_context *request);

/* Appends its reply, @ns after its begin. */
void trace_reply(struct text *text, const struct command_context *request, uint64_t ns);

#endif
