#include "clients/cli/cli.h"
#include "clients/cli/size.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define EXTENTS_PER_CALL 16384 /* a few MiB of JSON */

/* An extent of query-block-status. Strings are borrowed from the reply that @reply holds. */
struct extent {
    json_t *reply;
    uint64_t start;
    uint64_t length;
    json_int_t depth;
    bool present;
    bool zero;
    bool data;
    bool compressed;
    bool mapped;
    uint64_t offset;
    const char *layer;
    const char *file;
};

struct printer {
    void (*begin)(void);
    void (*extent)(const struct extent *extent, bool first);
    void (*end)(void);
};

static uint64_t get_number(const json_t *object, const char *member)
{
    return (uint64_t)json_integer_value(json_object_get(object, member));
}

static bool get_flag(const json_t *object, const char *member)
{
    return json_is_true(json_object_get(object, member));
}

static const char *get_text(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text ? text : "";
}

static struct extent extent_of_json(json_t *reply, const json_t *json)
{
    return (struct extent){
        .reply = reply,
        .start = get_number(json, "offset"),
        .length = get_number(json, "length"),
        .depth = json_integer_value(json_object_get(json, "depth")),
        .present = get_flag(json, "present"),
        .zero = get_flag(json, "zero"),
        .data = get_flag(json, "data"),
        .compressed = get_flag(json, "compressed"),
        .mapped = json_object_get(json, "file-offset") != NULL,
        .offset = get_number(json, "file-offset"),
        .layer = get_text(json, "node"),
        .file = get_text(json, "file"),
    };
}

/* Is @b the same as @a, going on where that ends? Replies end anywhere, also in the middle of an extent. */
static bool extent_continues(const struct extent *a, const struct extent *b)
{
    return a->depth == b->depth && a->present == b->present && a->zero == b->zero && a->data == b->data &&
           a->compressed == b->compressed && a->mapped == b->mapped && strcmp(a->layer, b->layer) == 0 &&
           strcmp(a->file, b->file) == 0 && (!a->mapped || a->offset + a->length == b->offset);
}

static void table_begin(void)
{
    printf("%-18s %-10s %5s  %-12s %-18s %s\n", "offset", "length", "depth", "what", "layer", "where");
}

static void table_extent(const struct extent *extent, bool first)
{
    char length[SIZE_TEXT_MAX];
    const char *what = extent->compressed ? "compressed"
                       : extent->data     ? extent->zero ? "data, zero" : "data"
                       : extent->zero     ? extent->present ? "zero" : "hole"
                                          : "-";

    (void)first;
    printf("0x%-16" PRIx64 " %-10s %5" JSON_INTEGER_FORMAT "  %-12s %-18s ", extent->start,
           size_format(extent->length, length), extent->depth, what, extent->layer);
    if (extent->mapped)
        printf("%s at 0x%" PRIx64, extent->file, extent->offset);
    putchar('\n');
}

static void table_end(void)
{
}

static void json_begin(void)
{
    putchar('[');
}

static void json_extent(const struct extent *extent, bool first)
{
    static const char *const words[] = { "false", "true" };

    printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %" JSON_INTEGER_FORMAT
           ", \"present\": %s, \"zero\": %s, \"data\": %s",
           first ? "" : ",\n", extent->start, extent->length, extent->depth, words[extent->present],
           words[extent->zero], words[extent->data]);
    if (extent->compressed)
        printf(", \"compressed\": true");
    if (extent->mapped)
        printf(", \"offset\": %" PRIu64, extent->offset);
    putchar('}');
}

static void json_end(void)
{
    puts("]");
}

static const struct printer table_printer = { table_begin, table_extent, table_end };
static const struct printer json_printer = { json_begin, json_extent, json_end };

/* The way of an answer to the printer. The last extent is kept back, since the next reply may go on with it. */
struct output {
    const struct printer *printer;
    uint64_t end; /* nothing from here on is printed */
    struct extent pending;
    bool first;
};

static void output_pending(struct output *output)
{
    if (!output->pending.reply)
        return;
    output->printer->extent(&output->pending, output->first);
    output->first = false;
    json_decref(steal(&output->pending.reply));
}

static void output_reply(struct output *output, json_t *reply)
{
    size_t i;
    const json_t *json;

    json_array_foreach(json_object_get(reply, "extents"), i, json)
    {
        struct extent extent = extent_of_json(reply, json);
        if (extent.start >= output->end)
            return;
        if (extent.length > output->end - extent.start)
            extent.length = output->end - extent.start;
        if (output->pending.reply && extent_continues(&output->pending, &extent)) {
            output->pending.length += extent.length;
            continue;
        }
        output_pending(output);
        output->pending = extent;
        json_incref(reply);
    }
}

static struct error *print_map(struct client *client, const char *node, uint64_t begin, uint64_t end,
                               const struct printer *printer)
{
    struct output output = { .printer = printer, .end = end, .first = true };
    bool begun = false;

    while (!begun || begin > 0) {
        CLEANUP(json_decref) json_t *reply = NULL;
        json_t *arguments = json_pack("{s:s, s:I, s:i}", "node-name", node, "offset", (json_int_t)begin, "max-extents",
                                      EXTENTS_PER_CALL);
        struct error *err = client_call(client, "query-block-status", arguments, &reply);
        if (err) {
            json_decref(output.pending.reply);
            return err;
        }
        if (!begun)
            printer->begin();
        begun = true;
        output_reply(&output, reply);
        begin = get_number(reply, "next-offset"); /* 0 when there is none */
        if (begin >= end)
            break;
    }
    output_pending(&output);
    printer->end();
    return NULL;
}

static int map_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        { "output", required_argument, NULL, 'o' },
        { "start-offset", required_argument, NULL, 's' },
        { "max-length", required_argument, NULL, 'l' },
        { 0 },
    };
    const struct printer *printer = &table_printer;
    uint64_t begin = 0, length = UINT64_MAX;

    for (int option; (option = getopt_long(argc, argv, "o:s:l:", options, NULL)) != -1;) {
        if (option == '?')
            return EXIT_USAGE;
        if (option == 'o' && strcmp(optarg, "json") == 0)
            printer = &json_printer;
        else if (option == 'o' && strcmp(optarg, "human") != 0)
            return cli_usage("map: the output is 'human' or 'json', not '%s'", optarg);
        else if (option != 'o' && !size_parse(optarg, option == 's' ? &begin : &length))
            return cli_usage("map: '%s' is no size", optarg);
    }
    if (argc - optind != 1)
        return cli_usage("map: which node?");
    uint64_t end;
    if (__builtin_add_overflow(begin, length, &end))
        end = UINT64_MAX;
    struct error *err = print_map(cli->client, argv[optind], begin, end, printer);
    return err ? cli_fail(cli, err) : EXIT_OK;
}

const struct subcommand map_subcommand = {
    .name = "map",
    .arguments = "[OPTION]... NODE",
    .summary = "show what lies where in a node: data, zeroes, holes, layers",
    .help = "  -o, --output FORMAT        human (a table, the default), or json: the form of 'qemu-img map\n"
            "                             --output=json', with a member \"compressed\" where that is true\n"
            "  -s, --start-offset OFFSET  begin there (default: 0)\n"
            "  -l, --max-length LENGTH    show so many bytes at most (default: to the end)\n"
            "\n"
            "The table's columns: depth counts backing files down to the layer that decides the bytes; what is\n"
            "data, zero (the layer says so), hole (nothing anywhere), compressed, or both \"data, zero\" (storage\n"
            "that is taken, and reads as zeroes); layer is the node that decides; where are the protocol node\n"
            "that stores the bytes, and the offset in it.\n",
    .run = map_run,
};
