/* Looking at what may be on the disk after the power has gone. */
#include "tests/unit/qcow2/power_cut.h"

#include "blockcore/base/memory.h"
#include "blockcore/crypto/cipher.h"
#include "blockcore/objects/object.h"

void give_up(struct image image, const struct moment *moment, enum survivors survivors)
{
    save("failed.qcow2", image.bytes, image.length); /* the directory stays when the program is aborted */
    print_error("after %zu of %zu events, survivors %d; the disk is in %s\n", moment->time, recorder.event_count,
                (int)survivors, in_dir("failed.qcow2"));
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
void make_cipher(void)
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
    if (!image_find_bitmap(image, "kept", &bitmap) || (bitmap.in_use && (whole || guest.scene->write_ahead))) {
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
    bool unmarked = guest.scene->version_2 && guest.scene->snapshots;
    int status = check_by_witness(unmarked ? "-r all" : "");
    if (image_is_dirty(opened) || (status != 0 && (dirty || status != 3))) {
        print_error("it is not right after it was opened: %d\n", status);
        give_up(image, moment, survivors);
    }
    check_sectors(opened, moment, survivors);
    check_pictures(opened, moment, survivors);
    free(bytes);
}

void check_disk(struct moment *moment, enum survivors survivors, bool witness)
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
    bool whole = moment->time == recorder.event_count && survivors == ALL;
    bool unmarked = guest.scene->version_2 && guest.scene->snapshots && !whole;
    struct findings findings = { .late = guest.scene->lazy, .flags_may_lack = unmarked };
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
        int status = check_by_witness(image.decrypt ? "" : image_is_dirty(image) || unmarked ? "-r all" : "-U");
        if (status != 0 && status != 3)
            give_up(image, moment, survivors);
        check_after_opening(image, moment, survivors);
    }
    trial_end(&trial);
}

void free_cipher(void)
{
    cipher_free(steal(&cipher));
    object_del_all();
}
