/* The life of a job, and who may change it when. */
#include "tests/unit/runtime/co_test.h"

#include "blockcore/jobs/job.h"
#include "blockcore/runtime/sync.h"

#include <errno.h>
#include <string.h>

static void expect_success(struct error *err)
{
    if (err) {
        print_error("unexpected error: %s\n", error_message(err));
        abort();
    }
}

static void expect_error(struct error *err, const char *message)
{
    expect(err);
    expect_text(error_message(err), message);
    expect_int(error_get_class(err), ERROR_GENERIC);
    error_free(err);
}

/* The table of QMP, drawn once more: row by row from undefined to null. */
static void jobs_move_by_the_table(void **state)
{
    (void)state;
    static const char *const table[JOB_STATUS__MAX] = {
        /*              UCRPYSWDXEN */
        /* undefined */ "01000000000",
        /* created   */ "00100000101",
        /* running   */ "00011010100",
        /* paused    */ "00100000000",
        /* ready     */ "00000110100",
        /* standby   */ "00001000000",
        /* waiting   */ "00000001100",
        /* pending   */ "00000000110",
        /* aborting  */ "00000000110",
        /* concluded */ "00000000001",
        /* null      */ "00000000000",
    };
    for (unsigned from = 0; from < JOB_STATUS__MAX; from++) {
        for (unsigned to = 0; to < JOB_STATUS__MAX; to++)
            assert_int_equal(job_may_move(from, to), table[from][to] == '1');
    }
}

static void verbs_are_accepted_by_the_table(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *accepted;
    } table[JOB_VERB_COUNT] = {
        /*                        UCRPYSWDXEN */
        [JOB_VERB_CANCEL] = { "cancel", "01111111000" },     [JOB_VERB_PAUSE] = { "pause", "01111100000" },
        [JOB_VERB_RESUME] = { "resume", "01111100000" },     [JOB_VERB_SET_SPEED] = { "set-speed", "01111100000" },
        [JOB_VERB_COMPLETE] = { "complete", "00001000000" }, [JOB_VERB_FINALIZE] = { "finalize", "00000001000" },
        [JOB_VERB_DISMISS] = { "dismiss", "00000000010" },   [JOB_VERB_CHANGE] = { "change", "01111100000" },
    };
    for (unsigned verb = 0; verb < JOB_VERB_COUNT; verb++) {
        assert_string_equal(job_verb_name(verb), table[verb].name);
        for (unsigned status = 0; status < JOB_STATUS__MAX; status++)
            assert_int_equal(job_accepts(status, verb), table[verb].accepted[status] == '1');
    }
}

/* A job that does what the test tells it, step by step ------------------------------------------------------------ */

struct worker {
    struct co_queue steps;
    unsigned allowed; /* steps that it may take */
    unsigned taken;
    unsigned last; /* step after which it is done */
    bool becomes_ready;
    const char *fails;
    const char *prepare_fails;
};

static void wait_for_step(struct job *job)
{
    struct worker *worker = job_state(job);
    while (worker->taken == worker->allowed && !job_is_cancelled(job))
        co_queue_wait(&worker->steps, NULL, "a step");
}

static struct error *work(struct job *job)
{
    struct worker *worker = job_state(job);
    while (job_go_on(job) && worker->taken < worker->last) {
        wait_for_step(job);
        worker->taken++;
        job_progress_add(job, 10);
    }
    if (worker->fails)
        return error_new("%s", worker->fails);
    if (worker->becomes_ready && !job_is_cancelled(job))
        job_become_ready(job);
    while (worker->becomes_ready && job_go_on(job) && !job_shall_complete(job) && !job_shall_end(job))
        co_queue_wait(&worker->steps, NULL, "to be completed");
    return NULL;
}

static void wake(struct job *job)
{
    struct worker *worker = job_state(job);
    co_queue_wake_all(&worker->steps);
}

static struct error *prepare(struct job *job)
{
    struct worker *worker = job_state(job);
    note("prepare");
    return worker->prepare_fails ? error_new("%s", worker->prepare_fails) : NULL;
}

static void finish(struct job *job, bool success)
{
    (void)job;
    note(success ? "commit" : "abort");
}

static void fini(struct job *job)
{
    struct worker *worker = job_state(job);
    co_queue_fini(&worker->steps);
    note("fini");
}

static const struct job_driver worker_driver = {
    .type = JOB_TYPE_MIRROR,
    .state_size = sizeof(struct worker),
    .run = work,
    .wake = wake,
    .prepare = prepare,
    .finish = finish,
    .fini = fini,
};

static void on_event(const struct job *job, const struct job_event *event, void *arg)
{
    (void)job;
    (void)arg;
    static const char *const names[] = {
        [JOB_EVENT_READY] = "READY",         [JOB_EVENT_PENDING] = "PENDING",   [JOB_EVENT_COMPLETED] = "COMPLETED",
        [JOB_EVENT_CANCELLED] = "CANCELLED", [JOB_EVENT_IO_ERROR] = "IO_ERROR",
    };
    if (event->kind == JOB_EVENT_STATUS)
        note(job_status_name(event->status));
    else if (job_get_driver(job)->is_block_job)
        note(names[event->kind]);
}

static void speed_changed(struct job *job)
{
    (void)job;
    note("speed");
}

/* The same, as clients of block jobs see it. */
static const struct job_driver block_worker_driver = {
    .type = JOB_TYPE_MIRROR,
    .state_size = sizeof(struct worker),
    .is_block_job = true,
    .may_end_ready = true,
    .run = work,
    .wake = wake,
    .speed_changed = speed_changed,
    .prepare = prepare,
    .finish = finish,
    .fini = fini,
};

static struct job *make(const struct job_driver *driver, const char *id, unsigned flags, struct job_txn *txn,
                        struct worker like)
{
    struct job *job;
    job_set_listener(on_event, NULL);
    expect_success(job_create(driver, id, flags, txn, &job));
    struct worker *worker = job_state(job);
    *worker = like;
    co_queue_init(&worker->steps);
    return job;
}

static struct job *make_job(const char *id, unsigned flags, struct worker like)
{
    return make(&worker_driver, id, flags, NULL, like);
}

static struct job *make_block_job(const char *id, unsigned flags, struct worker like)
{
    return make(&block_worker_driver, id, flags, NULL, like);
}

static void let_step(struct job *job, unsigned steps)
{
    struct worker *worker = job_state(job);
    worker->allowed += steps;
    co_queue_wake_all(&worker->steps);
    co_yield ();
    co_yield ();
}

CO_TEST(a_job_runs_to_its_end_and_is_gone)
{
    struct job *job = make_job("job0", 0, (struct worker){ .last = 2 });
    expect_text(noted(), "created");
    expect(job_find("job0") == job);
    expect_int(job_get_status(job), JOB_STATUS_CREATED);
    job_start(job);
    expect_text(noted(), "running");
    job_progress_add_total(job, 20);
    let_step(job, 1);
    expect_int(job_progress_current(job), 10);
    expect_int(job_progress_total(job), 20);
    let_step(job, 1);
    expect_text(noted(), "waiting pending prepare commit concluded null fini");
    expect(!job_find("job0") && !job_next(NULL));
}

CO_TEST(a_job_waits_to_be_finalized_and_dismissed_when_told_so)
{
    struct job *job = make_job("job0", JOB_MANUAL_FINALIZE | JOB_MANUAL_DISMISS, (struct worker){ 0 });
    job_start(job);
    expect_text(noted(), "created running waiting pending");
    expect_error(job_dismiss(job), "Job 'job0' in state 'pending' cannot accept command verb 'dismiss'");
    expect_success(job_finalize(job));
    co_yield ();
    expect_text(noted(), "prepare commit concluded");
    expect_error(job_finalize(job), "Job 'job0' in state 'concluded' cannot accept command verb 'finalize'");
    expect_error(job_cancel(job, false), "Job 'job0' in state 'concluded' cannot accept command verb 'cancel'");
    expect_success(job_dismiss(job));
    expect_text(noted(), "null fini");
}

CO_TEST(a_job_that_fails_aborts_and_keeps_its_error)
{
    struct job *job = make_job("job0", JOB_MANUAL_DISMISS, (struct worker){ .fails = "the disk is full" });
    job_start(job);
    expect_text(noted(), "created running aborting abort concluded");
    expect_text(error_message(job_error(job)), "the disk is full");
    expect_success(job_dismiss(job));
    noted();
}

CO_TEST(a_job_can_fail_in_its_last_step)
{
    struct job *job = make_job("job0", JOB_MANUAL_DISMISS, (struct worker){ .prepare_fails = "the graph has changed" });
    job_start(job);
    expect_text(noted(), "created running waiting pending prepare aborting abort concluded");
    expect_text(error_message(job_error(job)), "the graph has changed");
    expect_success(job_dismiss(job));
    noted();
}

CO_TEST(a_paused_job_does_nothing_until_it_is_resumed)
{
    struct job *job = make_job("job0", 0, (struct worker){ .last = 2 });
    job_start(job);
    expect_error(job_resume(job), "Can't resume a job that was not paused");
    expect_success(job_pause(job));
    expect_error(job_pause(job), "Job is already paused");
    /* It pauses at the next place where it can. */
    expect_text(noted(), "created running");
    let_step(job, 1);
    expect_text(noted(), "paused");
    let_step(job, 1);
    expect_int(job_progress_current(job), 10);
    expect_success(job_resume(job));
    co_yield ();
    expect_text(noted(), "running waiting pending prepare commit concluded null fini");
}

CO_TEST(a_job_that_is_ready_follows_until_it_is_completed)
{
    struct job *job = make_job("job0", 0, (struct worker){ .becomes_ready = true });
    job_start(job);
    expect_text(noted(), "created running ready");
    expect_success(job_pause(job));
    co_yield ();
    expect_text(noted(), "standby");
    expect_error(job_complete(job), "Job 'job0' in state 'standby' cannot accept command verb 'complete'");
    expect_success(job_resume(job));
    co_yield ();
    expect_text(noted(), "ready");
    expect_success(job_complete(job));
    co_yield ();
    expect_text(noted(), "waiting pending prepare commit concluded null fini");
}

CO_TEST(only_a_ready_job_can_be_completed)
{
    struct job *job = make_job("job0", 0, (struct worker){ .last = 1 });
    job_start(job);
    expect_error(job_complete(job), "Job 'job0' in state 'running' cannot accept command verb 'complete'");
    let_step(job, 1);
    noted();
}

CO_TEST(cancelling_ends_a_job_wherever_it_is)
{
    struct job *job = make_job("not-started", 0, (struct worker){ 0 });
    expect_success(job_cancel(job, false));
    expect_text(noted(), "created aborting concluded null fini");

    job = make_job("running", JOB_MANUAL_DISMISS, (struct worker){ .last = 5 });
    job_start(job);
    expect_success(job_cancel(job, false));
    co_yield ();
    expect_text(noted(), "created running aborting abort concluded");
    expect_text(error_message(job_error(job)), "the job was cancelled");
    expect_success(job_dismiss(job));
    noted();

    job = make_job("paused", 0, (struct worker){ .last = 5 });
    job_start(job);
    expect_success(job_pause(job));
    let_step(job, 1);
    expect_success(job_cancel(job, true));
    co_yield ();
    expect_text(noted(), "created running paused running aborting abort concluded null fini");

    job = make_job("pending", JOB_MANUAL_FINALIZE, (struct worker){ 0 });
    job_start(job);
    expect_success(job_cancel(job, false));
    co_yield ();
    expect_text(noted(), "created running waiting pending aborting abort concluded null fini");
}

CO_TEST(ids_are_unique)
{
    struct job *job = make_job("a-b_c.D1", 0, (struct worker){ 0 });
    struct job *other;
    expect_error(job_create(&worker_driver, "a-b_c.D1", 0, NULL, &other), "Job ID 'a-b_c.D1' already in use");
    expect_error(job_not_found(), "Job not found");
    expect_success(job_cancel(job, false));
    expect(!job_find("a-b_c.D1"));
    noted();
}

CO_TEST(jobs_are_listed_in_order)
{
    struct job *first = make_job("z", 0, (struct worker){ 0 });
    struct job *second = make_job("a", 0, (struct worker){ 0 });
    expect(job_next(NULL) == first && job_next(first) == second && !job_next(second));
    expect_success(job_cancel(first, false));
    expect(job_next(NULL) == second);
    expect_success(job_cancel(second, false));
    noted();
}

static void start_it(void *arg)
{
    co_yield ();
    job_start(arg);
}

/* Somebody else asks a job to end while its maker is still at work on it. */
CO_TEST(a_job_that_is_being_made_ends_when_it_is_started)
{
    struct job *job = make_job("job0", JOB_MANUAL_DISMISS, (struct worker){ .last = 5 });
    expect_success(job_cancel_from_outside(job, true));
    expect(job_find("job0") == job && job_get_status(job) == JOB_STATUS_CREATED);
    job_start(job);
    expect_text(noted(), "created running aborting abort concluded");
    expect_success(job_dismiss(job));
    noted();
}

CO_TEST(at_the_end_all_jobs_are_ended)
{
    co_start("maker", start_it, make_job("created", 0, (struct worker){ 0 }));
    job_start(make_job("running", JOB_MANUAL_DISMISS, (struct worker){ .last = 5 }));
    job_start(make_job("pending", JOB_MANUAL_FINALIZE, (struct worker){ 0 }));
    job_start(make_job("concluded", JOB_MANUAL_DISMISS, (struct worker){ 0 }));
    struct job *paused = make_job("paused", 0, (struct worker){ .last = 5 });
    job_start(paused);
    expect_success(job_pause(paused));
    job_end_all();
    expect(!job_next(NULL));
    noted();
}

static void start_another(void *arg)
{
    (void)arg;
    co_yield ();
    job_start(make_job("late", JOB_MANUAL_DISMISS, (struct worker){ .last = 5 }));
}

/* The second one is started while the end of the first one is awaited. */
CO_TEST(a_job_that_comes_at_the_end_is_ended_too)
{
    job_start(make_job("running", JOB_MANUAL_DISMISS, (struct worker){ .last = 5 }));
    co_start("late", start_another, NULL);
    job_end_all();
    expect(!job_next(NULL));
    noted();
}

/* Block jobs ------------------------------------------------------------------------------------------------------ */

CO_TEST(clients_of_block_jobs_hear_of_its_end_before_it_is_concluded)
{
    struct job *job = make_block_job("job0", JOB_MANUAL_FINALIZE, (struct worker){ .becomes_ready = true });
    job_start(job);
    expect_text(noted(), "created running ready READY");
    expect_success(job_complete(job));
    co_yield ();
    expect_text(noted(), "waiting pending PENDING");
    expect_success(job_finalize(job));
    co_yield ();
    expect_text(noted(), "prepare commit COMPLETED concluded null fini");
}

CO_TEST(a_ready_job_that_may_end_so_succeeds_when_it_is_cancelled_without_force)
{
    struct job *job = make_block_job("job0", 0, (struct worker){ .becomes_ready = true });
    job_start(job);
    noted();
    expect_success(job_cancel(job, false));
    co_yield ();
    expect_text(noted(), "waiting pending prepare commit COMPLETED concluded null fini");

    job = make_block_job("job0", 0, (struct worker){ .becomes_ready = true });
    job_start(job);
    noted();
    expect_success(job_cancel(job, true));
    co_yield ();
    expect_text(noted(), "aborting abort CANCELLED concluded null fini");

    job = make_block_job("job0", 0, (struct worker){ .becomes_ready = true });
    job_start(job);
    expect_success(job_pause(job));
    co_yield ();
    noted();
    expect_success(job_cancel(job, false));
    co_yield ();
    expect_text(noted(), "ready waiting pending prepare commit COMPLETED concluded null fini");
}

CO_TEST(a_job_that_is_not_ready_is_cancelled_also_without_force)
{
    struct job *job = make_block_job("job0", 0, (struct worker){ .last = 3, .becomes_ready = true });
    job_start(job);
    expect_success(job_cancel(job, false));
    co_yield ();
    expect_text(noted(), "created running aborting abort CANCELLED concluded null fini");
}

CO_TEST(the_speed_can_change_while_the_job_works)
{
    struct job *job = make_block_job("job0", JOB_MANUAL_DISMISS, (struct worker){ .last = 1 });
    expect_success(job_set_speed(job, 1000));
    job_start(job);
    expect_text(noted(), "created running");
    expect_success(job_set_speed(job, 2000));
    expect_text(noted(), "speed");
    expect_int(job_speed(job), 2000);
    expect_error(job_set_speed(job, -1), "speed: expected a non-negative value, found -1");
    expect_int(job_speed(job), 2000);
    let_step(job, 1);
    expect_error(job_set_speed(job, 1), "Job 'job0' in state 'concluded' cannot accept command verb 'set-speed'");
    expect_success(job_dismiss(job));
    noted();
}

CO_TEST(errors_of_storage_do_what_the_policy_says)
{
    static const struct {
        enum blockdev_on_error policy;
        int errnum;
        enum block_error_action action;
    } cases[] = {
        { BLOCKDEV_ON_ERROR_REPORT, EIO, BLOCK_ERROR_ACTION_REPORT },
        { BLOCKDEV_ON_ERROR_IGNORE, EIO, BLOCK_ERROR_ACTION_IGNORE },
        { BLOCKDEV_ON_ERROR_ENOSPC, EIO, BLOCK_ERROR_ACTION_REPORT },
        { BLOCKDEV_ON_ERROR_ENOSPC, ENOSPC, BLOCK_ERROR_ACTION_STOP },
        { BLOCKDEV_ON_ERROR_AUTO, EIO, BLOCK_ERROR_ACTION_REPORT },
        { BLOCKDEV_ON_ERROR_AUTO, ENOSPC, BLOCK_ERROR_ACTION_STOP },
        { BLOCKDEV_ON_ERROR_STOP, EIO, BLOCK_ERROR_ACTION_STOP },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct job *job = make_block_job("job0", 0, (struct worker){ .last = 2 });
        job_start(job);
        noted();
        bool stops = cases[i].action == BLOCK_ERROR_ACTION_STOP;
        expect_int(job_met_error(job, cases[i].policy, true, cases[i].errnum), cases[i].action);
        expect_text(noted(), "IO_ERROR");
        expect_int(job_is_paused(job), stops);
        expect_int(job_io_error(job), stops ? cases[i].errnum : 0);
        let_step(job, 1);
        expect_text(noted(), stops ? "paused" : "");
        if (stops)
            expect_success(job_resume(job));
        expect_int(job_io_error(job), 0);
        let_step(job, 1);
        expect_text(noted(), stops ? "running waiting pending prepare commit COMPLETED concluded null fini"
                                   : "waiting pending prepare commit COMPLETED concluded null fini");
    }
}

/* Transactions ---------------------------------------------------------------------------------------------------- */

struct pair {
    struct job *a;
    struct job *b;
};

static struct pair make_pair(unsigned flags, struct worker a, struct worker b)
{
    struct job_txn *txn = job_txn_create();
    struct pair pair = {
        .a = make(&worker_driver, "a", flags | JOB_MANUAL_DISMISS, txn, a),
        .b = make(&worker_driver, "b", JOB_MANUAL_DISMISS, txn, b),
    };
    job_txn_unref(txn);
    job_start(pair.a);
    job_start(pair.b);
    noted();
    return pair;
}

/* Until each has answered to what the other did. */
static void let_both_go_on(void)
{
    for (int i = 0; i < 6; i++)
        co_yield ();
}

static void dismiss_pair(struct pair pair)
{
    expect_success(job_dismiss(pair.a));
    expect_success(job_dismiss(pair.b));
    noted();
}

CO_TEST(jobs_of_a_transaction_take_effect_when_all_have_done_their_work)
{
    struct pair pair = make_pair(0, (struct worker){ .last = 1 }, (struct worker){ .last = 1 });
    let_step(pair.a, 1);
    let_both_go_on();
    expect_text(noted(), "waiting");
    let_step(pair.b, 1);
    let_both_go_on();
    expect_text(noted(), "waiting pending prepare pending prepare commit concluded commit concluded");
    expect(!job_error(pair.a) && !job_error(pair.b));
    dismiss_pair(pair);
}

CO_TEST(finalizing_one_job_of_a_transaction_finalizes_all)
{
    struct pair pair = make_pair(JOB_MANUAL_FINALIZE, (struct worker){ .last = 1 }, (struct worker){ .last = 1 });
    let_step(pair.a, 1);
    let_step(pair.b, 1);
    let_both_go_on();
    expect_text(noted(), "waiting waiting pending pending");
    expect_success(job_finalize(pair.b));
    let_both_go_on();
    expect_text(noted(), "prepare prepare commit concluded commit concluded");
    dismiss_pair(pair);
}

CO_TEST(when_one_job_of_a_transaction_fails_the_others_are_cancelled)
{
    struct pair pair = make_pair(0, (struct worker){ .last = 1, .fails = "no luck" }, (struct worker){ .last = 9 });
    let_step(pair.a, 1);
    let_both_go_on();
    expect_text(noted(), "aborting abort concluded aborting abort concluded");
    expect_text(error_message(job_error(pair.a)), "no luck");
    expect_text(error_message(job_error(pair.b)), "the job was cancelled");
    dismiss_pair(pair);
}

CO_TEST(when_a_last_step_fails_nothing_of_the_transaction_takes_effect)
{
    struct pair pair =
        make_pair(0, (struct worker){ .last = 1 }, (struct worker){ .last = 1, .prepare_fails = "too late" });
    let_step(pair.a, 1);
    let_step(pair.b, 1);
    let_both_go_on();
    expect_text(error_message(job_error(pair.a)), "the job was cancelled");
    expect_text(error_message(job_error(pair.b)), "too late");
    expect(!strstr(noted(), "commit"));
    dismiss_pair(pair);
}

CO_TEST(cancelling_one_job_of_a_transaction_cancels_all)
{
    struct pair pair = make_pair(0, (struct worker){ .last = 1 }, (struct worker){ .last = 1 });
    let_step(pair.a, 1);
    expect_success(job_cancel(pair.b, false));
    let_both_go_on();
    expect_text(error_message(job_error(pair.a)), "the job was cancelled");
    expect_text(error_message(job_error(pair.b)), "the job was cancelled");
    expect(!strstr(noted(), "commit"));
    dismiss_pair(pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_move_by_the_table),
        cmocka_unit_test(verbs_are_accepted_by_the_table),
        cmocka_unit_test(a_job_runs_to_its_end_and_is_gone),
        cmocka_unit_test(a_job_waits_to_be_finalized_and_dismissed_when_told_so),
        cmocka_unit_test(a_job_that_fails_aborts_and_keeps_its_error),
        cmocka_unit_test(a_job_can_fail_in_its_last_step),
        cmocka_unit_test(a_paused_job_does_nothing_until_it_is_resumed),
        cmocka_unit_test(a_job_that_is_ready_follows_until_it_is_completed),
        cmocka_unit_test(only_a_ready_job_can_be_completed),
        cmocka_unit_test(cancelling_ends_a_job_wherever_it_is),
        cmocka_unit_test(ids_are_unique),
        cmocka_unit_test(jobs_are_listed_in_order),
        cmocka_unit_test(a_job_that_is_being_made_ends_when_it_is_started),
        cmocka_unit_test(at_the_end_all_jobs_are_ended),
        cmocka_unit_test(a_job_that_comes_at_the_end_is_ended_too),
        cmocka_unit_test(clients_of_block_jobs_hear_of_its_end_before_it_is_concluded),
        cmocka_unit_test(a_ready_job_that_may_end_so_succeeds_when_it_is_cancelled_without_force),
        cmocka_unit_test(a_job_that_is_not_ready_is_cancelled_also_without_force),
        cmocka_unit_test(the_speed_can_change_while_the_job_works),
        cmocka_unit_test(errors_of_storage_do_what_the_policy_says),
        cmocka_unit_test(jobs_of_a_transaction_take_effect_when_all_have_done_their_work),
        cmocka_unit_test(finalizing_one_job_of_a_transaction_finalizes_all),
        cmocka_unit_test(when_one_job_of_a_transaction_fails_the_others_are_cancelled),
        cmocka_unit_test(when_a_last_step_fails_nothing_of_the_transaction_takes_effect),
        cmocka_unit_test(cancelling_one_job_of_a_transaction_cancels_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
