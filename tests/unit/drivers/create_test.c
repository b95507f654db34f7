/* blockdev-create of a file, as driver and as job. */
#include "tests/unit/drivers/nodes.h"

#include "blockcore/base/arena.h"
#include "blockcore/jobs/create.h"
#include "blockcore/jobs/job.h"

static struct blockdev_create_options create_options(const char *filename, uint64_t size)
{
    return (struct blockdev_create_options){
        .driver = BLOCKDEV_DRIVER_FILE,
        .u.file = { .filename = filename, .size = size },
    };
}

static struct error *create(struct blockdev_create_options options)
{
    return driver_find("file")->create(&options);
}

static struct stat status_of(const char *name)
{
    struct stat st;
    expect(stat(in_dir(name), &st) == 0);
    return st;
}

NODE_TEST(a_file_is_made_with_the_size_asked_for)
{
    expect_success(create(create_options(in_dir("a.img"), 12345)));
    expect_int(status_of("a.img").st_size, 12345);
    expect_success(create(create_options(in_dir("huge.img"), UINT64_C(1) << 43)));
    expect_int(status_of("huge.img").st_size, UINT64_C(1) << 43);
}

NODE_TEST(storage_is_taken_in_advance)
{
    static const enum prealloc_mode modes[] = { PREALLOC_MODE_FALLOC, PREALLOC_MODE_FULL };
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct blockdev_create_options options = create_options(in_dir("a.img"), 3 * MIB + 7);
        options.u.file.has_preallocation = true;
        options.u.file.preallocation = modes[i];
        expect_success(create(options));
        expect_int(status_of("a.img").st_size, 3 * MIB + 7);
        expect(status_of("a.img").st_blocks * 512 >= 3 * MIB);
    }
}

NODE_TEST(old_content_goes)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle = open_handle("disk", READ_WRITE);
    expect_int(put(handle, 0, MIB, 0x99), 0);
    handle_close(handle);
    expect_success(blockdev_del("disk"));
    expect_success(create(create_options(in_dir("a.img"), MIB)));
    add(file_options("disk", in_dir("a.img")));
    handle = open_handle("disk", READ);
    expect(reads_as(handle, 0, MIB, 0));
    handle_close(handle);
}

NODE_TEST(an_image_in_use_is_left_alone)
{
    make_file("a.img", MIB);
    add(file_options("disk", in_dir("a.img")));
    struct handle *handle;
    expect_success(handle_open(node_find("disk"), "the test", READ, READ, &handle));
    expect_error(create(create_options(in_dir("a.img"), 0)), "is in use");
    expect_int(status_of("a.img").st_size, MIB);
    handle_close(handle);
    expect_success(create(create_options(in_dir("a.img"), 0)));
    expect_int(status_of("a.img").st_size, 0);
}

NODE_TEST(what_cannot_be_made_is_refused)
{
    expect_error(create(create_options(in_dir("no/such/dir.img"), 0)), "No such file or directory");
    expect(mkfifo(in_dir("fifo"), 0644) == 0);
    expect_error(create(create_options(in_dir("fifo"), 0)), "not a regular file");
    expect_error(create(create_options(test_dir, 0)), "not a regular file");
    struct blockdev_create_options options = create_options(in_dir("a.img"), MIB);
    options.u.file.has_preallocation = true;
    options.u.file.preallocation = PREALLOC_MODE_METADATA;
    expect_error(create(options), "preallocation: 'metadata'");
    options = create_options(in_dir("full.img"), UINT64_C(1) << 50);
    options.u.file.has_preallocation = true;
    options.u.file.preallocation = PREALLOC_MODE_FALLOC;
    expect_error(create(options), "bytes long");
    expect_int(status_of("full.img").st_size, 0);
}

/* The job -------------------------------------------------------------------------------------------------------- */

struct listener {
    struct co_event concluded;
};

static void on_event(const struct job *job, const struct job_event *event, void *arg)
{
    struct listener *listener = arg;
    expect_text(job_id(job), "job0");
    if (event->kind != JOB_EVENT_STATUS)
        return;
    note(job_status_name(event->status));
    if (event->status == JOB_STATUS_CONCLUDED)
        co_event_set(&listener->concluded);
}

/* Runs the job to its end. */
static struct job *run_job(struct blockdev_create_options options, struct listener *listener)
{
    co_event_init(&listener->concluded);
    job_set_listener(on_event, listener);
    struct arena arena;
    arena_init(&arena, SIZE_MAX);
    struct blockdev_create_options *kept = arena_alloc(&arena, sizeof(*kept));
    *kept = options;
    kept->u.file.filename = arena_strdup(&arena, options.u.file.filename);
    expect_success(create_job_start("job0", kept, &arena));
    arena_fini(&arena);
    co_event_wait(&listener->concluded, "the job");
    job_set_listener(NULL, NULL);
    return job_find("job0");
}

NODE_TEST(a_job_makes_the_file_and_stays_until_it_is_dismissed)
{
    struct listener listener;
    struct job *job = run_job(create_options(in_dir("a.img"), 777), &listener);
    expect_text(noted(), "created running waiting pending concluded");
    expect_int(status_of("a.img").st_size, 777);
    expect_int(job_get_type(job), JOB_TYPE_CREATE);
    expect_int(job_progress_current(job), 1);
    expect_int(job_progress_total(job), 1);
    expect(!job_error(job));
    expect_success(job_dismiss(job));
    expect(!job_find("job0"));
}

NODE_TEST(a_job_that_fails_keeps_its_error)
{
    struct listener listener;
    struct job *job = run_job(create_options(in_dir("no/such/dir.img"), 777), &listener);
    expect_text(noted(), "created running aborting concluded");
    expect(strstr(error_message(job_error(job)), "No such file or directory"));
    expect_success(job_dismiss(job));
}

NODE_TEST(a_driver_that_makes_no_images_starts_no_job)
{
    struct arena arena;
    struct blockdev_create_options options = { .driver = BLOCKDEV_DRIVER_RAW };
    arena_init(&arena, SIZE_MAX);
    expect_error(create_job_start("job0", &options, &arena), "driver 'raw' cannot create images");
    expect(!job_find("job0"));
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_made_with_the_size_asked_for),
        cmocka_unit_test(storage_is_taken_in_advance),
        cmocka_unit_test(old_content_goes),
        cmocka_unit_test(an_image_in_use_is_left_alone),
        cmocka_unit_test(what_cannot_be_made_is_refused),
        cmocka_unit_test(a_job_makes_the_file_and_stays_until_it_is_dismissed),
        cmocka_unit_test(a_job_that_fails_keeps_its_error),
        cmocka_unit_test(a_driver_that_makes_no_images_starts_no_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
