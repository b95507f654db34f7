#include "blockcore/runtime/file_private.h"

/* Those who wait are woken after this many bytes, so that they prepare the next writes while we do the rest. */
#define WAKE_EVERY_BYTES (256 * 1024)

struct file_write {
    struct list link;
    struct co_event done;
    uint64_t offset;
    const struct iov *iov;
    int result;
};

static void run_writer(struct pool_job *job);

void file_writer_init(struct file_writer *writer)
{
    spinlock_init(&writer->guard);
    list_init(&writer->queue);
    writer->active = false;
    writer->job.run = run_writer;
}

static void wake_done(struct list *done)
{
    struct list *link;
    while ((link = list_take_first(done)))
        co_event_set(&list_entry(link, struct file_write, link)->done);
}

/* Carries out all of @batch. The last writes stay in @done, not woken. */
static void write_batch(int fd, struct list *batch, struct list *done)
{
    struct list *link;
    size_t bytes = 0;
    while ((link = list_take_first(batch))) {
        if (bytes >= WAKE_EVERY_BYTES) {
            wake_done(done);
            bytes = 0;
        }
        struct file_write *write = list_entry(link, struct file_write, link);
        write->result = write_blocking(fd, write->offset, write->iov);
        bytes += write->iov->bytes;
        list_append(done, link);
    }
}

/* Moves all that is queued to @batch, or gives up being the writer when there is nothing. */
static bool take_batch(struct file_writer *writer, struct list *batch)
{
    spinlock_lock(&writer->guard);
    list_splice(batch, &writer->queue);
    writer->active = !list_empty(batch);
    spinlock_unlock(&writer->guard);
    return !list_empty(batch);
}

/* The file may be destroyed as soon as its last write has been woken. So the writes of a batch are woken only when the
 * next batch is in our hands, or when we do not touch the file any more. */
static void run_writer(struct pool_job *job)
{
    struct file_io *file = CONTAINER_OF(job, struct file_io, writer.job);
    struct list batch, done;
    list_init(&batch);
    list_init(&done);
    while (take_batch(&file->writer, &batch)) {
        wake_done(&done);
        write_batch(file->fd, &batch, &done);
    }
    wake_done(&done);
}

int file_writer_write(struct file_io *file, uint64_t offset, const struct iov *iov)
{
    struct file_writer *writer = &file->writer;
    struct file_write write = { .offset = offset, .iov = iov };
    co_event_init(&write.done);

    spinlock_lock(&writer->guard);
    list_append(&writer->queue, &write.link);
    bool begin = !writer->active;
    writer->active = true;
    spinlock_unlock(&writer->guard);
    if (begin)
        pool_submit(file->domain, &file->writer.job);
    co_event_wait(&write.done, "a write");
    return write.result;
}

int file_writer_write_here(struct file_io *file, uint64_t offset, const struct iov *iov)
{
    struct file_writer *writer = &file->writer;
    spinlock_lock(&writer->guard);
    bool here = !writer->active;
    writer->active = true;
    spinlock_unlock(&writer->guard);
    if (!here)
        return file_writer_write(file, offset, iov);

    int ret = write_blocking(file->fd, offset, iov);
    /* What other threads have queued meanwhile is not for this one to do. */
    spinlock_lock(&writer->guard);
    writer->active = !list_empty(&writer->queue);
    bool hand_over = writer->active;
    spinlock_unlock(&writer->guard);
    if (hand_over)
        pool_submit(file->domain, &file->writer.job);
    return ret;
}
