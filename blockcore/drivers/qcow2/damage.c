/* What is done about a damaged image: it is said once, the header says so from then on, and nothing is written any
 * more. Requests go on reading what can be read. */
#include "blockcore/drivers/qcow2/qcow2_private.h"

#include "blockcore/base/endian.h"
#include "blockcore/base/memory.h"
#include "blockcore/graph/notice.h"

#include <errno.h>
#include <stdarg.h>

int qcow2_set_features(struct qcow2 *q, uint64_t set, uint64_t clear)
{
    co_mutex_lock(&q->header_mutex);
    uint64_t wanted = (q->header.incompatible & ~clear) | set;
    int ret = 0;
    if (wanted != q->header.incompatible) {
        uint8_t field[8];
        store_be64(field, wanted);
        ret = child_pwrite(q->file, QCOW2_FIELD_INCOMPATIBLE, field, sizeof(field), 0);
        if (ret == 0)
            ret = child_flush(q->file);
        if (ret == 0)
            q->header.incompatible = wanted;
    }
    co_mutex_unlock(&q->header_mutex);
    return ret;
}

int qcow2_corrupt(struct qcow2 *q, struct range place, const char *format, ...)
{
    if (atomic_exchange(&q->corrupt, true))
        return -EIO;
    va_list args;
    va_start(args, format);
    CLEANUP(free) char *message = xvasprintf(format, args);
    va_end(args);
    notice_give(&(struct notice){
        .kind = NOTICE_IMAGE_CORRUPTED,
        .node_name = node_name(q->node),
        .message = message,
        .place = place,
        .fatal = q->writable,
    });
    /* Whether or not the mark can be made: in memory the image is marked. */
    if (q->writable && q->geometry.version >= 3)
        (void)qcow2_set_features(q, QCOW2_CORRUPT, 0);
    return -EIO;
}
