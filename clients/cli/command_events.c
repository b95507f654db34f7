#include "clients/cli/cli.h"
#include "clients/cli/json_get.h"
#include "clients/cli/print.h"
#include "clients/cli/size.h"
#include "clients/cli/terminal.h"

#include <fnmatch.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MS_PER_SECOND 1000
#define NS_PER_MS 1000000
#define US_PER_SECOND 1000000

struct choice {
    int count;
    char *const *patterns; /* none: all events */
};

static bool is_wanted(const char *name, struct choice choice)
{
    for (int i = 0; i < choice.count; i++)
        if (fnmatch(choice.patterns[i], name, 0) == 0)
            return true;
    return choice.count == 0;
}

/* "2026-11-23 09:30:00.123456" of this machine's clock. Daemons that cannot tell the time say -1. */
static void print_time(const json_t *event)
{
    const json_t *timestamp = json_object_get(event, "timestamp");
    time_t seconds = (time_t)json_integer_value(json_object_get(timestamp, "seconds"));
    struct tm local;
    char text[32];

    if (localtime_r(&seconds, &local) && strftime(text, sizeof(text), "%F %T", &local) > 0)
        printf("%s.%06u  ", text, (unsigned)(get_number(timestamp, "microseconds") % US_PER_SECOND));
}

static void print_human(const json_t *event)
{
    const json_t *data = json_object_get(event, "data");
    const char *name = get_text(event, "event");

    terminal_color(stdout, COLOR_FAINT);
    print_time(event);
    terminal_color(stdout, COLOR_NONE);
    terminal_color(stdout, COLOR_BOLD);
    terminal_put(stdout, name, terminal_width(name), ALIGN_LEFT);
    terminal_color(stdout, COLOR_NONE);
    if (json_object_size(data) > 0) {
        fputs("  ", stdout);
        print_json(data, PRINT_COMPACT);
    }
    putchar('\n');
}

static void print_line(const json_t *event)
{
    print_json(event, PRINT_COMPACT);
    putchar('\n');
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MS_PER_SECOND + (uint64_t)now.tv_nsec / NS_PER_MS;
}

/* For client_next_event(). */
static int left_ms(uint64_t end_ms)
{
    uint64_t now = now_ms();
    if (end_ms == UINT64_MAX)
        return -1;
    if (now >= end_ms)
        return 0;
    return end_ms - now < INT32_MAX ? (int)(end_ms - now) : INT32_MAX;
}

struct request {
    void (*print)(const json_t *event);
    bool counted;     /* a number of them is wanted */
    uint64_t count;   /* events that are still to come */
    uint64_t seconds; /* UINT64_MAX: any time */
};

/* Prints it if it is wanted. False: the reader has seen enough. */
static bool show(struct request *request, struct choice choice, const json_t *event)
{
    if (!event || !is_wanted(get_text(event, "event"), choice))
        return true;
    request->print(event);
    request->count--;
    return fflush(stdout) == 0;
}

static int follow(struct cli *cli, struct request *request, struct choice choice)
{
    uint64_t end_ms = request->seconds == UINT64_MAX ? UINT64_MAX : now_ms() + request->seconds * MS_PER_SECOND;

    while (request->count > 0) {
        CLEANUP(json_decref) json_t *event = NULL;
        struct error *err = client_next_event(cli->client, left_ms(end_ms), &event);
        if (err)
            return cli_fail(cli, err);
        if (!show(request, choice, event))
            return EXIT_OK;
        if (request->count > 0 && left_ms(end_ms) == 0)
            return request->counted ? EXIT_REFUSED : EXIT_OK;
    }
    return EXIT_OK;
}

static int events_run(struct cli *cli, int argc, char **argv)
{
    static const struct option options[] = {
        { "count", required_argument, NULL, 'n' },
        { "output", required_argument, NULL, 'o' },
        { "timeout", required_argument, NULL, 't' },
        { "color", required_argument, NULL, 'c' },
        { 0 },
    };
    struct request request = { .print = print_line, .count = UINT64_MAX, .seconds = UINT64_MAX };

    for (int option; (option = getopt_long(argc, argv, "+n:o:t:", options, NULL)) != -1;) {
        if (option == '?')
            return EXIT_USAGE;
        if (option == 'n' && !size_parse(optarg, &request.count))
            return cli_usage("events: '%s' is no number", optarg);
        request.counted |= option == 'n';
        if (option == 't' && (!size_parse(optarg, &request.seconds) || request.seconds > UINT32_MAX))
            return cli_usage("events: '%s' is no number of seconds", optarg);
        if (option == 'o' && strcmp(optarg, "json") != 0 && strcmp(optarg, "human") != 0)
            return cli_usage("events: the output is 'json' or 'human', not '%s'", optarg);
        if (option == 'o')
            request.print = strcmp(optarg, "human") == 0 ? print_human : print_line;
        if (option == 'c' && !terminal_set_color(optarg))
            return cli_usage("events: colours are 'auto', 'always' or 'never', not '%s'", optarg);
    }
    return follow(cli, &request, (struct choice){ argc - optind, argv + optind });
}

const struct subcommand events_subcommand = {
    .name = "events",
    .arguments = "[OPTION]... [EVENT]...",
    .summary = "print events as they come, one in a line",
    .help = "With names, only these events; '*' stands for anything in a name. Ends when the daemon does.\n"
            "\n"
            "  -n, --count COUNT        end after so many\n"
            "  -t, --timeout SECONDS    end after that time; exit status 1 if --count were not there by then\n"
            "  -o, --output FORMAT      json (an object in each line, the default), or human (time, name, data)\n"
            "      --color WHEN         auto (the default), always, never\n"
            "\n"
            "Example:\n"
            "  cairnctl events -o human 'JOB_*' BLOCK_EXPORT_DELETED\n",
    .run = events_run,
};
