/* The flag in an entry that says that the refcount of what it leads to is exactly one, so that it may be written in
 * place. It is corrected after the refcounts are stable, since it relies on them. */
#include "blockcore/drivers/qcow2/check_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/runtime/buffer.h"

#include <errno.h>

/* *@wrong: the flag has to be turned over. What will not be is counted. */
static int compare_flag(struct check *check, uint64_t entry, uint64_t offset, bool may_fix, bool *wrong)
{
    uint64_t count = 1;
    int ret = 0;
    if (offset != UINT64_MAX)
        ret = check_stored(check, offset >> check->q->geometry.cluster_bits, &count);
    *wrong = ret == 0 && (count == 1) != ((entry & ENTRY_COPIED) != 0);
    if (*wrong && !may_fix) {
        check->numbers.in_tables++;
        *wrong = false;
    }
    return ret;
}

static int check_entries(struct check *check, uint8_t *table, bool may_fix, uint64_t *changed)
{
    const struct geometry *geometry = &check->q->geometry;
    for (uint64_t i = 0; i < UINT64_C(1) << geometry->l2_bits; i++) {
        uint8_t *at = table + (i << geometry->l2_entry_bits);
        uint64_t entry = load_be64(at);
        uint64_t host = entry_offset(entry);
        bool has_host = host || (geometry->data_file && (entry & ENTRY_COPIED));
        if ((entry & ENTRY_COMPRESSED) || !has_host)
            continue;
        bool wrong;
        int ret = compare_flag(check, entry, geometry->data_file ? UINT64_MAX : host, may_fix, &wrong);
        if (ret < 0)
            return ret;
        if (wrong) {
            store_be64(at, entry ^ ENTRY_COPIED);
            ++*changed;
        }
    }
    return 0;
}

static int check_table(struct check *check, uint64_t offset, uint8_t *table)
{
    uint64_t changed = 0;
    bool may_fix = (check->fix & FIX_ERRORS) && check_may_write_l2(check, offset);
    int ret = check_read_table(check, offset, table);
    if (ret == 0)
        ret = check_entries(check, table, may_fix, &changed);
    if (ret == 0 && changed)
        ret = child_pwrite(check->q->file, offset, table, (size_t)cluster_bytes(&check->q->geometry), 0);
    if (ret == 0)
        check->numbers.corruptions_fixed += changed;
    return ret;
}

static int check_l1_entry(struct check *check, uint32_t i)
{
    struct qcow2 *q = check->q;
    bool wrong;
    int ret = compare_flag(check, q->l1[i], entry_offset(q->l1[i]), check->fix & FIX_ERRORS, &wrong);
    if (ret < 0 || !wrong)
        return ret;
    uint8_t field[8];
    store_be64(field, q->l1[i] ^ ENTRY_COPIED);
    ret = child_pwrite(q->file, q->header.l1_offset + i * sizeof(uint64_t), field, sizeof(field), 0);
    if (ret < 0)
        return ret;
    q->l1[i] ^= ENTRY_COPIED;
    check->numbers.corruptions_fixed++;
    return 0;
}

int check_copied(struct check *check)
{
    struct qcow2 *q = check->q;
    size_t bytes = (size_t)cluster_bytes(&q->geometry);
    uint8_t *table = buffer_get(bytes);
    int ret = table ? 0 : -ENOMEM;
    for (uint32_t i = 0; ret == 0 && i < q->l1_entries; i++) {
        if (!entry_offset(q->l1[i]))
            continue;
        ret = check_l1_entry(check, i);
        if (ret == 0)
            ret = check_table(check, entry_offset(q->l1[i]), table);
    }
    buffer_put(table, bytes);
    return ret;
}
