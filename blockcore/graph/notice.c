#include "blockcore/graph/notice.h"

#include "blockcore/base/memory.h"
#include "blockcore/graph/node.h"
#include "blockcore/runtime/loop.h"

#include <stdlib.h>

/* On its way to the control thread. */
struct posted_notice {
    struct loop_task task;
    struct notice notice;
    char *node_name;
    char *message;
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
    free(posted);
}

void notice_give(enum notice_kind kind, const struct node *node, const char *message, bool fatal)
{
    if (on_control_thread()) {
        give_here(&(struct notice){ .kind = kind, .node_name = node_name(node), .message = message, .fatal = fatal });
        return;
    }
    struct posted_notice *posted = xmalloc(sizeof(*posted));
    *posted = (struct posted_notice){
        .task.run = deliver,
        .node_name = xstrdup(node_name(node)),
        .message = xstrdup(message),
    };
    posted->notice = (struct notice){
        .kind = kind,
        .node_name = posted->node_name,
        .message = posted->message,
        .fatal = fatal,
    };
    loop_post(loop_control(), &posted->task);
}
