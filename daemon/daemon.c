#include "daemon/daemon.h"
#include "daemon/audit.h"
#include "daemon/authz_file.h"

#include "blockcore/base/memory.h"
#include "blockcore/base/trace.h"
#include "blockcore/graph/node.h"
#include "blockcore/net/listen.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/loop_uv.h"
#include "blockcore/runtime/pool.h"
#include "daemon/black_box.h"
#include "daemon/chardev.h"
#include "daemon/daemonize.h"
#include "daemon/events.h"
#include "daemon/image_policy.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/monitor.h"
#include "daemon/node_options.h"
#include "daemon/options.h"
#include "daemon/pidfile.h"
#include "daemon/policy.h"
#include "daemon/reconcile/reconcile.h"
#include "daemon/sandbox.h"
#include "daemon/service_manager.h"
#include "daemon/shutdown.h"
#include "daemon/trace.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"
#include "schema/cairn_descriptors.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

static const struct version_triple qemu_version = { .major = 10 };
const struct version_info daemon_version = { .qemu = &qemu_version, .package = "cairn " CAIRN_VERSION };

static const int ending_signals[] = { SIGTERM, SIGINT, SIGHUP };

static struct {
    const struct options *options;
    struct rpc_server *server;
    struct pidfile *pidfile;
    uv_signal_t signals[ARRAY_SIZE(ending_signals)];
    unsigned signals_open;
    struct co_event signals_closed;
    uint64_t begin_ns;
    bool ending;
    struct co_event shall_end;
    int status;
} the_daemon;

struct rpc_server *daemon_rpc_server(void)
{
    return the_daemon.server;
}

uint64_t daemon_begin_ns(void)
{
    return the_daemon.begin_ns;
}

void daemon_quit(void)
{
    if (the_daemon.ending)
        return;
    the_daemon.ending = true;
    reconcile_end();
    node_open_give_up();
    TRACE(daemon_state, "ending");
    service_stopping();
    rpc_server_stop(the_daemon.server);
    shutdown_start_clock(the_daemon.server, &the_daemon.pidfile);
    chardevs_wait_for_nobody();
    co_event_set(&the_daemon.shall_end);
}

/* Signals ----------------------------------------------------------------------------------------------------- */

static void on_signal(uv_signal_t *handle, int signum)
{
    (void)handle;
    if (signum == SIGHUP && reconcile_again())
        return;
    log_about(LOG_LEVEL_INFO, &(struct log_about){ .message_id = LOG_ID_ENDING }, "ending on signal %d", signum);
    daemon_quit();
}

static void on_signal_closed(uv_handle_t *handle)
{
    (void)handle;
    if (--the_daemon.signals_open == 0)
        co_event_set(&the_daemon.signals_closed);
}

static void watch_signals(void)
{
    co_event_init(&the_daemon.signals_closed);
    for (size_t i = 0; i < ARRAY_SIZE(ending_signals); i++) {
        uv_signal_init(loop_uv(loop_control()), &the_daemon.signals[i]);
        uv_signal_start(&the_daemon.signals[i], on_signal, ending_signals[i]);
        the_daemon.signals_open++;
    }
}

static void CO_FN unwatch_signals(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(ending_signals); i++)
        uv_close((uv_handle_t *)&the_daemon.signals[i], on_signal_closed);
    co_event_wait(&the_daemon.signals_closed, "signals");
}

/* Life -------------------------------------------------------------------------------------------------------- */

static void log_rpc(enum log_level level, const struct rpc_about *about, const char *message)
{
    const struct log_about fields = {
        .client = about->client,
        .command = about->command,
        .command_id = about->command_id,
    };
    log_about(level, &fields, "%s", message);
}

static void log_from_rpc(void *arg, const struct rpc_about *about, const char *message)
{
    (void)arg;
    log_rpc(LOG_LEVEL_WARNING, about, message);
}

static void trace_from_rpc(void *arg, const struct rpc_about *about, const char *line)
{
    (void)arg;
    log_rpc(LOG_LEVEL_DEBUG, about, line);
}

void daemon_trace_commands(bool trace)
{
    rpc_server_set_trace(the_daemon.server, trace ? trace_from_rpc : NULL);
}

static void begin(void)
{
    the_daemon.begin_ns = loop_now_ns();
    co_event_init(&the_daemon.shall_end);
    node_options_begin();
    reconcile_begin(the_daemon.options);
    authz_file_begin();
    the_daemon.server = rpc_server_create(&(struct rpc_server_options){
        .limits = limits_of_rpc(),
        .commands = &cairn_commands,
        .version_type = &version_info_descriptor,
        .version = &daemon_version,
        .log = log_from_rpc,
        .audit = audit_is_on() ? audit_write : NULL,
        .audit_refuses = audit_refuses,
    });
    daemon_trace_commands(log_shows(LOG_LEVEL_DEBUG));
    events_send_to(rpc_server_events(the_daemon.server));
    watch_signals();
    service_watch_loops();
}

static struct error *CO_FN make_items(const struct options *options)
{
    for (size_t i = 0; i < options->count && !the_daemon.ending; i++) {
        struct error *err = option_item_add(&options->items[i]);
        if (err)
            return err;
    }
    return NULL;
}

static int create_pidfile(void *arg)
{
    struct error **err = arg;
    *err = pidfile_create(the_daemon.options->pidfile, &the_daemon.pidfile);
    return 0;
}

static struct error *CO_FN take_pidfile(const struct options *options)
{
    struct error *err = NULL;
    if (!options->pidfile)
        return NULL;
    (void)co_blocking(NULL, create_pidfile, &err);
    return error_wrap(err, "cannot create PID file");
}

/* In a coroutine of its own: an open that hangs is cancelled when the daemon shall end, while the rest goes on. */
struct starting {
    const struct options *options;
    struct error *err;
    struct co_event over;
};

static void CO_FN start_up(void *arg)
{
    struct starting *starting = arg;
    starting->err = make_items(starting->options);
    co_event_set(&starting->over);
}

static struct error *CO_FN make_all(const struct options *options)
{
    struct starting starting = { .options = options };
    co_event_init(&starting.over);
    co_start("what the command line asks for", start_up, &starting);
    co_event_wait(&starting.over, "what the command line asks for");
    return starting.err;
}

static struct error *CO_FN become_ready(const struct options *options)
{
    struct error *err = options->metrics ? error_wrap(metrics_start(options->metrics), "metrics") : NULL;
    if (!err)
        err = make_all(options);
    if (!err)
        err = take_pidfile(options);
    listen_begin_service();
    reconcile_allow();
    if (!err && !the_daemon.ending)
        err = daemonize_ready();
    if (!err && !the_daemon.ending) {
        TRACE(daemon_state, "ready");
        log_about(LOG_LEVEL_INFO, &(struct log_about){ .message_id = LOG_ID_READY }, "in service");
        service_ready();
    }
    return err;
}

static void CO_FN live(void *arg)
{
    const struct options *options = arg;
    begin();
    struct error *err = become_ready(options);
    if (err && the_daemon.ending) {
        log_info("ended while it started: %s", error_message(err));
        error_free(err);
    } else if (err) {
        log_error("%s", error_message(err));
        error_free(err);
        the_daemon.status = EXIT_FAILURE;
        daemon_quit();
    }
    co_event_wait(&the_daemon.shall_end, "end of the daemon");
    shutdown_run(the_daemon.server);
    if (events_data_lost())
        the_daemon.status = EXIT_FAILURE;
    audit_end();
    monitors_remove();
    pidfile_remove(the_daemon.pidfile);
    unwatch_signals();
    service_end();
    shutdown_stop_clock();
}

/* The files of the configuration are read again when it is applied. */
static struct error *confine(const struct options *options)
{
    const char *files[] = { options->pidfile, options->audit ? options->audit->path : NULL, trace_path(),
                            options->metrics ? metrics_path(options->metrics) : NULL };
    const char **readable = xcalloc(options->count + 1, sizeof(*readable));
    struct sandbox_needs needs = {
        .files = files,
        .files_count = ARRAY_SIZE(files),
        .readable = readable,
        .socket = options->metrics ? metrics_path(options->metrics) : NULL,
    };
    struct error *missing = NULL;
    for (size_t i = 0; i < options->count; i++) {
        if (options->items[i].config)
            readable[needs.readable_count++] = options->items[i].text;
    }
    struct error *err = sandbox_begin(options->sandbox, policy_paths(), &needs, &missing);
    if (missing)
        log_warning("the sandbox is not complete: %s", error_message(missing));
    error_free(missing);
    free(readable);
    return error_wrap(err, "sandbox");
}

/* Before there is a second thread. */
static struct error *begin_guards(const struct options *options)
{
    struct error *err = options->image_policy ? image_policy_begin(options->image_policy) : NULL;
    limits_begin(options->limits);
    if (!err)
        err = error_wrap(policy_begin(options->policy, options->limits), "policy");
    if (!err && options->audit)
        err = error_wrap(audit_begin(options->audit), "audit");
    return err || !options->sandbox ? err : confine(options);
}

/* Threads hang in calls whose results nobody wants. What exit(3) would take down may be in use by them. */
static void NORETURN end_with_threads(unsigned threads)
{
    log_warning("storage did not answer: %u %s left behind", threads,
                threads == 1 ? "call to open or read it was" : "calls to open or read it were");
    (void)fflush(NULL);
    _exit(the_daemon.status);
}

int daemon_run(const struct options *options)
{
    the_daemon.options = options;
    black_box_install();
    service_begin();
    struct error *err = begin_guards(options);
    if (!err)
        err = trace_begin();
    if (!err)
        err = runtime_start(&(struct runtime_options){ .io_loops = options->io_threads });
    if (err) {
        log_error("%s", error_message(err));
        error_free(err);
        return EXIT_FAILURE;
    }
    runtime_run_coroutine("daemon", live, (void *)(uintptr_t)options);
    unsigned left = runtime_stop(false);
    trace_end();
    if (left > 0)
        end_with_threads(left);
    return the_daemon.status;
}
