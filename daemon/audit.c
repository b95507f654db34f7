#include "daemon/audit.h"

#include "blockcore/base/arena.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/pool.h"
#include "blockcore/runtime/sync.h"
#include "daemon/audit_sink.h"
#include "daemon/log.h"
#include "schema/cairn_commands.h"
#include "schema/codec/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000u

/* Lines that wait, and the batch that is being written: the writer's while it writes, which is why both exist. */
static struct {
    const struct audit_options *options; /* NULL: there is no log */
    const char *destination;
    struct audit_sink *sink;
    struct pool_domain *domain;
    struct text queue;
    uint64_t queued;
    struct text batch;
    uint64_t batched;
    size_t batch_done;  /* bytes of it that were written */
    uint64_t oldest_ns; /* when the oldest line that waits came */
    uint64_t written;
    uint64_t lost;
    uint64_t lost_untold; /* since the log was told last */
    int problem;          /* -errno of the last attempt; 0: it went well */
    bool writing;         /* the coroutine is there */
    bool ending;
    struct co_queue changed; /* the control thread's */
} audit;

struct error *audit_check(const struct audit_options *options)
{
    if ((options->path != NULL) == (options->journal != NULL))
        return error_new("one of 'path' and 'journal' must be given");
    return NULL;
}

struct error *audit_begin(const struct audit_options *options)
{
    struct error *err = audit_check(options);
    if (!err)
        err = audit_sink_create(options, &audit.sink);
    if (err)
        return err;
    audit.destination = options->path ? options->path : options->journal;
    audit.options = options;
    return NULL;
}

bool audit_is_on(void)
{
    return audit.options;
}

/* Failing ------------------------------------------------------------------------------------------------------- */

static bool refuses(void)
{
    return audit.options->on_failure == AUDIT_FAILURE_POLICY_REFUSE;
}

static bool is_full(void)
{
    return audit.queue.length + audit.batch.length > AUDIT_QUEUE_BYTES;
}

static bool is_late(void)
{
    return audit.queued + audit.batched > 0 && loop_now_ns() - audit.oldest_ns > AUDIT_LATE_MS * NS_PER_MS;
}

/* NULL: there is none. The caller frees it. */
static char *problem(void)
{
    if (audit.problem)
        return xstrdup(strerror(-audit.problem));
    if (is_full() || is_late())
        return xasprintf("it does not answer, %" PRIu64 " lines wait", audit.queued + audit.batched);
    return NULL;
}

struct error *audit_refuses(void)
{
    CLEANUP(free) char *why = refuses() ? problem() : NULL;
    if (!why)
        return NULL;
    return error_new("the audit log '%s' cannot be written (%s), and without it commands that change something are "
                     "refused (on-failure: refuse)",
                     audit.destination, why);
}

static void note_result(int ret)
{
    if (ret < 0 && ret != audit.problem)
        log_error("audit log '%s': %s; commands that change something are %s", audit.destination, strerror(-ret),
                  refuses() ? "refused" : "carried out all the same");
    if (ret == 0 && audit.problem)
        log_warning("audit log '%s': it can be written again", audit.destination);
    audit.problem = ret;
}

/* Writing ------------------------------------------------------------------------------------------------------- */

static int write_batch(void *arg)
{
    (void)arg;
    return audit_sink_write(audit.sink, audit.batch.data, audit.batch.length, &audit.batch_done);
}

static void time_over(void *arg)
{
    (void)arg;
    co_queue_wake_all(&audit.changed);
}

static void pause_after_failure(void) CO_FN;

static void pause_after_failure(void)
{
    struct timer *timer = timer_create_on_loop(time_over, NULL);
    timer_start(timer, AUDIT_RETRY_MS);
    co_queue_wait(&audit.changed, NULL, "the audit log");
    timer_destroy(timer);
}

static void take_batch(void)
{
    audit.batch = audit.queue;
    audit.batched = audit.queued;
    audit.batch_done = 0;
    audit.queue = (struct text){ 0 };
    audit.queued = 0;
}

static void end_batch(void)
{
    audit.written += audit.batched;
    audit.batched = 0;
    text_fini(&audit.batch);
    audit.oldest_ns = loop_now_ns();
}

static void write_lines(void *arg)
{
    (void)arg;
    while (audit.queued + audit.batched > 0) {
        if (audit.batched == 0)
            take_batch();
        note_result(co_blocking(audit.domain, write_batch, NULL));
        if (!audit.problem)
            end_batch();
        else if (audit.ending)
            break;
        else
            pause_after_failure();
    }
    audit.writing = false;
    co_queue_wake_all(&audit.changed);
}

static void begin_writing(void)
{
    if (audit.writing)
        return;
    if (!audit.domain) {
        audit.domain = pool_domain_create("audit log", 1);
        co_queue_init(&audit.changed);
    }
    audit.writing = true;
    co_start("audit log", write_lines, NULL);
}

/* Where lines are missing, one says how many. */
static void tell_of_loss(void)
{
    if (audit.lost_untold == 0)
        return;
    CLEANUP(free) char *line = xasprintf("{\"lost\": %" PRIu64 "}\n", audit.lost_untold);
    text_append_string(&audit.queue, line);
    audit.queued++;
    audit.lost_untold = 0;
}

static void lose(void)
{
    if (audit.lost_untold == 0)
        log_error("audit log '%s': lines are lost from now on, %d bytes wait already", audit.destination,
                  AUDIT_QUEUE_BYTES);
    audit.lost++;
    audit.lost_untold++;
}

void audit_write(const struct text *line)
{
    if (is_full()) {
        lose();
        return;
    }
    if (audit.queued + audit.batched == 0)
        audit.oldest_ns = loop_now_ns();
    tell_of_loss();
    text_append(&audit.queue, line->data, line->length);
    audit.queued++;
    begin_writing();
}

void audit_end(void)
{
    if (!audit.options)
        return;
    audit.ending = true;
    if (audit.domain)
        co_queue_wake_all(&audit.changed);
    while (audit.writing)
        co_queue_wait(&audit.changed, NULL, "the audit log");
    if (audit.queued + audit.batched > 0)
        log_error("audit log '%s': %" PRIu64 " lines were not written", audit.destination,
                  audit.queued + audit.batched);
    text_fini(&audit.queue);
    text_fini(&audit.batch);
    audit_sink_destroy(audit.sink);
    pool_domain_unref(audit.domain);
    if (audit.domain)
        co_queue_fini(&audit.changed);
    audit.options = NULL;
}

/* Told to clients ----------------------------------------------------------------------------------------------- */

struct error *handle_query_audit(struct command_context *context, struct audit_info *result)
{
    if (!audit.options)
        return error_new("there is no audit log (--audit, or 'audit' in the configuration)");
    CLEANUP(free) char *why = problem();
    *result = (struct audit_info){
        .destination = audit.destination,
        .on_failure = audit.options->on_failure,
        .written = audit.written,
        .waiting = audit.queued + audit.batched,
        .lost = audit.lost,
        .problem = why ? arena_strdup(command_arena(context), why) : NULL,
    };
    return NULL;
}
