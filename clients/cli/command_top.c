#include "clients/cli/cli.h"
#include "clients/cli/json_get.h"
#include "clients/cli/seconds.h"
#include "clients/cli/size.h"
#include "clients/cli/terminal.h"
#include "clients/cli/top_view.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INTERVAL_S 1.0
#define INTERVAL_MAX_S 60.0
#define BATCH_COLUMNS 120

struct top {
    struct client *client;
    struct top_view view;
    struct top_samples samples;
    struct job_rates rates;
    double interval_s;
    bool batch;
    uint64_t count; /* pictures that are still to be shown */
    bool paused;
    bool help;
    unsigned rows;
    unsigned first; /* line of the text that is at the top */
};

static struct error *take_sample(struct top *top)
{
    json_t *answer = NULL;
    struct error *err = client_call(top->client, "query-statistics", NULL, &answer);
    if (err)
        return err;
    top_samples_add(&top->samples, answer);
    job_rates_add(&top->rates, json_object_get(answer, "jobs"), (double)get_number(answer, "time-ns") / 1e9);
    return NULL;
}

/* As a file ------------------------------------------------------------------------------------------------------- */

static struct error *run_batch(struct top *top)
{
    struct error *err = take_sample(top);
    for (; !err && top->count > 0; top->count--) {
        usleep((useconds_t)(top->interval_s * 1e6));
        err = take_sample(top);
        if (err)
            return err;
        top_view_print(&top->view, &top->samples, &top->rates, stdout);
        if (top->count > 1)
            putchar('\n');
        if (fflush(stdout) != 0)
            return NULL; /* the reader has seen enough */
    }
    return err;
}

/* On a terminal --------------------------------------------------------------------------------------------------- */

static const char help_text[] = "keys: i iops   b bandwidth   l latency   d queue depth   n name   r reverse order\n"
                                "      c clients of exports   m commands   e exports only   z hide what is idle\n"
                                "      space pause   + - interval   arrows, page up and down: scroll   q quit\n\n";

/* The last line of the screen. */
static void put_status(const struct top *top, unsigned lines)
{
    printf("\033[%u;1H\033[7m%s, every %.3g s, by %s%s", top->rows, top->paused ? "paused" : "cairnctl top",
           top->interval_s, top_order_name(top->view.order), top->view.reverse ? " upwards" : "");
    if (lines > top->rows - 1)
        printf(", lines from %u of %u", top->first + 1, lines);
    printf("   h help   q quit\033[K\033[0m");
}

static unsigned count_lines(const char *text)
{
    unsigned lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

static void clamp_scrolling(struct top *top, unsigned lines)
{
    unsigned shown = top->rows - 1;
    unsigned most = lines > shown ? lines - shown : 0;
    if (top->first > most)
        top->first = most;
}

/* Lines from top->first on, each on a line of the screen; what is too long is cut by the terminal. */
static void put_lines(const struct top *top, const char *text)
{
    unsigned line = 0;
    while (*text && line < top->first + top->rows - 1) {
        const char *end = strchr(text, '\n');
        if (line++ >= top->first)
            printf("%.*s\033[K\r\n", (int)(end - text), text);
        text = end + 1;
    }
}

static void draw(struct top *top)
{
    char *text = NULL;
    size_t bytes = 0;
    terminal_size(STDOUT_FILENO, &top->view.columns, &top->rows);
    if (top->rows < 2)
        top->rows = 2;
    FILE *memory = open_memstream(&text, &bytes);
    if (!memory)
        abort();
    if (top->help)
        fputs(help_text, memory);
    top_view_print(&top->view, &top->samples, &top->rates, memory);
    fclose(memory);
    unsigned lines = count_lines(text);
    clamp_scrolling(top, lines);
    fputs("\033[H\033[?7l", stdout);
    put_lines(top, text);
    fputs("\033[J", stdout);
    put_status(top, lines);
    fputs("\033[?7h", stdout);
    fflush(stdout);
    free(text);
}

static void change_interval(struct top *top, double factor)
{
    double interval_s = top->interval_s * factor;
    if (interval_s >= SECONDS_INTERVAL_MIN && interval_s <= INTERVAL_MAX_S)
        top->interval_s = interval_s;
}

static void scroll(struct top *top, int lines)
{
    top->first = lines < 0 && (unsigned)-lines > top->first ? 0 : top->first + (unsigned)lines;
}

static void take_letter(struct top *top, int key)
{
    static const char orders[TOP_ORDERS + 1] = "ibldn";
    static const struct {
        char key;
        size_t flag; /* offset in struct top */
    } flags[] = {
        { 'r', offsetof(struct top, view.reverse) },
        { 'z', offsetof(struct top, view.hide_idle) },
        { 'e', offsetof(struct top, view.hide_nodes) },
        { 'c', offsetof(struct top, view.show_clients) },
        { 'm', offsetof(struct top, view.show_commands) },
        { ' ', offsetof(struct top, paused) },
        { 'h', offsetof(struct top, help) },
        { '?', offsetof(struct top, help) },
    };
    const char *order = memchr(orders, key, TOP_ORDERS);
    if (order)
        top->view.order = (enum top_order)(order - orders);
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        bool *flag = (bool *)((char *)top + flags[i].flag);
        if (flags[i].key == key)
            *flag = !*flag;
    }
}

/* False: that was the end. */
static bool take_key(struct top *top, int key)
{
    switch (key) {
    case 'q':
    case KEY_ESCAPE:
    case KEY_END:
        return false;
    case '+':
        change_interval(top, 2);
        break;
    case '-':
        change_interval(top, 0.5);
        break;
    case KEY_UP:
        scroll(top, -1);
        break;
    case KEY_DOWN:
        scroll(top, 1);
        break;
    case KEY_PAGE_UP:
        scroll(top, -(int)(top->rows - 1));
        break;
    case KEY_PAGE_DOWN:
        scroll(top, (int)(top->rows - 1));
        break;
    default:
        take_letter(top, key);
    }
    return true;
}

static struct error *run_live(struct top *top)
{
    double due = 0;
    while (top->count > 0) {
        double left = due - seconds_now();
        if (left <= 0) {
            struct error *err = top->paused ? NULL : take_sample(top);
            if (err)
                return err;
            top->count -= !top->paused && top->samples.before;
            due = seconds_now() + top->interval_s;
        }
        draw(top);
        left = due - seconds_now();
        if (!take_key(top, terminal_read_key(left > 0 ? (int)(left * 1000) + 1 : 0)))
            return NULL;
    }
    return NULL;
}

static struct error *run_top(struct top *top)
{
    if (top->batch)
        return run_batch(top);
    if (!terminal_begin())
        return error_new("top: this is no terminal; use --batch or --once");
    struct error *err = run_live(top);
    terminal_end();
    return err;
}

/* Options --------------------------------------------------------------------------------------------------------- */

static bool parse_order(const char *name, enum top_order *order)
{
    for (unsigned i = 0; i < TOP_ORDERS; i++) {
        if (strcmp(top_order_name(i), name) == 0) {
            *order = i;
            return true;
        }
    }
    return false;
}

static int take_option(struct top *top, int option, const char *value)
{
    if (option == '?')
        return EXIT_USAGE;
    top->batch |= option == 'b' || option == '1';
    top->view.show_clients |= option == 'c';
    top->view.show_commands |= option == 'm';
    top->view.hide_idle |= option == 'z';
    if (option == '1')
        top->count = 1;
    if (option == 'i' && (!seconds_parse(value, &top->interval_s) || top->interval_s > INTERVAL_MAX_S ||
                          top->interval_s < SECONDS_INTERVAL_MIN))
        return cli_usage("top: the interval is from %g to %g seconds, not '%s'", SECONDS_INTERVAL_MIN, INTERVAL_MAX_S,
                         value);
    if (option == 'n' && !size_parse(value, &top->count))
        return cli_usage("top: '%s' is no number", value);
    if (option == 's' && !parse_order(value, &top->view.order))
        return cli_usage("top: sorted by 'iops', 'bandwidth', 'latency', 'queue' or 'name', not '%s'", value);
    if (option == 'C' && !terminal_set_color(value))
        return cli_usage("top: colours are 'auto', 'always' or 'never', not '%s'", value);
    return EXIT_OK;
}

static int top_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        { "batch", no_argument, NULL, 'b' },       { "once", no_argument, NULL, '1' },
        { "count", required_argument, NULL, 'n' }, { "interval", required_argument, NULL, 'i' },
        { "sort", required_argument, NULL, 's' },  { "clients", no_argument, NULL, 'c' },
        { "commands", no_argument, NULL, 'm' },    { "hide-idle", no_argument, NULL, 'z' },
        { "color", required_argument, NULL, 'C' }, { 0 },
    };
    struct top top = {
        .client = cli->client, .interval_s = INTERVAL_S, .count = UINT64_MAX, .view.columns = BATCH_COLUMNS
    };

    for (int option; (option = getopt_long(argc, argv, "b1n:i:s:cmz", options, NULL)) != -1;) {
        int status = take_option(&top, option, optarg);
        if (status != EXIT_OK)
            return status;
    }
    if (optind != argc)
        return cli_usage("top: '%s' is too much", argv[optind]);
    struct error *err = run_top(&top);
    top_samples_fini(&top.samples);
    job_rates_fini(&top.rates);
    return err ? cli_fail(cli, err) : EXIT_OK;
}

const struct subcommand top_subcommand = {
    .name = "top",
    .arguments = "[OPTION]...",
    .summary = "watch exports, nodes and jobs: requests, bandwidth, latency, queue",
    .help = "Live on a terminal (h shows the keys), or as text.\n"
            "\n"
            "  -i, --interval SECONDS   how often to look (default: 1)\n"
            "  -s, --sort KEY           iops (the default), bandwidth, latency, queue or name\n"
            "  -c, --clients            the clients of each export too\n"
            "  -m, --commands           commands too\n"
            "  -z, --hide-idle          only what does something\n"
            "  -1, --once               one picture as text, of one interval\n"
            "  -b, --batch              one after the other as text\n"
            "  -n, --count NUMBER       end after so many\n"
            "      --color WHEN         auto (the default), always, never\n"
            "\n"
            "A client of an export has its age for a detail, and all its requests in one column.\n"
            "\n"
            "Columns: QUEUE are requests inside the node or export right now, those that wait for nodes below it\n"
            "included; OTHER are flushes and discards; P50 and P99 are the times within which half and 99 percent of\n"
            "reads and writes ended, off by a fifth at most. Time is taken where requests enter, so nodes that only\n"
            "other nodes use show none.\n",
    .run = top_run,
};
