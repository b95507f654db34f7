/* Calls of the C client: one typed function per command. */
#include "schema/compiler/backend_private.h"

/* Commands that are not answered cannot be called: nobody would know when they are done. */
static bool has_call(const struct command *command)
{
    return command->success_response;
}

/* A command with 'gen': false may take anything, so its arguments are text. */
static bool takes_text(const struct command *command)
{
    return command->raw && command->arguments && !type_is_empty(command->arguments);
}

static void write_signature(struct output *output, const struct command *command)
{
    const char *result = command_result_type(output, command);
    output_printf(output, "struct error *call_%s(struct client *client", command->c_name);
    if (takes_text(command))
        output_text(output, ",\n    const struct json_text *arguments");
    else if (command_takes_arguments(command))
        output_printf(output, ",\n    const struct %s *arguments", command->arguments->c_name);
    if (result)
        output_printf(output, ",\n    struct arena *arena, %s*result", result);
    output_text(output, ")");
}

void write_client_header(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct command_list commands = commands_sorted(output, model);
    output_header_begin(output, arena_printf(output->arena, "%sclient.h", options->prefix), options->schema);
    output_printf(
        output,
        "#include \"%stypes.h\"\n#include \"blockcore/base/annotations.h\"\n\n"
        "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
        "struct arena;\nstruct client;\nstruct error;\n\n"
        "/* Each executes one command, as client_call() does (clients/c/client.h). @arguments stay the caller's.\n"
        " * @result is written on success only; what it points to lies in @arena. A server that is newer may say\n"
        " * more than is known here: that is passed over. */\n",
        options->prefix);
    for (size_t i = 0; i < commands.list.count; i++) {
        const struct command *command = commands.list.items[i];
        if (!has_call(command))
            continue;
        output_if(output, command->condition);
        write_signature(output, command);
        output_text(output, " MUST_CHECK;\n");
        output_endif(output, command->condition);
    }
    output_header_end(output);
    indent_by_tabs(output);
}

/* Each call by what it takes and returns. */
static const char call_macros[] =
    "#define RUN(name, arguments_table, result_table, arguments, arena, result) \\\n"
    "    { \\\n"
    "        static const struct typed_command command = { name, arguments_table, result_table }; \\\n"
    "        return client_call_typed(client, &command, arguments, arena, result); \\\n"
    "    }\n"
    "#define NEITHER(c, name, a, r) \\\n"
    "    struct error *call_##c(struct client *client) RUN(name, a, r, 0, 0, 0)\n"
    "#define TAKES(c, name, a, r, taken) \\\n"
    "    struct error *call_##c(struct client *client, const taken *arguments) RUN(name, a, r, arguments, 0, 0)\n"
    "#define RETURNS(c, name, a, r, returned) \\\n"
    "    struct error *call_##c(struct client *client, struct arena *arena, returned *result) \\\n"
    "        RUN(name, a, r, 0, arena, result)\n"
    "#define BOTH(c, name, a, r, taken, returned) \\\n"
    "    struct error *call_##c(struct client *client, const taken *arguments, struct arena *arena, \\\n"
    "                           returned *result) RUN(name, a, r, arguments, arena, result)\n\n";

/* "struct blockdev_options"; text for a command that may take anything. NULL: nothing. */
static const char *taken_type(struct output *output, const struct command *command)
{
    if (takes_text(command))
        return "struct json_text";
    return command_takes_arguments(command) ? arena_printf(output->arena, "struct %s", command->arguments->c_name)
                                            : NULL;
}

static void write_call(struct output *output, const struct model *model, const char *prefix,
                       const struct command *command)
{
    const char *taken = taken_type(output, command), *returned = command_result_type(output, command);
    const char *table = takes_text(command) ? "&codec_any" : command_arguments_table(output, model, prefix, command);
    output_if(output, command->condition);
    output_printf(output, "%s(%s, \"%s\", %s, %s%s%s%s%s)\n",
                  taken && returned ? "BOTH"
                  : taken           ? "TAKES"
                  : returned        ? "RETURNS"
                                    : "NEITHER",
                  command->c_name, command->name, table, command_result_table(output, model, prefix, command),
                  taken ? ", " : "", taken ? taken : "", returned ? ", " : "", returned ? returned : "");
    output_endif(output, command->condition);
}

void write_client_source(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct command_list commands = commands_sorted(output, model);
    output_printf(output,
                  "/* Written by schemac from %s: change that instead. */\n#include \"%sclient.h\"\n"
                  "#include \"%sdescriptors.h\"\n#include \"clients/c/typed.h\"\n\n%s",
                  options->schema, options->prefix, options->prefix, call_macros);
    for (size_t i = 0; i < commands.list.count; i++)
        if (has_call(commands.list.items[i]))
            write_call(output, model, options->prefix, commands.list.items[i]);
}
