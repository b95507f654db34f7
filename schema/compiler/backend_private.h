/* What back ends that write C share. */
#ifndef SCHEMAC_BACKEND_PRIVATE_H
#define SCHEMAC_BACKEND_PRIVATE_H

#include "schema/compiler/backend.h"

/* Indents by tabs: what is generated is big, and nobody edits it. */
void indent_by_tabs(struct output *output);

/* The table of a type: "codec_str", "blockdev_options_descriptor". @prefix as in struct backend_options. */
const char *descriptor_name(struct output *output, const struct model *model, const char *prefix,
                            const struct type *type);

/* Whether a command takes or returns anything, as C sees it. */
bool command_takes_arguments(const struct command *command);

/* "struct job_info_list ", "struct version_info ", "const char *": what a result is. NULL if there is none. */
const char *command_result_type(struct output *output, const struct command *command);

/* The table of what a command takes or returns: "&codec_empty" for nothing taken, "0" for nothing returned. */
const char *command_arguments_table(struct output *output, const struct model *model, const char *prefix,
                                    const struct command *command);
const char *command_result_table(struct output *output, const struct model *model, const char *prefix,
                                 const struct command *command);

struct command_list {
    VECTOR(const struct command *) list;
};

/* All commands by name, as strcmp() orders them. */
struct command_list commands_sorted(struct output *output, const struct model *model);

#endif
