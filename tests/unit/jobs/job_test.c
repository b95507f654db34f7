/* The life of a job, and who may change it when. */
#include "tests/unit/runtime/co_test.h"

#include "blockcore/jobs/job.h"
#include "blockcore/runtime/sync.h"

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
    while (worker->becomes_ready && job_go_on(job) && !job_shall_complete(job))
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
    note(success ? "commit" : job_is_forced(job) ? "abort-at-once" : "abort");
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

static void on_status(const struct job *job, enum job_status status, void *arg)
{
    (void)job;
    (void)arg;
    note(job_status_name(status));
}

static struct job *make_job(const char *id, unsigned flags, struct worker like)
{
    struct job *job;
    job_set_listener(on_status, NULL);
    expect_success(job_create(&worker_driver, id, flags, &job));
    struct worker *worker = job_state(job);
    *worker = like;
    co_queue_init(&worker->steps);
    return job;
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
    expect(!job_is_forced(job));
    expect_success(job_dismiss(job));
    noted();

    job = make_job("paused", 0, (struct worker){ .last = 5 });
    job_start(job);
    expect_success(job_pause(job));
    let_step(job, 1);
    expect_success(job_cancel(job, true));
    co_yield ();
    expect_text(noted(), "created running paused running aborting abort-at-once concluded null fini");

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
    expect_error(job_create(&worker_driver, "a-b_c.D1", 0, &other), "Job ID 'a-b_c.D1' already in use");
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

CO_TEST(at_the_end_all_jobs_are_ended)
{
    make_job("created", 0, (struct worker){ 0 });
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
        cmocka_unit_test(a_job_that_comes_at_the_end_is_ended_too),
        cmocka_unit_test(at_the_end_all_jobs_are_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
