/* power_cut - scenes in which the power goes
 *
 * Workers write, zero, discard and flush at the same time, on a disk that records when each of its writes and flushes
 * began and ended. Then, for each moment: what was written before the last flush began is on the disk; of what came
 * later, any part may be, in any order, down to single sectors. Each such disk must hold a consistent image (leaks are
 * allowed), on which a dirty bitmap says of itself that it is worth nothing (if it may) or has all that was written,
 * every sector shows what was last flushed, or something that was written later; and snapshots show what they always
 * did. A sample is shown to qemu-img check as well.
 *
 *     power_cut.c         the scene: an image, a disk, what happens, moment by moment
 *     power_cut_guest.c   requests, resizes, snapshots, bitmaps; and what each sector may show
 *     power_cut_disk.c    looking at a disk that may be left
 *
 * CAIRN_TEST_SEED chooses the requests, CAIRN_POWER_CUTS how many moments of each run are looked at (0: all), and how
 * many more of those in which snapshots come and go. */
#ifndef CAIRN_TESTS_QCOW2_POWER_CUT_H
#define CAIRN_TESTS_QCOW2_POWER_CUT_H

#include "blockcore/base/sanitizer.h"
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
    bool write_ahead;     /* the bitmaps are never in use */
    bool version_2;       /* which has no mark for an image whose refcounts are not as they should be */
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

/* There is one. */
struct guest {
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
};

extern struct guest guest;

/* power_cut.c */
void run_scene(const struct scene *scene, uint64_t seed);

#define POWER_CUT(name, ...)                                                                                           \
    NODE_TEST(name)                                                                                                    \
    {                                                                                                                  \
        run_scene(&(struct scene){ __VA_ARGS__ }, __LINE__);                                                           \
    }

/* power_cut_guest.c */

void fill_sector(uint8_t *sector, uint64_t value);
/* False: it is not the same number all over. */
bool sector_value(const uint8_t *sector, uint64_t *value);
void add_version(size_t sector, uint64_t value, size_t begin, size_t end);
/* May a sector show this when the power went at @time, and @flushed is when the last flush began that had ended? */
bool is_allowed(size_t sector, uint64_t value, size_t flushed, size_t time);
/* When the last of the guest's flushes began that have ended. */
size_t last_flush(size_t time);
void flush(void);
/* So many requests. */
void work(int steps);
void resize(void);
void make_and_drop_snapshots(void);
void change_bitmaps(void);
/* Moments of which more are looked at than of others. */
void look_at(size_t begin, size_t end);

/* power_cut_disk.c */

/* Of the secret that encrypted scenes have. */
void make_cipher(void);
void free_cipher(void);
void check_disk(struct moment *moment, enum survivors survivors, bool witness);
/* Saves the disk and ends the test. */
void give_up(struct image image, const struct moment *moment, enum survivors survivors);

#endif
