/* Steps that may hang, and the end of a job that does not wait for them. */
#include "tests/unit/runtime/co_test.h"

#include "blockcore/jobs/job.h"
#include "blockcore/jobs/leave.h"

#include <string.h>

#define TOO_LONG_NS (UINT64_C(5) * 1000000000)

/* A job whose work is one step, which waits for the test. */
struct stepper {
    struct job_step step;
    struct co_event held, go;
    bool settles;
    bool fails;
};

static struct error *step_work(void *arg)
{
    struct stepper *stepper = arg;
    co_event_set(&stepper->held);
    if (stepper->settles)
        job_step_settle(&stepper->step);
    co_event_wait(&stepper->go, "the test");
    note("step ended");
    return stepper->fails ? error_new("no luck") : NULL;
}

static struct stepper *stepper_of(struct job *job)
{
    return *(struct stepper **)job_state(job);
}

static struct error *run(struct job *job)
{
    return job_step_take(&stepper_of(job)->step, job, step_work, stepper_of(job));
}

static void wake(struct job *job)
{
    job_step_wake(&stepper_of(job)->step);
}

static const struct job_driver driver = {
    .type = JOB_TYPE_CREATE,
    .state_size = sizeof(struct stepper *),
    .run = run,
    .wake = wake,
};

static struct job *start_stepper(struct stepper *stepper)
{
    struct job *job;
    job_step_init(&stepper->step);
    co_event_init(&stepper->held);
    co_event_init(&stepper->go);
    expect(!job_create(&driver, "j", JOB_MANUAL_DISMISS, NULL, &job));
    *(struct stepper **)job_state(job) = stepper;
    job_start(job);
    co_event_wait(&stepper->held, "the step");
    return job;
}

static void expect_end(struct job *job, const char *message)
{
    while (job_get_status(job) != JOB_STATUS_CONCLUDED)
        co_yield ();
    const struct error *err = job_error(job);
    expect_text(err ? error_message(err) : "none", message);
    expect(!job_dismiss(job));
}

static void step_ends(struct stepper *stepper)
{
    co_event_set(&stepper->go);
    job_step_wait(&stepper->step);
    expect_text(noted(), "step ended");
    job_step_fini(&stepper->step);
}

CO_TEST(a_job_waits_for_its_step_and_gets_its_error)
{
    struct stepper stepper = { .fails = true };
    struct job *job = start_stepper(&stepper);
    for (int i = 0; i < 100; i++)
        co_yield ();
    expect_int(job_get_status(job), JOB_STATUS_RUNNING);
    step_ends(&stepper);
    expect_end(job, "no luck");
}

CO_TEST(a_cancelled_job_goes_on_without_its_step)
{
    struct stepper stepper = { .fails = true };
    struct job *job = start_stepper(&stepper);
    expect(!job_cancel(job, true));
    expect_end(job, "the job was cancelled");
    expect(stepper.step.running);
    step_ends(&stepper); /* what becomes of it nobody wants to know */
}

CO_TEST(a_step_that_is_settled_has_succeeded_and_ends_alone)
{
    struct stepper stepper = { .settles = true, .fails = true };
    struct job *job = start_stepper(&stepper);
    expect_end(job, "none");
    expect(stepper.step.running);
    step_ends(&stepper);
}

/* Leaving -------------------------------------------------------------------------------------------------------- */

struct end {
    struct co_event go, ended;
    unsigned steps; /* each of which takes almost as long as may be */
};

static void leave_work(struct leaving *leaving, void *arg)
{
    struct end *end = arg;
    for (; end->steps > 0; end->steps--) {
        co_sleep_ms(700);
        leaving_got_on(leaving);
    }
    leaving_copier(leaving, NULL, NULL);
    co_event_wait(&end->go, "the test");
    note("left");
    co_event_set(&end->ended);
}

CO_TEST(what_ends_soon_is_waited_for)
{
    struct end end = { .steps = 0 };
    co_event_init(&end.go);
    co_event_init(&end.ended);
    co_event_set(&end.go);
    job_leave(leave_work, &end);
    expect_text(noted(), "left");
}

CO_TEST(what_gets_on_is_waited_for)
{
    struct end end = { .steps = 3 };
    co_event_init(&end.go);
    co_event_init(&end.ended);
    co_event_set(&end.go);
    job_leave(leave_work, &end);
    expect_text(noted(), "left");
}

static void end_all(void *arg)
{
    job_end_all();
    note("all ended");
    co_event_set(arg);
}

CO_TEST(what_hangs_is_left_behind_and_the_end_of_the_process_waits_for_it)
{
    struct end end = { .steps = 0 };
    struct co_event all_ended;
    co_event_init(&end.go);
    co_event_init(&end.ended);
    co_event_init(&all_ended);
    uint64_t begin = loop_now_ns();
    job_leave(leave_work, &end);
    expect(loop_now_ns() - begin < TOO_LONG_NS);
    expect_text(noted(), "");
    co_start("end", end_all, &all_ended);
    expect(!co_event_is_set(&all_ended));
    co_event_set(&end.go);
    co_event_wait(&all_ended, "the end");
    expect_text(noted(), "left all ended");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_waits_for_its_step_and_gets_its_error),
        cmocka_unit_test(a_cancelled_job_goes_on_without_its_step),
        cmocka_unit_test(a_step_that_is_settled_has_succeeded_and_ends_alone),
        cmocka_unit_test(what_ends_soon_is_waited_for),
        cmocka_unit_test(what_gets_on_is_waited_for),
        cmocka_unit_test(what_hangs_is_left_behind_and_the_end_of_the_process_waits_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
