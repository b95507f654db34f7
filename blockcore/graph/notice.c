#include "blockcore/graph/notice.h"

#include "blockcore/base/memory.h"
#include "blockcore/runtime/loop.h"

#include <stdlib.h>

/* On its way to the control thread. */
struct posted_notice {
    struct loop_task task;
    struct notice notice;
    char *node_name;
    char *message;
    char *client;
};

static struct {
    void (*call)(const struct notice *notice, void *arg);
    void *arg;
} listener;

void notice_set_listener(void (*call)(const struct notice *notice, void *arg), void *arg)
{
    listener.call = call;
    listener.arg = arg;
}

static void give_here(const struct notice *notice)
{
    if (listener.call)
        listener.call(notice, listener.arg);
}

static void deliver(struct loop_task *task)
{
    struct posted_notice *posted = CONTAINER_OF(task, struct posted_notice, task);
    give_here(&posted->notice);
    free(posted->node_name);
    free(posted->message);
    free(posted->client);
    free(posted);
}

void notice_give(const struct notice *notice)
{
    if (on_control_thread()) {
        give_here(notice);
        return;
    }
    struct posted_notice *posted = xmalloc(sizeof(*posted));
    *posted = (struct posted_notice){
        .task.run = deliver,
        .notice = *notice,
        .node_name = xstrdup(notice->node_name),
        .message = xstrdup(notice->message),
        .client = notice->client ? xstrdup(notice->client) : NULL,
    };
    posted->notice.node_name = posted->node_name;
    posted->notice.message = posted->message;
    posted->notice.client = posted->client;
    loop_post(loop_control(), &posted->task);
}
