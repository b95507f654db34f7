/* printers - back ends whose output is for people and for programs in other languages
 *
 * As in backend.h: they turn a model into a text and cannot fail. */
#ifndef SCHEMAC_PRINTERS_H
#define SCHEMAC_PRINTERS_H

#include "schema/compiler/backend.h"

/* The resolved model as JSON; its form is described in backend_model_json.c. */
void write_model_json(struct output *output, const struct model *model, const struct backend_options *options);

/* The schema as one file of plain QAPI: what language 1 adds is translated away. */
void write_qapi(struct output *output, const struct model *model, const struct backend_options *options);

/* A JSON Schema (2020-12) of the type @root. With @text it also accepts what decoding text accepts: strings in place of
 * numbers and booleans, as in a YAML file. False if there is no type of that name. */
bool write_json_schema(struct output *output, const struct model *model, const struct backend_options *options,
                       const char *root, bool text);

/* The reference manual. */
void write_docs_md(struct output *output, const struct model *model, const struct backend_options *options);
void write_docs_html(struct output *output, const struct model *model, const struct backend_options *options);
void write_docs_man(struct output *output, const struct model *model, const struct backend_options *options);

/* A Python module: data classes, enumerations, events, and a client with one method per command. It needs the package
 * of clients/python around it. */
void write_python(struct output *output, const struct model *model, const struct backend_options *options);

/* What changed from @old to @new and breaks clients: one line per change, naming command, path, member and type.
 * Returns how many. */
size_t write_diff(struct output *output, const struct model *old, const struct model *new_model);

#endif
