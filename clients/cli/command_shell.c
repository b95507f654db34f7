#include "clients/cli/cli.h"
#include "clients/cli/completion.h"
#include "clients/cli/execute.h"
#include "clients/cli/print.h"
#include "clients/cli/words.h"

#include "blockcore/base/memory.h"

#include <editline/readline.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HISTORY_LINES 1000
#define PROMPT "cairn> "

/* libedit calls back without an argument, so the one shell of the process stands here. */
static struct shell {
    struct cli *cli;
    struct introspection *introspection;
    bool interactive;
    bool quit_was_last; /* "quit" ends the daemon: it has to be meant */
    bool done;
    int status;
} shell;

static void print_error(struct error *err)
{
    shell.status = EXIT_REFUSED;
    fprintf(stderr, "%s\n", error_message(err));
    error_free(err);
}

/* "string", "[int]", "raw | qcow2", ...: what a member wants, in short. */
static void print_type(const json_t *type, unsigned depth)
{
    const char *meta = type_meta(type);
    const json_t *value, *alternative;
    size_t i;

    if (type_json(type)) {
        printf("%s", type_json(type));
    } else if (strcmp(meta, "enum") == 0) {
        json_array_foreach(type_values(type), i, value) printf("%s%s", i ? "|" : "", json_string_value(value));
    } else if (strcmp(meta, "array") == 0) {
        putchar('[');
        print_type(type_element(shell.introspection, type), depth + 1);
        putchar(']');
    } else if (strcmp(meta, "alternate") == 0 && depth < 4) {
        for (i = 0; (alternative = type_alternative(shell.introspection, type, i)); i++) {
            printf("%s", i ? " or " : "");
            print_type(alternative, depth + 1);
        }
    } else {
        printf("%s", meta);
    }
}

static void print_command(const char *command)
{
    const json_t *type = introspection_arguments(shell.introspection, command);
    if (!type) {
        printf("there is no command '%s'\n", command);
        return;
    }
    CLEANUP(json_decref) json_t *names = type_member_names(shell.introspection, type, NULL);
    size_t i;
    const json_t *name;

    printf("%s\n", command);
    json_array_foreach(names, i, name)
    {
        printf("  %s: ", json_string_value(name));
        print_type(type_member(shell.introspection, type, NULL, json_string_value(name)), 0);
        putchar('\n');
    }
}

static void print_shell_help(const char *command)
{
    size_t i;
    const json_t *name;

    if (command) {
        print_command(command);
        return;
    }
    printf("COMMAND [JSON | KEY=VALUE]...   execute a command of the daemon\n"
           "help [COMMAND]                  this text, or the arguments of a command\n"
           "exit                            leave; the daemon goes on\n"
           "\n"
           "Commands of the daemon:\n");
    json_array_foreach(introspection_commands(shell.introspection), i, name) printf("  %s\n", json_string_value(name));
}

/* True when the line was meant for the shell itself. */
static bool run_builtin(const struct words *words)
{
    bool again = shell.quit_was_last;

    shell.quit_was_last = false;
    if (strcmp(words->items[0], "exit") == 0) {
        shell.done = true;
        return true;
    }
    if (strcmp(words->items[0], "help") == 0) {
        print_shell_help(words->count > 1 ? words->items[1] : NULL);
        return true;
    }
    if (strcmp(words->items[0], "quit") == 0 && shell.interactive && !again) {
        printf("'quit' ends the daemon: enter it again if you mean that. 'exit' leaves this shell.\n");
        shell.quit_was_last = true;
        return true;
    }
    return false;
}

static void run_line(const char *line)
{
    CLEANUP(words_fini) struct words words;
    struct error *err = words_split(line, &words);
    if (err) {
        print_error(err);
        return;
    }
    if (words.count == 0 || words.items[0][0] == '#' || run_builtin(&words))
        return;

    CLEANUP(json_decref) json_t *result = NULL;
    err = execute_words(shell.cli->client, &shell.introspection, words.count, words.items, &result);
    if (client_is_broken(shell.cli->client)) {
        shell.done = true;
        shell.status = err ? cli_fail(shell.cli, err) : EXIT_OK;
        return;
    }
    if (err) {
        print_error(err);
        return;
    }
    print_json(result, PRINT_INDENTED);
    putchar('\n');
    fflush(stdout);
}

/* Prints the events that are there, above the line that is being typed. */
static struct error *print_events(void)
{
    bool printed = false;

    for (;;) {
        CLEANUP(json_decref) json_t *event = NULL;
        struct error *err = client_next_event(shell.cli->client, 0, &event);
        if (err || !event) {
            if (printed && shell.interactive)
                rl_forced_update_display();
            return err;
        }
        if (shell.interactive && !printed)
            printf("\r\033[K");
        printed = true;
        print_json(event, PRINT_COMPACT);
        putchar('\n');
        fflush(stdout);
    }
}

/* Interactive ------------------------------------------------------------------------------------------------------ */

static char *next_candidate(const char *text, int state)
{
    static json_t *candidates;
    static size_t next;

    (void)text;
    if (state == 0) {
        CLEANUP(free) char *line = xstrndup(rl_line_buffer, (size_t)rl_point);
        json_decref(candidates);
        candidates = completion_candidates(shell.introspection, line);
        next = 0;
    }
    const char *candidate = json_string_value(json_array_get(candidates, next++));
    if (candidate)
        return xstrdup(candidate);
    json_decref(steal(&candidates));
    return NULL;
}

static char **complete(const char *text, int start, int end)
{
    (void)start;
    (void)end;
    rl_attempted_completion_over = 1; /* no file names */
    char **matches = rl_completion_matches(text, next_candidate);
    /* libedit puts what all matches begin with in front of them, also when there is only one. */
    const char *only = matches && (!matches[1] || !matches[2]) ? matches[0] : "";
    size_t length = strlen(only);
    bool goes_on = length > 0 && (only[length - 1] == '=' || only[length - 1] == '.');
    rl_completion_append_character = goes_on ? '\0' : ' ';
    return matches;
}

static void line_entered(char *line)
{
    if (!line) { /* end of input */
        putchar('\n');
        shell.done = true;
        return;
    }
    if (*line)
        add_history(line);
    run_line(line);
    free(line);
    if (!shell.done) /* libedit has left the terminal's raw mode for the length of this call */
        rl_callback_handler_install(PROMPT, line_entered);
}

static struct error *wait_for_input(void)
{
    struct pollfd pollfds[] = {
        { .fd = STDIN_FILENO, .events = POLLIN },
        { .fd = client_fd(shell.cli->client), .events = POLLIN },
    };

    if (poll(pollfds, ARRAY_SIZE(pollfds), -1) < 0)
        return errno == EINTR ? NULL : error_errno(errno, "cannot wait for input");
    if (pollfds[0].revents)
        rl_callback_read_char();
    return shell.done ? NULL : print_events();
}

static struct error *run_interactive(void)
{
    const char *home = getenv("HOME");
    CLEANUP(free) char *history = home ? xasprintf("%s/.cairnctl_history", home) : NULL;
    struct error *err = NULL;

    rl_readline_name = (char *)(uintptr_t) "cairnctl";
    rl_initialize();
    rl_basic_word_break_characters = " \t"; /* "key=" and the value are one word */
    rl_attempted_completion_function = complete;
    using_history();
    stifle_history(HISTORY_LINES);
    if (history)
        read_history(history);
    printf("connected to %s; 'help' lists the commands, Tab completes, 'exit' leaves\n", shell.cli->socket);
    rl_callback_handler_install(PROMPT, line_entered);
    while (!shell.done && !err)
        err = wait_for_input();
    rl_callback_handler_remove();
    if (history)
        write_history(history);
    return err;
}

/* From a file or a pipe -------------------------------------------------------------------------------------------- */

static void run_script(void)
{
    CLEANUP(free) char *line = NULL;
    size_t capacity = 0;

    while (!shell.done && getline(&line, &capacity, stdin) >= 0)
        run_line(line);
}

static int shell_run(struct cli *cli, int argc, char **argv)
{
    if (argc > 1)
        return cli_usage("shell: '%s' is too much", argv[1]);

    shell = (struct shell){ .cli = cli, .interactive = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) };
    struct error *err = introspection_load(cli->client, &shell.introspection);
    if (!err && shell.interactive)
        err = run_interactive();
    else if (!err)
        run_script();
    introspection_free(shell.introspection);
    return err ? cli_fail(cli, err) : shell.status;
}

const struct subcommand shell_subcommand = {
    .name = "shell",
    .arguments = "",
    .summary = "enter commands one by one, with history and completion",
    .help = "Each line is a command as after 'cairnctl call'. Tab completes commands, members and values; events\n"
            "are printed as they come. The history is kept in ~/.cairnctl_history. From a pipe or a file, lines\n"
            "are executed one after the other; the exit status is 1 if one of them failed.\n",
    .run = shell_run,
};
