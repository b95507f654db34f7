#include "schema/compiler/modes.h"
#include "schema/compiler/printers.h"

#include <string.h>

static bool print_introspection(struct output *output, const struct model *model, const struct backend_options *options,
                                const char *argument)
{
    (void)argument;
    write_introspect_json(output, model, options);
    return true;
}

static bool print_model(struct output *output, const struct model *model, const struct backend_options *options,
                        const char *argument)
{
    (void)argument;
    write_model_json(output, model, options);
    return true;
}

static bool print_qapi(struct output *output, const struct model *model, const struct backend_options *options,
                       const char *argument)
{
    (void)argument;
    write_qapi(output, model, options);
    return true;
}

static bool print_docs(struct output *output, const struct model *model, const struct backend_options *options,
                       const char *format)
{
    if (strcmp(format, "md") == 0)
        write_docs_md(output, model, options);
    else if (strcmp(format, "html") == 0)
        write_docs_html(output, model, options);
    else if (strcmp(format, "man") == 0)
        write_docs_man(output, model, options);
    else
        return false;
    return true;
}

static bool print_python(struct output *output, const struct model *model, const struct backend_options *options,
                         const char *argument)
{
    (void)argument;
    write_python(output, model, options);
    return true;
}

static bool print_json_schema(struct output *output, const struct model *model, const struct backend_options *options,
                              const char *type)
{
    return write_json_schema(output, model, options, type, false);
}

static bool print_yaml_schema(struct output *output, const struct model *model, const struct backend_options *options,
                              const char *type)
{
    return write_json_schema(output, model, options, type, true);
}

const struct mode modes[] = {
    { "docs", "FORMAT", "print the reference manual: md, html or man", print_docs },
    { "dump-model", NULL, "print what the schema means, as JSON, for other generators", print_model },
    { "emit-qapi", NULL, "print the schema as one file of plain QAPI", print_qapi },
    { "introspect", NULL, "print the answer to query-qmp-schema", print_introspection },
    { "json-schema", "[=TYPE]", "print a JSON Schema of TYPE, or of all types without a root", print_json_schema },
    { "yaml-schema", "TYPE", "the same for text, where scalars have no types: a YAML file of TYPE", print_yaml_schema },
    { "python", NULL, "print the Python module of the client", print_python },
};

const size_t mode_count = ARRAY_SIZE(modes);
