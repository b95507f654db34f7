#include "schema/compiler/backend.h"

#include <stdlib.h>
#include <string.h>

static int compare_events(const void *a, const void *b)
{
    const struct event *const *one = a, *const *other = b;
    return strcmp((*one)->name, (*other)->name);
}

struct event_list {
    VECTOR(const struct event *) list;
};

static struct event_list sorted_events(struct output *output, const struct model *model)
{
    struct event_list events = { 0 };
    for (size_t i = 0; i < model->entities.count; i++)
        if (model->entities.items[i].event)
            VECTOR_PUSH(output->arena, &events.list, (const struct event *)model->entities.items[i].event);
    if (events.list.count)
        qsort(events.list.items, events.list.count, sizeof(*events.list.items), compare_events);
    return events;
}

static bool has_data(const struct event *event)
{
    return event->data && !type_is_empty(event->data);
}

static void write_signature(struct output *output, const struct event *event)
{
    output_printf(output, "void event_%s(struct event_sink *sink", event->c_name);
    if (has_data(event))
        output_printf(output, ", const struct %s *data", event->data->c_name);
    output_text(output, ")");
}

void write_events_header(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct event_list events = sorted_events(output, model);
    output_header_begin(output, arena_printf(output->arena, "%sevents.h", options->prefix), options->schema);
    output_printf(output,
                  "#include \"%stypes.h\"\n#include \"schema/codec/event.h\"\n\n"
                  "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
                  "/* All events. */\nextern const struct event_table %sevents;\n\n"
                  "/* Each sends one event to all sessions of @sink; @data stays the caller's. */\n",
                  options->prefix, options->prefix);
    for (size_t i = 0; i < events.list.count; i++) {
        output_if(output, events.list.items[i]->condition);
        write_signature(output, events.list.items[i]);
        output_text(output, " CONTROL_FN;\n");
        output_endif(output, events.list.items[i]->condition);
    }
    output_header_end(output);
}

static const char emit_macros[] = "#define EMIT(c) \\\n"
                                  "    void event_##c(struct event_sink *sink) \\\n"
                                  "    { \\\n        event_sink_emit(sink, &events[INDEX_##c], 0); \\\n    }\n"
                                  "#define EMIT_DATA(c, t) \\\n"
                                  "    void event_##c(struct event_sink *sink, const struct t *data) \\\n"
                                  "    { \\\n        event_sink_emit(sink, &events[INDEX_##c], data); \\\n    }\n\n";

static void write_emitter(struct output *output, const struct event *event)
{
    output_if(output, event->condition);
    if (has_data(event))
        output_printf(output, "EMIT_DATA(%s, %s)\n", event->c_name, event->data->c_name);
    else
        output_printf(output, "EMIT(%s)\n", event->c_name);
    output_endif(output, event->condition);
}

static void write_rate_keys(struct output *output, const struct event *event)
{
    if (!event->rate_limit_keys.count)
        return;
    output_if(output, event->condition);
    output_printf(output, "static const uint16_t %s_rate_keys[] = {", event->c_name);
    for (size_t i = 0; i < event->rate_limit_keys.count; i++)
        output_printf(output, "%s %zu", i ? "," : "", event->rate_limit_keys.items[i]);
    output_text(output, " };\n");
    output_endif(output, event->condition);
}

static void write_entry(struct output *output, const struct event *event)
{
    const char *data = has_data(event) ? arena_printf(output->arena, "&%s_descriptor", event->data->c_name) : "0";
    const char *keys = event->rate_limit_keys.count ? arena_printf(output->arena, "%s_rate_keys", event->c_name) : "0";
    output_if(output, event->condition);
    output_printf(output, "    [INDEX_%s] = { \"%s\", %s, %u, %zu, %s },\n", event->c_name, event->name, data,
                  event->rate_limit_ms, event->rate_limit_keys.count, keys);
    output_endif(output, event->condition);
}

void write_events_source(struct output *output, const struct model *model, const struct backend_options *options)
{
    struct event_list events = sorted_events(output, model);
    output_printf(output,
                  "/* Written by schemac from %s: change that instead. */\n#include \"%sevents.h\"\n"
                  "#include \"%sdescriptors.h\"\n\nenum {\n",
                  options->schema, options->prefix, options->prefix);
    for (size_t i = 0; i < events.list.count; i++) {
        output_if(output, events.list.items[i]->condition);
        output_printf(output, "    INDEX_%s,\n", events.list.items[i]->c_name);
        output_endif(output, events.list.items[i]->condition);
    }
    output_text(output, "    INDEX__MAX\n};\n\n");
    for (size_t i = 0; i < events.list.count; i++)
        write_rate_keys(output, events.list.items[i]);
    output_text(output, "static const struct event_descriptor events[] = {\n");
    for (size_t i = 0; i < events.list.count; i++)
        write_entry(output, events.list.items[i]);
    output_text(output, "    [INDEX__MAX] = { 0, 0, 0, 0, 0 },\n};\n\n");
    output_text(output, emit_macros);
    for (size_t i = 0; i < events.list.count; i++)
        write_emitter(output, events.list.items[i]);
    output_printf(output, "const struct event_table %sevents = { events, INDEX__MAX };\n", options->prefix);
}
