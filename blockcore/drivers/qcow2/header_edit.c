/* Another backing file in the header of an image that is in use. What the header says besides, known or not, stays.
 *
 * Name, format and the other extensions may lie in several sectors, and the power may go between any two of them. What
 * switches from one backing file to the other is one write of the first sector, which has the place of the name and the
 * format. So that it may:
 *
 *     now    | fields, extensions ............ | old name |                    |
 *     1      |                                            | old name once more |   where the new header has nothing;
 *     2      | fields, short |                            | old name           |   first sector: nothing lies between,
 *     3      | fields, short | ... extensions | new name   | old name           |   so all of that may be torn
 *     4      | fields, extensions ............ | new name | (old name)         |   first sector: the switch
 *     5      | fields, extensions ............ | new name |                    |
 *
 * Each step is stable before the next. Steps 1, 3 and 5 change only bytes that nothing leads to, so that it does not
 * matter which of their sectors are there. A first sector that is short has all extensions but the table of names of
 * features. Where the old name is not in the way it stays where it is; where all of it is one sector there is only
 * step 4. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"

#include <errno.h>
#include <string.h>

/* The steps --------------------------------------------------------------------------------------------------- */

enum step {
    COPY_NAME,
    SHORTEN,
    PREPARE,
    SWITCH,
    TIDY,
    STEPS,
};

void qcow2_header_change_fini(struct qcow2_header_change *change)
{
    free(change->now);
    free(change->next);
    free(change->goal);
    free(change->meantime);
    *change = (struct qcow2_header_change){ 0 };
}

/* The part of a name that is not in the first sector. */
static struct range behind_first_sector(size_t offset, size_t bytes)
{
    uint64_t begin = max_u64(offset, QCOW2_SECTOR_BYTES);
    return range_between(begin, max_u64(begin, offset + bytes));
}

/* Where the old name can stay until nothing leads to it any more. */
static struct error *place_old_name(struct qcow2_header_change *change)
{
    size_t old_at = (size_t)load_be64(change->now + QCOW2_FIELD_BACKING);
    struct range needed = behind_first_sector(0, change->goal_bytes);
    change->name_at = old_at;
    if (!range_overlaps(behind_first_sector(old_at, change->name_bytes), needed))
        return NULL;
    size_t begin = (size_t)align_up(max_u64(change->goal_bytes, old_at + change->name_bytes), 8);
    begin = (size_t)max_u64(begin, QCOW2_SECTOR_BYTES);
    if (begin + change->name_bytes > change->bytes)
        return error_new("the header has no room for the names of the old and of the new backing file at once, "
                         "without which a power cut could leave neither");
    change->name_at = begin;
    return NULL;
}

static struct error *plan_meantime(struct qcow2_header_change *change, const struct qcow2_header *old)
{
    change->meantime = xcalloc(1, QCOW2_SECTOR_BYTES);
    struct error *err = place_old_name(change);
    if (!err && !qcow2_header_format_short(old, change->name_at, change->meantime))
        err = error_new("the header extensions of the image do not fit into its first sector, without which a power "
                        "cut could leave neither the old backing file nor the new one");
    return err;
}

static bool only_first_sector_changes(const struct qcow2_header_change *change)
{
    return memcmp(change->now + QCOW2_SECTOR_BYTES, change->goal + QCOW2_SECTOR_BYTES,
                  change->bytes - QCOW2_SECTOR_BYTES) == 0;
}

struct error *qcow2_header_change_plan(struct qcow2_header_change *change, const void *old, size_t bytes,
                                       const char *file, const char *format)
{
    *change = (struct qcow2_header_change){ .bytes = bytes };
    CLEANUP(qcow2_header_fini) struct qcow2_header before = { 0 };
    CLEANUP(qcow2_header_fini) struct qcow2_header after = { 0 };
    struct error *err = qcow2_header_parse(old, bytes, &before);
    if (!err)
        err = qcow2_header_parse(old, bytes, &after);
    if (err)
        return err;
    free(after.backing_file);
    free(after.backing_format);
    after.backing_file = xstrdup_or_null(file);
    after.backing_format = xstrdup_or_null(file ? format : NULL);
    change->now = xmalloc(bytes);
    change->next = xmalloc(bytes);
    change->goal = xmalloc(bytes);
    change->name_bytes = before.backing_file ? strlen(before.backing_file) : 0;
    memcpy(change->next, old, bytes);
    memcpy(change->now, old, bytes);
    err = qcow2_header_format(&after, change->goal, &change->goal_bytes);
    if (err)
        return err;
    if (only_first_sector_changes(change)) {
        change->step = SWITCH;
        return NULL;
    }
    return plan_meantime(change, &before);
}

/* The name as it is now, where it stays for the time being. */
static void keep_name(const struct qcow2_header_change *change)
{
    size_t at = (size_t)load_be64(change->now + QCOW2_FIELD_BACKING);
    struct range kept = behind_first_sector(change->name_at, change->name_bytes);
    size_t skipped = (size_t)kept.offset - change->name_at;
    if (kept.bytes > 0)
        memcpy(change->next + kept.offset, change->now + at + skipped, (size_t)kept.bytes);
}

bool qcow2_header_change_next(struct qcow2_header_change *change)
{
    memcpy(change->now, change->next, change->bytes);
    switch ((enum step)change->step++) {
    case COPY_NAME:
        keep_name(change);
        return true;
    case SHORTEN:
        memcpy(change->next, change->meantime, QCOW2_SECTOR_BYTES);
        return true;
    case PREPARE:
        memcpy(change->next + QCOW2_SECTOR_BYTES, change->goal + QCOW2_SECTOR_BYTES,
               change->bytes - QCOW2_SECTOR_BYTES);
        keep_name(change);
        return true;
    case SWITCH:
        memcpy(change->next, change->goal, QCOW2_SECTOR_BYTES);
        return true;
    case TIDY:
        memcpy(change->next, change->goal, change->bytes);
        return true;
    default:
        return false;
    }
}

/* The image --------------------------------------------------------------------------------------------------- */

/* The sectors that differ, from the first to the last. */
static struct range difference(const struct qcow2_header_change *change)
{
    size_t begin = 0;
    size_t end = change->bytes;
    while (begin < end && change->now[begin] == change->next[begin])
        begin++;
    while (end > begin && change->now[end - 1] == change->next[end - 1])
        end--;
    return range_align_out(range_between(begin, end), QCOW2_SECTOR_BYTES);
}

static int write_step(struct qcow2 *q, const struct qcow2_header_change *change) CO_FN;

static int write_step(struct qcow2 *q, const struct qcow2_header_change *change)
{
    struct range place = difference(change);
    if (place.bytes == 0)
        return 0;
    int ret = child_pwrite(q->file, place.offset, change->next + place.offset, (size_t)place.bytes, 0);
    return ret < 0 ? ret : child_flush(q->file);
}

/* Reads, changes and writes the first cluster. Nobody else writes to the header meanwhile. */
static struct error *rewrite(struct qcow2 *q, const char *file, const char *format) CO_FN;

static struct error *rewrite(struct qcow2 *q, const char *file, const char *format)
{
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    CLEANUP(free) uint8_t *old = xmalloc(bytes);
    CLEANUP(qcow2_header_change_fini) struct qcow2_header_change change = { 0 };
    int ret = child_pread(q->file, 0, old, bytes);
    if (ret < 0)
        return error_errno(-ret, "cannot read the header");
    struct error *err = qcow2_header_change_plan(&change, old, bytes, file, format);
    if (err)
        return err;
    while (ret == 0 && qcow2_header_change_next(&change))
        ret = write_step(q, &change);
    if (ret < 0)
        return error_errno(-ret, "cannot write the header");
    free(q->header.backing_file);
    free(q->header.backing_format);
    q->header.backing_file = xstrdup_or_null(file);
    q->header.backing_format = xstrdup_or_null(file ? format : NULL);
    return NULL;
}

struct error *qcow2_change_backing_file(struct node *node, const char *file, const char *format)
{
    struct qcow2 *q = node_state(node);
    int ret = qcow2_may_write(q);
    if (ret < 0)
        return error_errno(-ret, "the header cannot be written");
    if (file && q->raw_data)
        return error_new("the raw data file of the image would not show what is below");
    CLEANUP(co_mutex_release) struct co_mutex *metadata = co_mutex_hold(&q->metadata);
    CLEANUP(co_mutex_release) struct co_mutex *header = co_mutex_hold(&q->header_mutex);
    return rewrite(q, file, format);
}
