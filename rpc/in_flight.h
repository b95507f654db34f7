/* in_flight - commands that have not ended: what they wait for, and how to give them up
 *
 *     queued ----> running ----> (ended)
 *        |            '--cancel--> cancelled ----> (ended)
 *        '--cancel--> answered in its turn, without being begun
 *
 * Storage that does not answer cannot be made to. So who cancels a command that runs ends its client's wait: the client
 * gets an error and its next command begins. The command itself is told (co_cancel) and ends at its next step, as soon
 * as what it waits for lets it; until then it is listed, and the names that it has taken stay taken. */
#ifndef CAIRN_RPC_IN_FLIGHT_H
#define CAIRN_RPC_IN_FLIGHT_H

#include "blockcore/base/annotations.h"
#include "blockcore/base/error.h"

#include <stdint.h>

struct arena;
struct command_context;

enum in_flight_state {
    IN_FLIGHT_QUEUED,
    IN_FLIGHT_RUNNING,
    IN_FLIGHT_CANCELLED,
};

struct in_flight_command {
    uint64_t number;     /* of this command alone, as long as the process lives */
    const char *command; /* its name */
    const char *id;      /* JSON text; NULL: the client gave none */
    const char *client;  /* "monitor '/run/x.sock' client 3" */
    uint64_t age_ns;     /* since it was read */
    enum in_flight_state state;
    const char *waits_for;
};

/* All but the one that asks, oldest first within each client; strings are from @arena. */
void in_flight_list(const struct command_context *asker, struct arena *arena, struct in_flight_command **out,
                    size_t *count) CONTROL_FN;

/* Gives up the command of that number; one that was given up already stays so. Error: there is none (any more). */
struct error *in_flight_cancel(const struct command_context *asker, uint64_t number) CONTROL_FN MUST_CHECK;

/* The same by the id that it was given (JSON text), among the commands of the client that asks. */
struct error *in_flight_cancel_id(const struct command_context *asker, const char *id) CONTROL_FN MUST_CHECK;

#endif
