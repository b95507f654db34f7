/* backend - what is written from a model
 *
 * A back end turns a model into the text of one file. It cannot fail; main() writes the files. @prefix stands in front
 * of file names and of the names of tables. */
#ifndef SCHEMAC_BACKEND_H
#define SCHEMAC_BACKEND_H

#include "schema/compiler/output.h"

struct backend_options {
    const char *prefix;         /* "cairn_", or "" */
    const char *schema;         /* name of the main file, without directories */
    const char *const *defined; /* conditions taken as true, for introspection as plain JSON */
    size_t defined_count;
};

/* Plain C types. */
void write_types_header(struct output *output, const struct model *model, const struct backend_options *options);
void write_types_source(struct output *output, const struct model *model, const struct backend_options *options);

/* Tables for the codec. */
void write_descriptors_header(struct output *output, const struct model *model, const struct backend_options *options);
void write_descriptors_source(struct output *output, const struct model *model, const struct backend_options *options);

/* Handlers and the table of commands. */
void write_commands_header(struct output *output, const struct model *model, const struct backend_options *options);
void write_commands_source(struct output *output, const struct model *model, const struct backend_options *options);

/* Emitters of events. */
void write_events_header(struct output *output, const struct model *model, const struct backend_options *options);
void write_events_source(struct output *output, const struct model *model, const struct backend_options *options);

/* Calls of the C client. */
void write_client_header(struct output *output, const struct model *model, const struct backend_options *options);
void write_client_source(struct output *output, const struct model *model, const struct backend_options *options);

/* The answer to query-qmp-schema: as C that keeps conditions, or as JSON with them decided. */
void write_introspect_header(struct output *output, const struct model *model, const struct backend_options *options);
void write_introspect_source(struct output *output, const struct model *model, const struct backend_options *options);
void write_introspect_json(struct output *output, const struct model *model, const struct backend_options *options);

#endif
