/* typed - commands with the types of the interface
 *
 * What the functions of the generated cairn_client.h stand on: arguments are encoded as text, the reply is decoded into
 * an arena.
 *
 *     struct job_info_list jobs;
 *     struct error *err = call_query_jobs(client, &arena, &jobs); */
#ifndef CAIRN_CLIENT_TYPED_H
#define CAIRN_CLIENT_TYPED_H

#include "blockcore/base/arena.h"
#include "clients/c/client.h"
#include "schema/codec/descriptor.h"

struct typed_command {
    const char *name;
    const struct type_descriptor *arguments; /* codec_empty: none; codec_any: text */
    const struct type_descriptor *result;    /* NULL: none */
};

/* Executes @command, with the session and deadline of client_call().
 * @arguments  as command->arguments says; NULL where it is codec_empty
 * @arena      of what @result points to; with @result NULL it may be NULL too
 * @result     command->result->size bytes, written on success only
 * An error of the server keeps its class. Arguments that are no value of their type are an error too, and nothing is
 * sent. */
struct error *client_call_typed(struct client *client, const struct typed_command *command, const void *arguments,
                                struct arena *arena, void *result) MUST_CHECK;

#endif
