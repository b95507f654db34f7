#include "schema/compiler/backend_private.h"

#include <stdlib.h>
#include <string.h>

void indent_by_tabs(struct output *output)
{
    static const size_t width = 4;
    size_t kept = 0, spaces = 0;
    bool leading = true;
    char *text = output->text.items;
    for (size_t i = 0; i < output->text.count; i++) {
        spaces = leading && text[i] == ' ' ? spaces + 1 : 0;
        leading = text[i] == '\n' || (leading && text[i] == ' ');
        text[kept++] = text[i];
        if (spaces == width) {
            kept -= width;
            text[kept++] = '\t';
            spaces = 0;
        }
    }
    output->text.count = kept;
}

static int compare_commands(const void *a, const void *b)
{
    const struct command *const *one = a, *const *other = b;
    return strcmp((*one)->name, (*other)->name);
}

struct command_list commands_sorted(struct output *output, const struct model *model)
{
    struct command_list commands = { 0 };
    for (size_t i = 0; i < model->entities.count; i++)
        if (model->entities.items[i].command)
            VECTOR_PUSH(output->arena, &commands.list, (const struct command *)model->entities.items[i].command);
    if (commands.list.count)
        qsort(commands.list.items, commands.list.count, sizeof(*commands.list.items), compare_commands);
    return commands;
}

bool command_takes_arguments(const struct command *command)
{
    return command->arguments && !type_is_empty(command->arguments) && !command->raw;
}

const char *command_result_type(struct output *output, const struct command *command)
{
    const struct type *type = command->returns;
    if (command->raw)
        return "struct json_text ";
    if (!type || type_is_empty(type))
        return NULL;
    if (type->kind == TYPE_BUILTIN)
        return type->builtin->c_type;
    return arena_printf(output->arena, "%s %s ", type->kind == TYPE_ENUM ? "enum" : "struct", type->c_name);
}

const char *command_arguments_table(struct output *output, const struct model *model, const char *prefix,
                                    const struct command *command)
{
    if (!command_takes_arguments(command))
        return "&codec_empty";
    return arena_printf(output->arena, "&%s", descriptor_name(output, model, prefix, command->arguments));
}

const char *command_result_table(struct output *output, const struct model *model, const char *prefix,
                                 const struct command *command)
{
    if (command->raw)
        return "&codec_any";
    if (!command_result_type(output, command))
        return "0";
    return arena_printf(output->arena, "&%s", descriptor_name(output, model, prefix, command->returns));
}

/* What the handler may do (schema/codec/command.h). */
static const char *handler_mark(const struct command *command)
{
    return command->coroutine ? "CO_FN" : "CONTROL_FN";
}

static void write_prototype(struct output *output, const struct command *command)
{
    const char *result = command_result_type(output, command);
    output_printf(output, "struct error *handle_%s(struct command_context *context", command->c_name);
    if (command_takes_arguments(command))
        output_printf(output, ",\n    const struct %s *arguments", command->arguments->c_name);
    if (result)
        output_printf(output, ",\n    %s*result", result);
    output_printf(output, ") %s;\n", handler_mark(command));
}

void write_commands_header(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct command_list commands = commands_sorted(output, model);
    output_header_begin(output, arena_printf(output->arena, "%scommands.h", options->prefix), options->schema);
    output_printf(
        output,
        "#include \"%stypes.h\"\n#include \"schema/codec/command.h\"\n\n"
        "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
        "/* All commands. */\nextern const struct command_table %scommands;\n\n"
        "/* What the program defines: one function per command. @arguments lives until the reply is written.\n"
        " * @result is zeroed; what it points to is taken from command_arena(context). NULL is success; an\n"
        " * error is owned by the caller, and @result is ignored then. CO_FN: the command's kind is\n"
        " * COMMAND_COROUTINE, it may await. CONTROL_FN: it may not. */\n",
        options->prefix, options->prefix);
    for (size_t i = 0; i < commands.list.count; i++) {
        const struct command *command = commands.list.items[i];
        output_if(output, command->condition);
        write_prototype(output, command);
        output_endif(output, command->condition);
    }
    output_header_end(output);
    indent_by_tabs(output);
}

/* Functions that give untyped values their types. */
static const char invoke_macros[] =
    "#define INVOKE(c, ...) \\\n"
    "    static struct error *invoke_##c(struct command_context *context, const void *arguments, void *result) \\\n"
    "    { \\\n        (void)arguments; \\\n        (void)result; \\\n        return handle_##c(__VA_ARGS__); \\\n    "
    "}\n\n";

static void write_invoke(struct output *output, const struct command *command)
{
    output_if(output, command->condition);
    output_printf(output, "INVOKE(%s, context%s%s)\n", command->c_name,
                  command_takes_arguments(command) ? ", arguments" : "",
                  command_result_type(output, command) ? ", result" : "");
    output_endif(output, command->condition);
}

static const char *role_flag(const struct command *command)
{
    static const char *const flags[] = {
        [ROLE_READ] = "COMMAND_ROLE_READ",
        [ROLE_OPERATE] = "COMMAND_ROLE_OPERATE",
        [ROLE_ADMIN] = "COMMAND_ROLE_ADMIN",
    };
    return flags[command->role];
}

static const char *error_flags(struct output *output, const struct command *command)
{
    const char *flags = command->errors_declared ? " | COMMAND_ERRORS_DECLARED" : "";
    for (size_t i = 0; i < command->errors.count; i++)
        flags = arena_printf(output->arena, "%s | COMMAND_ERROR(%zu)", flags, command->errors.items[i].enum_index);
    return flags;
}

static const char *command_flags(struct output *output, const struct command *command)
{
    return arena_printf(
        output->arena, "%s%s%s%s%s%s%s%s", role_flag(command), command->coroutine ? " | COMMAND_MAY_AWAIT" : "",
        command->allow_oob ? " | COMMAND_ALLOW_OOB" : "", command->success_response ? "" : " | COMMAND_NO_RESPONSE",
        features_contain(&command->features, "deprecated") ? " | COMMAND_DEPRECATED" : "",
        features_contain(&command->features, "unstable") ? " | COMMAND_UNSTABLE" : "",
        command->raw ? " | COMMAND_RAW" : "", error_flags(output, command));
}

static void write_entry(struct output *output, const struct model *model, const char *prefix,
                        const struct command *command)
{
    output_if(output, command->condition);
    output_printf(output, "    { \"%s\", %s,\n      %s, %s, invoke_%s },\n", command->name,
                  command_flags(output, command), command_arguments_table(output, model, prefix, command),
                  command_result_table(output, model, prefix, command), command->c_name);
    output_endif(output, command->condition);
}

void write_commands_source(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct command_list commands = commands_sorted(output, model);
    output_printf(output,
                  "/* Written by schemac from %s: change that instead. */\n#include \"%scommands.h\"\n"
                  "#include \"%sdescriptors.h\"\n\n%s",
                  options->schema, options->prefix, options->prefix, invoke_macros);
    for (size_t i = 0; i < commands.list.count; i++)
        write_invoke(output, commands.list.items[i]);
    output_text(output, "\nstatic const struct command_descriptor commands[] = {\n");
    for (size_t i = 0; i < commands.list.count; i++)
        write_entry(output, model, options->prefix, commands.list.items[i]);
    output_printf(output,
                  "    { 0, 0, 0, 0, 0 },\n};\n\nconst struct command_table %scommands = { commands, "
                  "sizeof(commands) / sizeof(commands[0]) - 1 };\n",
                  options->prefix);
    indent_by_tabs(output);
}
