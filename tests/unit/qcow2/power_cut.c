#include "tests/unit/qcow2/power_cut.h"

const struct driver *driver_find(const char *name)
{
    static const struct driver *const drivers[] = { &file_driver, &qcow2_driver, &recorder_driver };
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    }
    return NULL;
}

static void cut_power_everywhere(struct moment *moment)
{
    const char *given = getenv("CAIRN_POWER_CUTS");
    size_t cuts = given ? strtoull(given, NULL, 0) : CUTS_DEFAULT;
    size_t witnessed = 0;
    while (moment->time <= recorder.event_count) {
        bool resizing = moment->time >= guest.resize_begin && moment->time < guest.resize_end;
        bool listed = moment->time < EVENTS_MAX && guest.looks[moment->time] && random_below(guest.look_count) < cuts;
        bool wanted = cuts == 0 || resizing || listed || random_below(recorder.event_count) < cuts;
        for (int survivors = 0; wanted && survivors < SURVIVORS_COUNT; survivors++) {
            bool witness = witnessed < WITNESSES && random_below(cuts ? cuts / 2 : recorder.event_count) < WITNESSES;
            witnessed += witness;
            check_disk(moment, (enum survivors)survivors, witness);
        }
        if (moment->time == recorder.event_count)
            break;
        moment_advance(moment);
    }
}

/* The scene --------------------------------------------------------------------------------------------------- */

/* Half of the sectors have content from the beginning. */
static void make_content(uint64_t *values, size_t sectors, uint64_t mark, const char *name)
{
    uint8_t *raw = calloc(sectors, SECTOR);
    expect(raw);
    for (size_t i = 0; i < sectors; i++) {
        values[i] = i / 48 % 2 ? mark | i : 0;
        fill_sector(raw + i * SECTOR, values[i]);
    }
    save(name, raw, sectors * SECTOR);
    free(raw);
}

static void make_image(const struct scene *scene)
{
    char *path = in_dir("disk.qcow2");
    char create[300];
    snprintf(create, sizeof(create), "%s%s%s%s", scene->create, scene->data_file ? ",data_file=" : "",
             scene->data_file ? in_dir("data.raw") : "", scene->raw ? ",data_file_raw=on" : "");
    if (scene->backing) {
        make_content(guest.backing, scene->sectors, UINT64_C(1) << 60, "base.raw");
        memcpy(guest.initial, guest.backing, sizeof(guest.initial));
        qemu_img("create -q " SECRET " -f qcow2 -b base.raw -F raw -o %s '%s' %zu", create, path,
                 scene->sectors * SECTOR);
    } else {
        make_content(guest.initial, scene->sectors, UINT64_C(1) << 61, "content.raw");
        qemu_img("convert -q -f raw -O qcow2 %s -o %s '%s' '%s'", scene->compressed ? "-c" : "", create,
                 in_dir("content.raw"), path);
    }
    if (scene->bitmaps) {
        qemu_img("bitmap --add -g 512 '%s' kept", path);
        qemu_img("bitmap --add '%s' gone", path);
    }
    if (scene->snapshot)
        qemu_img("snapshot -c first '%s'", path);
    for (size_t i = 0; i < scene->sectors; i++)
        add_version(i, guest.initial[i], 0, 0);
    recorder_load(path);
    if (scene->data_file)
        recorder_load_data(in_dir("data.raw"));
}

static void open_disk(const struct scene *scene)
{
    add(with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_NULL_CO,
        .node_name = "recorder",
    }));
    struct blockdev_options options = with_discard((struct blockdev_options){
        .driver = BLOCKDEV_DRIVER_QCOW2,
        .node_name = "disk",
        .u.qcow2 = { .file = by_name("recorder") },
    });
    struct blockdev_ref_or_null backing = { .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE, .u.reference = "base" };
    if (scene->backing) {
        add(read_only(file_options("base", in_dir("base.raw"))));
        options.u.qcow2.backing = &backing;
    }
    if (scene->data_file) {
        add(with_discard((struct blockdev_options){
            .driver = BLOCKDEV_DRIVER_NULL_CO,
            .node_name = RECORDER_DATA_NODE,
        }));
        options.u.qcow2.data_file = by_name(RECORDER_DATA_NODE);
    }
    if (scene->small_caches) {
        options.u.qcow2.has_l2_cache_size = true;
        options.u.qcow2.l2_cache_size = 1024;
        options.u.qcow2.has_l2_cache_entry_size = true;
        options.u.qcow2.l2_cache_entry_size = 512;
    }
    struct blockdev_qcow2_encryption encrypt = { .format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES,
                                                 .u.aes.key_secret = "sec0" };
    if (scene->encrypted)
        options.u.qcow2.encrypt = &encrypt;
    options.u.qcow2.has_pass_discard_request = true;
    options.u.qcow2.pass_discard_request = scene->pass_discard;
    options.u.qcow2.has_pass_discard_other = true;
    options.u.qcow2.pass_discard_other = scene->pass_discard;
    options.u.qcow2.write_ahead_bitmaps = scene->write_ahead;
    add(options);
    guest.disk = open_handle("disk", READ_WRITE_RESIZE);
}

static void act(const struct scene *scene)
{
    open_disk(scene);
    work(220);
    if (scene->grown_sectors) {
        resize();
        work(120);
    }
    if (scene->snapshots)
        make_and_drop_snapshots();
    if (scene->bitmaps)
        change_bitmaps();
    flush();
    work(60);
    handle_close(guest.disk);
    size_t begin = recorder_tick();
    remove_image("disk");
    if (scene->bitmaps)
        look_at(begin, recorder_tick());
}

void run_scene(const struct scene *scene, uint64_t seed)
{
    memset(&guest, 0, sizeof(guest));
    random_seed(seed);
    guest.scene = scene;
    if (scene->encrypted)
        make_cipher();
    guest.sectors = scene->sectors;
    make_image(scene);
    act(scene);
    struct moment moment = moment_begin(in_dir("disk.qcow2"));
    cut_power_everywhere(&moment);
    print_message("%zu writes and %zu flushes of the disk, %zu flushes of the guest\n", recorder.write_count,
                  recorder.flush_count, guest.flush_count);
    moment_end(&moment);
    for (size_t i = 0; i < SECTORS_MAX; i++)
        free(guest.history[i].versions);
    free(guest.flushes);
    recorder_free();
    free_cipher();
}
