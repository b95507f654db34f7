#include "schema/compiler/modes.h"

static bool print_introspection(struct output *output, const struct model *model, const struct backend_options *options,
                                const char *argument)
{
    (void)argument;
    write_introspect_json(output, model, options);
    return true;
}

const struct mode modes[] = {
    { "introspect", NULL, "print the answer to query-qmp-schema", print_introspection },
};

const size_t mode_count = ARRAY_SIZE(modes);
