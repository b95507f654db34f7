#include "clients/cli/cli.h"
#include "clients/cli/json_get.h"
#include "clients/cli/map_bar.h"
#include "clients/cli/size.h"
#include "clients/cli/terminal.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

static enum map_kind kind_of(const struct extent *extent)
{
    if ((extent->data && !extent->zero) || extent->compressed)
        return MAP_DATA;
    return extent->present ? MAP_ZERO : MAP_ABSENT;
}

static void table_extent(const struct extent *extent, bool first)
{
    char length[SIZE_TEXT_MAX];
    const char *what = extent->compressed ? "compressed"
                       : extent->data     ? extent->zero ? "data, zero" : "data"
                       : extent->zero     ? extent->present ? "zero" : "hole"
                                          : "-";

    (void)first;
    printf("0x%-16" PRIx64 " %-10s %5" JSON_INTEGER_FORMAT "  ", extent->start, size_format(extent->length, length),
           extent->depth);
    terminal_color(stdout, map_color(kind_of(extent), (unsigned)extent->depth));
    printf("%-12s", what);
    terminal_color(stdout, COLOR_NONE);
    printf(" %-18s ", extent->layer);
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
    uint64_t end;        /* nothing from here on is printed */
    struct map_bar *bar; /* NULL: none is wanted */
    struct extent pending;
    bool first;
};

static void add_to_bar(struct map_bar *bar, const struct extent *extent)
{
    map_bar_add(bar, &(struct map_piece){ .start = extent->start,
                                          .length = extent->length,
                                          .kind = kind_of(extent),
                                          .depth = (unsigned)extent->depth });
}

static void output_pending(struct output *output)
{
    if (!output->pending.reply)
        return;
    output->printer->extent(&output->pending, output->first);
    if (output->bar)
        add_to_bar(output->bar, &output->pending);
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
                               const struct printer *printer, struct map_bar *bar)
{
    struct output output = { .printer = printer, .end = end, .bar = bar, .first = true };
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

/* What the command line says. */
struct request {
    const struct printer *printer;
    uint64_t begin;
    uint64_t length;
    bool no_bar;
    bool bar_too; /* also where no terminal is */
};

static bool wants_bar(const struct request *request)
{
    return !request->no_bar && request->printer == &table_printer && (request->bar_too || isatty(STDOUT_FILENO));
}

static int show_map(struct cli *cli, const char *node, const struct request *request)
{
    struct map_bar bar = { 0 };
    unsigned columns, rows;
    uint64_t end;

    if (__builtin_add_overflow(request->begin, request->length, &end))
        end = UINT64_MAX;
    struct error *err =
        print_map(cli->client, node, request->begin, end, request->printer, wants_bar(request) ? &bar : NULL);
    terminal_size(STDOUT_FILENO, &columns, &rows);
    if (!err)
        map_bar_print(&bar, columns, stdout);
    map_bar_fini(&bar);
    return err ? cli_fail(cli, err) : EXIT_OK;
}

static int take_bar(struct request *request, const char *when)
{
    request->no_bar = strcmp(when, "never") == 0;
    request->bar_too = strcmp(when, "always") == 0;
    bool known = request->no_bar || request->bar_too || strcmp(when, "auto") == 0;
    return known ? EXIT_OK : cli_usage("map: the bar is for 'auto', 'always' or 'never', not '%s'", when);
}

static int take_option(struct request *request, int option, const char *value)
{
    if (option == '?')
        return EXIT_USAGE;
    if (option == 'c' && !terminal_set_color(value))
        return cli_usage("map: colours are 'auto', 'always' or 'never', not '%s'", value);
    if (option == 'b')
        return take_bar(request, value);
    if (option == 'o' && strcmp(value, "json") == 0)
        request->printer = &json_printer;
    else if (option == 'o' && strcmp(value, "human") != 0)
        return cli_usage("map: the output is 'human' or 'json', not '%s'", value);
    if (option != 's' && option != 'l')
        return EXIT_OK;
    bool good = size_parse(value, option == 's' ? &request->begin : &request->length);
    return good ? EXIT_OK : cli_usage("map: '%s' is no size", value);
}

static int map_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        { "output", required_argument, NULL, 'o' },     { "start-offset", required_argument, NULL, 's' },
        { "max-length", required_argument, NULL, 'l' }, { "color", required_argument, NULL, 'c' },
        { "bar", required_argument, NULL, 'b' },        { 0 },
    };
    struct request request = { .printer = &table_printer, .length = UINT64_MAX };

    for (int option; (option = getopt_long(argc, argv, "o:s:l:", options, NULL)) != -1;) {
        int status = take_option(&request, option, optarg);
        if (status != EXIT_OK)
            return status;
    }
    if (argc - optind != 1)
        return cli_usage("map: which node?");
    return show_map(cli, argv[optind], &request);
}

const struct subcommand map_subcommand = {
    .name = "map",
    .arguments = "[OPTION]... NODE",
    .summary = "show what lies where in a node: data, zeroes, holes, layers",
    .help = "  -o, --output FORMAT        human (a table, the default), or json: the form of 'qemu-img map\n"
            "                             --output=json', with a member \"compressed\" where that is true\n"
            "  -s, --start-offset OFFSET  begin there (default: 0)\n"
            "  -l, --max-length LENGTH    show so many bytes at most (default: to the end)\n"
            "      --color WHEN           auto (on a terminal, the default), always, never\n"
            "      --bar WHEN             the same for a bar of the whole image below the table\n"
            "\n"
            "The table's columns: depth counts backing files down to the layer that decides the bytes; what is\n"
            "data, zero (the layer says so), hole (nothing anywhere), compressed, or both \"data, zero\" (storage\n"
            "that is taken, and reads as zeroes); layer is the node that decides; where are the protocol node\n"
            "that stores the bytes, and the offset in it.\n",
    .run = map_run,
};
