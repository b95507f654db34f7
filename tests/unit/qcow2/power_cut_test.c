/* The power may go at any moment.
 *
 * Workers write, zero, discard and flush at the same time, on a disk that records when each of its writes and flushes
 * began and ended. Then, for each moment: what was written before the last flush began is on the disk; of what came
 * later, any part may be, in any order, down to single sectors. Each such disk must hold a consistent image (leaks are
 * allowed), on which a dirty bitmap says of itself that it is worth nothing or has all that was written, every sector
 * shows what was last flushed, or something that was written later; and snapshots show what they always did. A sample
 * is shown to qemu-img check as well.
 *
 * CAIRN_TEST_SEED chooses the requests, CAIRN_POWER_CUTS how many moments of each run are looked at (0: all), and how
 * many more of those in which snapshots come and go. */
#include "blockcore/base/arena.h"
#include "blockcore/base/sanitizer.h"
#include "blockcore/crypto/cipher.h"
#include "blockcore/graph/dirty_bitmap.h"
#include "blockcore/io/snapshot.h"
#include "blockcore/objects/object.h"
#include "schema/cairn_types.h"
#include "tests/unit/qcow2/checker.h"
#include "tests/unit/qcow2/images.h"
#include "tests/unit/qcow2/moment.h"

#define SECTORS_MAX 16384
#define WORKERS 5
#define EVENTS_MAX 65536
#ifdef WITH_ASAN
#define CUTS_DEFAULT 10 /* the build without it looks at more of them in the same time */
#else
#define CUTS_DEFAULT 40
#endif
#define PASSWORD "sixteen letters!"
#define SECRET "--object secret,id=s,data='" PASSWORD "'"
#define ENCRYPTED "driver=qcow2,encrypt.format=aes,encrypt.key-secret=s"
#define WITNESSES 4 /* disks of each run that qemu-img looks at */

const struct driver *driver_find(const char *name)
{
    static const struct driver *const drivers[] = { &file_driver, &qcow2_driver, &recorder_driver };
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        if (strcmp(drivers[i]->name, name) == 0)
            return drivers[i];
    }
    return NULL;
}

struct scene {
    const char *create; /* options of qemu-img */
    size_t sectors;
    bool backing;
    bool data_file;
    bool raw;              /* the data file is the disk by itself */
    bool compressed;       /* the content at the beginning */
    bool lazy;             /* refcounts reach the disk when the image is closed */
    size_t packed_sectors; /* of a cluster, to write clusters compressed; 0: none are */
    bool snapshot;
    bool small_caches;
    bool pass_discard;
    size_t grown_sectors; /* 0: not resized */
    bool snapshots;       /* are made, deleted and applied on the way */
    bool bitmaps;         /* dirty bitmaps, from before the beginning and made and removed on the way */
    bool encrypted;       /* in the old way: the vector of a sector is that of the guest */
};

/* What a sector was written to, and when: in numbers of events. */
struct version {
    uint64_t value;
    size_t begin;
    size_t end;
};

struct history {
    struct version *versions;
    size_t count;
};

struct guest_flush {
    size_t begin;
    size_t end;
};

/* What the disk was when a snapshot was made. */
struct picture {
    const char *name;
    uint64_t values[SECTORS_MAX];
};

static struct {
    const struct scene *scene;
    struct handle *disk;
    size_t sectors;
    struct history history[SECTORS_MAX];
    bool busy[SECTORS_MAX];
    uint64_t backing[SECTORS_MAX];
    uint64_t initial[SECTORS_MAX];
    struct guest_flush *flushes;
    size_t flush_count;
    uint64_t writes;
    int steps_left;
    size_t resize_begin; /* each moment of a resize is looked at */
    size_t resize_end;
    struct picture pictures[2];
    size_t picture_count;
    bool looks[EVENTS_MAX]; /* moments of which more are looked at than of others */
    size_t look_count;
} guest;

/* Contents: a number all over the sector; 0 is zeroes. Each write to each sector has its own. */
static void fill_sector(uint8_t *sector, uint64_t value)
{
    for (size_t at = 0; at < SECTOR; at += sizeof(value))
        memcpy(sector + at, &value, sizeof(value));
}

static bool sector_value(const uint8_t *sector, uint64_t *value)
{
    memcpy(value, sector, sizeof(*value));
    return memcmp(sector, sector + sizeof(*value), SECTOR - sizeof(*value)) == 0;
}

static void add_version(size_t sector, uint64_t value, size_t begin, size_t end)
{
    struct history *history = &guest.history[sector];
    history->versions = realloc(history->versions, (history->count + 1) * sizeof(struct version));
    expect(history->versions);
    history->versions[history->count++] = (struct version){ value, begin, end };
}

/* The request that made the last versions has ended. */
static void end_versions(size_t first, size_t count)
{
    size_t end = recorder_tick();
    for (size_t i = first; i < first + count; i++)
        guest.history[i].versions[guest.history[i].count - 1].end = end;
}

/* Requests ---------------------------------------------------------------------------------------------------- */

static bool claim(size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        if (guest.busy[i])
            return false;
    }
    memset(guest.busy + first, true, count);
    return true;
}

static void claim_some(size_t *first, size_t *count)
{
    do {
        co_yield ();
        *first = random_below(guest.sectors);
        size_t most = random_below(3) ? 12 : 200;
        *count = 1 + random_below(min_u64(most, guest.sectors - *first));
        if (random_below(3) == 0) {
            *first = *first / 8 * 8;
            *count = min_u64((*count + 7) / 8 * 8, guest.sectors - *first);
        }
    } while (!claim(*first, *count));
}

static struct range bytes_of(size_t first, size_t count)
{
    return range_make(first * SECTOR, count * SECTOR);
}

static void write_some(size_t first, size_t count, unsigned flags)
{
    uint8_t *data = malloc(count * SECTOR);
    expect(data);
    uint64_t stamp = ++guest.writes << 20;
    for (size_t i = 0; i < count; i++)
        fill_sector(data + i * SECTOR, stamp | (first + i));
    size_t begin = recorder_tick();
    for (size_t i = 0; i < count; i++)
        add_version(first + i, stamp | (first + i), begin, SIZE_MAX);
    if (flags & REQ_COMPRESSED)
        expect_int(put_compressed(guest.disk, first * SECTOR, data, count * SECTOR), 0);
    else
        expect_int(put_bytes(guest.disk, first * SECTOR, data, count * SECTOR), 0);
    end_versions(first, count);
    free(data);
}

/* One to four whole clusters. */
static void write_packed(void)
{
    size_t cluster = guest.scene->packed_sectors;
    size_t first;
    size_t count;
    do {
        co_yield ();
        first = random_below(guest.sectors / cluster) * cluster;
        count = min_u64((1 + random_below(4)) * cluster, guest.sectors - first);
    } while (!claim(first, count));
    write_some(first, count, REQ_COMPRESSED);
    memset(guest.busy + first, false, count);
}

static void zero_some(size_t first, size_t count)
{
    size_t begin = recorder_tick();
    for (size_t i = first; i < first + count; i++)
        add_version(i, 0, begin, SIZE_MAX);
    expect_int(handle_pwrite_zeroes(guest.disk, bytes_of(first, count), random_below(2) ? REQ_MAY_UNMAP : 0), 0);
    end_versions(first, count);
}

/* A discarded sector is zero afterwards, or what it was. Until it is over it may be either. */
static void discard_some(size_t first, size_t count)
{
    size_t begin = recorder_tick();
    expect_int(handle_pdiscard(guest.disk, bytes_of(first, count)), 0);
    size_t end = recorder_tick();
    for (size_t i = first; i < first + count; i++) {
        uint8_t sector[SECTOR];
        uint64_t value;
        expect_int(get_bytes(guest.disk, i * SECTOR, sector, SECTOR), 0);
        expect(sector_value(sector, &value));
        uint64_t before = guest.history[i].versions[guest.history[i].count - 1].value;
        expect(value == 0 || value == before);
        if (value != before)
            add_version(i, 0, begin, end);
    }
}

static void read_some(size_t first, size_t count)
{
    uint8_t *data = malloc(count * SECTOR);
    expect(data);
    expect_int(get_bytes(guest.disk, first * SECTOR, data, count * SECTOR), 0);
    for (size_t i = 0; i < count; i++) {
        uint64_t value;
        expect(sector_value(data + i * SECTOR, &value));
        const struct history *history = &guest.history[first + i];
        expect(value == history->versions[history->count - 1].value);
    }
    free(data);
}

static void flush(void)
{
    size_t begin = recorder_tick();
    expect_int(handle_flush(guest.disk), 0);
    guest.flushes = realloc(guest.flushes, (guest.flush_count + 1) * sizeof(struct guest_flush));
    expect(guest.flushes);
    guest.flushes[guest.flush_count++] = (struct guest_flush){ begin, recorder_tick() };
}

static void worker(void *unused)
{
    (void)unused;
    while (guest.steps_left-- > 0) {
        size_t first;
        size_t count;
        uint64_t what = random_below(20);
        if (what == 0) {
            flush();
            continue;
        }
        if (guest.scene->packed_sectors && what % 2) {
            write_packed();
            continue;
        }
        claim_some(&first, &count);
        if (what < 4)
            zero_some(first, count);
        else if (what < 6)
            discard_some(first, count);
        else if (what < 9)
            read_some(first, count);
        else
            write_some(first, count, 0);
        memset(guest.busy + first, false, count);
    }
}

static void work(int steps)
{
    struct co_group group;
    co_group_init(&group);
    guest.steps_left = steps;
    for (int i = 0; i < WORKERS; i++)
        co_group_start(&group, "worker", worker, NULL);
    co_group_join(&group);
}

/* To half its length, which drops what is behind, and to more than it ever had. */
static void resize(void)
{
    size_t half = guest.sectors / 2;
    size_t begin = recorder_tick();
    expect_int(handle_truncate(guest.disk, half * SECTOR, TRUNCATE_SPARSE), 0);
    expect_int(handle_truncate(guest.disk, guest.scene->grown_sectors * SECTOR, TRUNCATE_SPARSE), 0);
    size_t end = recorder_tick();
    guest.resize_begin = begin;
    guest.resize_end = end;
    for (size_t i = half; i < guest.scene->grown_sectors; i++)
        add_version(i, 0, i < guest.sectors ? begin : 0, i < guest.sectors ? end : 0);
    guest.sectors = guest.scene->grown_sectors;
}

/* Snapshots --------------------------------------------------------------------------------------------------- */

static void look_at(size_t begin, size_t end)
{
    for (size_t i = begin; i <= end && i < EVENTS_MAX; i++)
        guest.looks[i] = true;
    guest.look_count += end - begin;
}

static void snapshot_create(const char *name)
{
    struct picture *picture = &guest.pictures[guest.picture_count++];
    picture->name = name;
    for (size_t i = 0; i < guest.sectors; i++)
        picture->values[i] = guest.history[i].versions[guest.history[i].count - 1].value;
    size_t begin = recorder_tick();
    expect_success(node_snapshot_create(node_find("disk"), name));
    look_at(begin, recorder_tick());
}

static void snapshot_delete(const char *name)
{
    struct arena arena;
    struct snapshot_info deleted;
    arena_init(&arena, SIZE_MAX);
    size_t begin = recorder_tick();
    expect_success(node_snapshot_delete(node_find("disk"), NULL, name, &arena, &deleted));
    look_at(begin, recorder_tick());
    arena_fini(&arena);
}

static void snapshot_apply(const struct picture *picture)
{
    handle_close(guest.disk);
    size_t begin = recorder_tick();
    expect_success(node_snapshot_apply(node_find("disk"), NULL, picture->name));
    size_t end = recorder_tick();
    look_at(begin, end);
    for (size_t i = 0; i < guest.sectors; i++)
        add_version(i, picture->values[i], begin, end);
    guest.disk = open_handle("disk", READ_WRITE_RESIZE);
}

static void make_and_drop_snapshots(void)
{
    snapshot_create("a");
    work(60);
    snapshot_create("b");
    work(60);
    snapshot_delete("a");
    work(60);
    snapshot_apply(&guest.pictures[1]);
    work(60);
    snapshot_delete("b");
    work(20);
}

/* Dirty bitmaps ----------------------------------------------------------------------------------------------- */

static void change_bitmaps(void)
{
    struct dirty_bitmap *bitmap;
    expect_success(dirty_bitmap_create(node_find("disk"), "new", 4096, &bitmap));
    dirty_bitmap_set_persistent(bitmap, true);
    size_t begin = recorder_tick();
    expect_success(qcow2_driver.bitmap_remove(node_find("disk"), "gone"));
    dirty_bitmap_destroy(dirty_bitmap_find(node_find("disk"), "gone"));
    look_at(begin, recorder_tick());
    work(60);
}

/* Moments ----------------------------------------------------------------------------------------------------- */

/* When the last of the guest's flushes began that have ended. */
static size_t last_flush(size_t time)
{
    size_t flushed = 0;
    for (size_t i = 0; i < guest.flush_count; i++) {
        if (guest.flushes[i].end < time)
            flushed = max_u64(flushed, guest.flushes[i].begin);
    }
    return flushed;
}

static bool is_allowed(size_t sector, uint64_t value, size_t flushed, size_t time)
{
    const struct history *history = &guest.history[sector];
    size_t base = 0;
    for (size_t i = 0; i < history->count; i++) {
        if (history->versions[i].end == 0 || history->versions[i].end < flushed)
            base = i;
    }
    for (size_t i = base; i < history->count; i++) {
        if (history->versions[i].value == value && (i == base || history->versions[i].begin < time))
            return true;
    }
    return false;
}

static void give_up(struct image image, const struct moment *moment, enum survivors survivors)
{
    save("../cairn-power-cut.qcow2", image.bytes, image.length);
    print_error("after %zu of %zu events, survivors %d; the disk is in %s\n", moment->time, recorder.event_count,
                (int)survivors, in_dir("../cairn-power-cut.qcow2"));
    abort();
}

static void check_sectors(struct image image, const struct moment *moment, enum survivors survivors)
{
    size_t sectors = image_guest_bytes(image) / SECTOR;
    size_t flushed = last_flush(moment->time);
    for (size_t i = 0; i < sectors; i++) {
        uint8_t sector[SECTOR];
        uint64_t value = guest.backing[i];
        bool own = read_sector(image, -1, i, sector);
        if (!(own ? sector_value(sector, &value) : true) || !is_allowed(i, value, flushed, moment->time)) {
            print_error("sector %zu is 0x%llx\n", i, (unsigned long long)value);
            give_up(image, moment, survivors);
        }
    }
    for (size_t i = 0; guest.scene->raw && i < sectors; i++) {
        uint64_t value;
        if (!sector_value(image.data_file + i * SECTOR, &value) || !is_allowed(i, value, flushed, moment->time)) {
            print_error("sector %zu of the raw data file is 0x%llx\n", i, (unsigned long long)value);
            give_up(image, moment, survivors);
        }
    }
    for (size_t i = 0; guest.scene->snapshot && i < guest.scene->sectors; i++) {
        uint8_t sector[SECTOR];
        uint64_t value = guest.backing[i];
        if (read_sector(image, 0, i, sector) && (!sector_value(sector, &value) || value != guest.initial[i])) {
            print_error("sector %zu of the snapshot is 0x%llx\n", i, (unsigned long long)value);
            give_up(image, moment, survivors);
        }
    }
}

/* A snapshot shows what the disk was, as long as the image has it. */
static void check_pictures(struct image image, const struct moment *moment, enum survivors survivors)
{
    for (size_t n = 0; n < guest.picture_count; n++) {
        const struct picture *picture = &guest.pictures[n];
        int index = image_find_snapshot(image, picture->name);
        for (size_t i = 0; index >= 0 && i < guest.sectors; i++) {
            uint8_t sector[SECTOR];
            uint64_t value = guest.backing[i];
            if (read_sector(image, index, i, sector) && !sector_value(sector, &value))
                give_up(image, moment, survivors);
            if (value != picture->values[i]) {
                print_error("sector %zu of snapshot '%s' is 0x%llx\n", i, picture->name, (unsigned long long)value);
                give_up(image, moment, survivors);
            }
        }
    }
}

static struct cipher *cipher;

static void decrypt(uint64_t sector, uint8_t data[SECTOR])
{
    expect_int(cipher_run(cipher, CIPHER_DECRYPT, sector, data, data, SECTOR), 0);
}

/* The first 16 bytes of the password are the key. */
static void make_cipher(void)
{
    struct cipher_spec spec = { Q_CRYPTO_CIPHER_ALGO_AES_128, Q_CRYPTO_CIPHER_MODE_CBC, Q_CRYPTO_IV_GEN_ALGO_PLAIN64,
                                Q_CRYPTO_HASH_ALGO_SHA256 };
    struct object_options secret = { .qom_type = OBJECT_TYPE_SECRET, .id = "sec0", .u.secret = { .data = PASSWORD } };
    expect_success(cipher_create(&spec, (const uint8_t *)PASSWORD, &cipher));
    expect_success(object_add(&secret));
}

/* The bitmap was empty when the disk had its initial content. It never is lost. A disk that was shorter in between has
 * forgotten what lay behind that end, and so has the bitmap. */
static void check_bitmap(struct image image, const struct moment *moment, enum survivors survivors)
{
    struct stored_bitmap bitmap;
    bool whole = moment->time == recorder.event_count && survivors == ALL;
    if (!image_find_bitmap(image, "kept", &bitmap) || (bitmap.in_use && whole)) {
        print_error("there is no bitmap, or it was not stored\n");
        give_up(image, moment, survivors);
    }
    size_t sectors = guest.scene->grown_sectors ? guest.scene->sectors / 2 : guest.scene->sectors;
    for (size_t i = 0; i < sectors && !bitmap.in_use; i++) {
        uint8_t sector[SECTOR];
        uint64_t value = guest.backing[i];
        if (read_sector(image, -1, i, sector) && !sector_value(sector, &value))
            give_up(image, moment, survivors);
        if (value != guest.initial[i] && !stored_bitmap_has(image, &bitmap, i)) {
            print_error("sector %zu was written, and the bitmap does not know it\n", i);
            give_up(image, moment, survivors);
        }
    }
}

static int check_by_witness(const char *repair)
{
    char line[300];
    char output[4096];
    if (guest.scene->encrypted)
        snprintf(line, sizeof(line), "qemu-img check %s " SECRET " --image-opts '" ENCRYPTED ",file.filename=%s'",
                 repair, in_dir("cut.qcow2"));
    else
        snprintf(line, sizeof(line), "qemu-img check %s '%s'", repair, in_dir("cut.qcow2"));
    int status = run_command(line, output, sizeof(output));
    if (status != 0 && status != 3) /* 3: leaks */
        print_error("%s\n", output);
    return status;
}

static void open_and_close(void)
{
    struct blockdev_options options = image_options("cut", in_dir("cut.qcow2"));
    struct blockdev_ref_or_null backing = { .kind = BLOCKDEV_REF_OR_NULL_KIND_REFERENCE, .u.reference = "base" };
    struct blockdev_qcow2_encryption encrypt = { .format = BLOCKDEV_QCOW2_ENCRYPTION_FORMAT_AES,
                                                 .u.aes.key_secret = "sec0" };
    if (guest.scene->backing)
        options.u.qcow2.backing = &backing;
    if (guest.scene->encrypted)
        options.u.qcow2.encrypt = &encrypt;
    add(options);
    remove_image("cut");
}

/* Whoever opens a disk that is marked as dirty makes it right, and shows what it showed before. */
static void check_after_opening(struct image image, const struct moment *moment, enum survivors survivors)
{
    if (guest.scene->data_file)
        return; /* the header names the one on which the disk was made */
    save("cut.qcow2", image.bytes, image.length);
    bool dirty = image_is_dirty(image);
    open_and_close();
    struct image opened = image;
    uint8_t *bytes = malloc(RECORDER_BYTES_MAX);
    expect(bytes);
    opened.bytes = bytes;
    opened.length = recorder_read_file(in_dir("cut.qcow2"), bytes);
    int status = check_by_witness("");
    if (image_is_dirty(opened) || (status != 0 && (dirty || status != 3))) {
        print_error("it is not right after it was opened: %d\n", status);
        give_up(image, moment, survivors);
    }
    check_sectors(opened, moment, survivors);
    check_pictures(opened, moment, survivors);
    free(bytes);
}

static void check_disk(struct moment *moment, enum survivors survivors, bool witness)
{
    struct trial trial = { .moment = moment, .length = moment->length };
    trial_begin(&trial, survivors);
    struct image image = {
        .bytes = moment->bytes,
        .length = trial.length,
        .data_file = moment->bytes + RECORDER_DATA,
        .data_file_length = RECORDER_BYTES_MAX,
        .decrypt = guest.scene->encrypted ? decrypt : NULL,
    };
    struct findings findings = { .late = guest.scene->lazy };
    check(image, &findings);
    if (findings.corruptions) {
        print_error("%u corruptions: %s\n", findings.corruptions, findings.first);
        give_up(image, moment, survivors);
    }
    check_sectors(image, moment, survivors);
    check_pictures(image, moment, survivors);
    if (guest.scene->bitmaps)
        check_bitmap(image, moment, survivors);
    if (witness) {
        save("cut.qcow2", image.bytes, image.length);
        int status = check_by_witness(image.decrypt ? "" : image_is_dirty(image) ? "-r all" : "-U");
        if (status != 0 && status != 3)
            give_up(image, moment, survivors);
        check_after_opening(image, moment, survivors);
    }
    trial_end(&trial);
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

static void run_scene(const struct scene *scene, uint64_t seed)
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
    cipher_free(steal(&cipher));
    object_del_all();
}

/* A new image over an old one, on storage of a fixed length: at any moment there is the old one, none, or the new one.
 */
NODE_TEST(a_new_image_over_an_old_one)
{
    memset(&guest, 0, sizeof(guest));
    random_seed(1);
    qemu_img("create -q -f qcow2 -o cluster_size=512,preallocation=full '%s' 1M", in_dir("disk.qcow2"));
    recorder_load(in_dir("disk.qcow2"));
    add((struct blockdev_options){ .driver = BLOCKDEV_DRIVER_NULL_CO, .node_name = "recorder" });
    struct blockdev_create_options options = {
        .driver = BLOCKDEV_DRIVER_QCOW2,
        .u.qcow2 = { .file = by_name("recorder"),
                     .size = 256 * KIB,
                     .has_cluster_size = true,
                     .cluster_size = 4096,
                     .has_preallocation = true,
                     .preallocation = PREALLOC_MODE_METADATA },
    };
    expect_success(qcow2_driver.create(&options));
    struct moment moment = moment_begin(in_dir("disk.qcow2"));
    unsigned images = 0;
    for (; moment.time < recorder.event_count; moment_advance(&moment)) {
        for (int survivors = 0; survivors < SURVIVORS_COUNT; survivors++) {
            struct trial trial = { .moment = &moment, .length = moment.length };
            trial_begin(&trial, (enum survivors)survivors);
            struct image image = { .bytes = moment.bytes, .length = trial.length };
            struct findings findings = { 0 };
            bool is_image = memcmp(moment.bytes, "QFI\xfb", 4) == 0;
            if (is_image)
                check(image, &findings);
            if (findings.corruptions)
                give_up(image, &moment, (enum survivors)survivors);
            images += is_image;
            trial_end(&trial);
        }
    }
    expect(images > 0);
    moment_end(&moment);
    recorder_free();
}

#define POWER_CUT(name, ...)                                                                                           \
    NODE_TEST(name)                                                                                                    \
    {                                                                                                                  \
        run_scene(&(struct scene){ __VA_ARGS__ }, __LINE__);                                                           \
    }

POWER_CUT(usual_clusters, .create = "cluster_size=65536", .sectors = 8000)
POWER_CUT(smallest_clusters, .create = "cluster_size=512", .sectors = 2000)
POWER_CUT(small_clusters, .create = "cluster_size=4096", .sectors = 4000)
POWER_CUT(version_2, .create = "cluster_size=4096,compat=0.10", .sectors = 4000)
POWER_CUT(a_refcount_table_that_grows, .create = "cluster_size=512,refcount_bits=64", .sectors = 6000)
POWER_CUT(refcounts_of_one_bit, .create = "cluster_size=512,refcount_bits=1", .sectors = 3000)
POWER_CUT(on_a_backing_file, .create = "cluster_size=4096", .sectors = 4000, .backing = true)
POWER_CUT(version_2_on_a_backing_file, .create = "cluster_size=4096,compat=0.10", .sectors = 3000, .backing = true)
POWER_CUT(with_a_snapshot, .create = "cluster_size=4096", .sectors = 4000, .snapshot = true)
POWER_CUT(with_a_snapshot_and_smallest_clusters, .create = "cluster_size=512", .sectors = 1500, .snapshot = true)
POWER_CUT(with_small_caches, .create = "cluster_size=4096", .sectors = 8000, .small_caches = true)
POWER_CUT(with_small_caches_and_a_snapshot, .create = "cluster_size=512", .sectors = 2000, .small_caches = true,
          .snapshot = true)
POWER_CUT(compressed_content, .create = "cluster_size=4096", .sectors = 4000, .compressed = true)
POWER_CUT(compressed_content_in_a_snapshot, .create = "cluster_size=16384", .sectors = 4000, .compressed = true,
          .snapshot = true)
POWER_CUT(compressed_writes, .create = "cluster_size=4096", .sectors = 4000, .packed_sectors = 8)
POWER_CUT(compressed_writes_to_smallest_clusters, .create = "cluster_size=512", .sectors = 1000, .packed_sectors = 1)
POWER_CUT(compressed_writes_with_a_snapshot, .create = "cluster_size=16384", .sectors = 4000, .compressed = true,
          .packed_sectors = 32, .snapshot = true)
POWER_CUT(compressed_writes_on_a_backing_file, .create = "cluster_size=4096", .sectors = 2000, .backing = true,
          .packed_sectors = 8)
POWER_CUT(compressed_writes_and_discards, .create = "cluster_size=4096", .sectors = 2000, .packed_sectors = 8,
          .pass_discard = true)
POWER_CUT(lazy_refcounts, .create = "cluster_size=4096,lazy_refcounts=on", .sectors = 4000, .lazy = true)
POWER_CUT(lazy_refcounts_and_a_refcount_table_that_grows,
          .create = "cluster_size=512,refcount_bits=64,lazy_refcounts=on", .sectors = 3000, .lazy = true)
POWER_CUT(lazy_refcounts_and_compressed_writes, .create = "cluster_size=4096,lazy_refcounts=on", .sectors = 2000,
          .lazy = true, .packed_sectors = 8)
POWER_CUT(discards_reach_the_file, .create = "cluster_size=4096", .sectors = 3000, .pass_discard = true)
POWER_CUT(resized, .create = "cluster_size=512", .sectors = 1000, .grown_sectors = 6000)
POWER_CUT(resized_on_a_backing_file, .create = "cluster_size=4096", .sectors = 3000, .grown_sectors = 5000,
          .backing = true)
POWER_CUT(encrypted, .create = "cluster_size=4096,encrypt.format=aes,encrypt.key-secret=s", .sectors = 4000,
          .backing = true, .encrypted = true)
POWER_CUT(encrypted_and_resized, .create = "cluster_size=16384,encrypt.format=aes,encrypt.key-secret=s",
          .sectors = 3000, .grown_sectors = 5000, .backing = true, .encrypted = true)
POWER_CUT(encrypted_with_snapshots, .create = "cluster_size=4096,encrypt.format=aes,encrypt.key-secret=s",
          .sectors = 2000, .backing = true, .encrypted = true, .snapshots = true)
POWER_CUT(subclusters, .create = "cluster_size=16384,extended_l2=on", .sectors = 4000)
POWER_CUT(subclusters_on_a_backing_file, .create = "cluster_size=16384,extended_l2=on", .sectors = 4000,
          .backing = true)
POWER_CUT(subclusters_with_a_snapshot, .create = "cluster_size=16384,extended_l2=on", .sectors = 4000, .snapshot = true,
          .small_caches = true)
POWER_CUT(compressed_subclusters, .create = "cluster_size=16384,extended_l2=on", .sectors = 4000, .compressed = true,
          .packed_sectors = 32)
POWER_CUT(resized_subclusters_on_a_backing_file, .create = "cluster_size=16384,extended_l2=on", .sectors = 3000,
          .grown_sectors = 5000, .backing = true)
POWER_CUT(snapshots_come_and_go, .create = "cluster_size=4096", .sectors = 2000, .snapshots = true)
POWER_CUT(snapshots_of_smallest_clusters, .create = "cluster_size=512,refcount_bits=64", .sectors = 700,
          .snapshots = true, .small_caches = true)
POWER_CUT(snapshots_on_a_backing_file, .create = "cluster_size=4096", .sectors = 2000, .backing = true,
          .snapshots = true, .pass_discard = true)
POWER_CUT(snapshots_of_compressed_content, .create = "cluster_size=4096", .sectors = 2000, .compressed = true,
          .snapshots = true)
POWER_CUT(snapshots_of_subclusters, .create = "cluster_size=16384,extended_l2=on", .sectors = 2000, .snapshots = true)
POWER_CUT(snapshots_and_lazy_refcounts, .create = "cluster_size=4096,lazy_refcounts=on", .sectors = 2000, .lazy = true,
          .snapshots = true)
POWER_CUT(snapshots_and_compressed_writes, .create = "cluster_size=4096", .sectors = 2000, .packed_sectors = 8,
          .snapshots = true)
POWER_CUT(a_data_file, .create = "cluster_size=4096", .sectors = 4000, .data_file = true)
POWER_CUT(a_data_file_on_a_backing_file, .create = "cluster_size=4096", .sectors = 4000, .data_file = true,
          .backing = true, .pass_discard = true)
POWER_CUT(a_data_file_with_subclusters, .create = "cluster_size=16384,extended_l2=on", .sectors = 4000,
          .data_file = true, .pass_discard = true)
POWER_CUT(a_raw_data_file, .create = "cluster_size=4096", .sectors = 4000, .data_file = true, .raw = true,
          .pass_discard = true)
POWER_CUT(resized_with_a_data_file, .create = "cluster_size=512", .sectors = 1000, .grown_sectors = 6000,
          .data_file = true)
POWER_CUT(resized_with_a_raw_data_file, .create = "cluster_size=4096", .sectors = 3000, .grown_sectors = 5000,
          .data_file = true, .raw = true)

POWER_CUT(bitmaps, .create = "cluster_size=4096", .sectors = 3000, .bitmaps = true)
POWER_CUT(bitmaps_of_a_disk_that_is_resized, .create = "cluster_size=4096", .sectors = 3000, .grown_sectors = 5000,
          .bitmaps = true)
POWER_CUT(bitmaps_on_a_backing_file, .create = "cluster_size=65536", .sectors = 3000, .backing = true, .bitmaps = true)
POWER_CUT(bitmaps_beside_snapshots, .create = "cluster_size=4096", .sectors = 1500, .snapshots = true, .bitmaps = true)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual_clusters),
        cmocka_unit_test(smallest_clusters),
        cmocka_unit_test(small_clusters),
        cmocka_unit_test(version_2),
        cmocka_unit_test(a_refcount_table_that_grows),
        cmocka_unit_test(refcounts_of_one_bit),
        cmocka_unit_test(on_a_backing_file),
        cmocka_unit_test(version_2_on_a_backing_file),
        cmocka_unit_test(with_a_snapshot),
        cmocka_unit_test(with_a_snapshot_and_smallest_clusters),
        cmocka_unit_test(with_small_caches),
        cmocka_unit_test(with_small_caches_and_a_snapshot),
        cmocka_unit_test(compressed_content),
        cmocka_unit_test(compressed_content_in_a_snapshot),
        cmocka_unit_test(compressed_writes),
        cmocka_unit_test(compressed_writes_to_smallest_clusters),
        cmocka_unit_test(compressed_writes_with_a_snapshot),
        cmocka_unit_test(compressed_writes_on_a_backing_file),
        cmocka_unit_test(compressed_writes_and_discards),
        cmocka_unit_test(lazy_refcounts),
        cmocka_unit_test(lazy_refcounts_and_a_refcount_table_that_grows),
        cmocka_unit_test(lazy_refcounts_and_compressed_writes),
        cmocka_unit_test(discards_reach_the_file),
        cmocka_unit_test(resized),
        cmocka_unit_test(resized_on_a_backing_file),
        cmocka_unit_test(encrypted),
        cmocka_unit_test(encrypted_and_resized),
        cmocka_unit_test(encrypted_with_snapshots),
        cmocka_unit_test(subclusters),
        cmocka_unit_test(subclusters_on_a_backing_file),
        cmocka_unit_test(subclusters_with_a_snapshot),
        cmocka_unit_test(compressed_subclusters),
        cmocka_unit_test(resized_subclusters_on_a_backing_file),
        cmocka_unit_test(snapshots_come_and_go),
        cmocka_unit_test(snapshots_of_smallest_clusters),
        cmocka_unit_test(snapshots_on_a_backing_file),
        cmocka_unit_test(snapshots_of_compressed_content),
        cmocka_unit_test(snapshots_of_subclusters),
        cmocka_unit_test(snapshots_and_lazy_refcounts),
        cmocka_unit_test(snapshots_and_compressed_writes),
        cmocka_unit_test(a_data_file),
        cmocka_unit_test(a_data_file_on_a_backing_file),
        cmocka_unit_test(a_data_file_with_subclusters),
        cmocka_unit_test(a_raw_data_file),
        cmocka_unit_test(resized_with_a_data_file),
        cmocka_unit_test(resized_with_a_raw_data_file),
        cmocka_unit_test(bitmaps),
        cmocka_unit_test(bitmaps_of_a_disk_that_is_resized),
        cmocka_unit_test(bitmaps_on_a_backing_file),
        cmocka_unit_test(bitmaps_beside_snapshots),
        cmocka_unit_test(a_new_image_over_an_old_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
