/* query-block-status (schema/block-status.json). */
#include "blockcore/io/block_status.h"

#include "blockcore/base/arena.h"
#include "blockcore/graph/node.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "rpc/server.h"
#include "schema/cairn_commands.h"

#include <errno.h>

#define EXTENTS_LARGE 256 /* from here on encoding takes longer than a turn of the loop should */

/* A question on its way to an I/O loop and back: walking the tables of an image is work that the control thread has no
 * time for. */
struct question {
    const struct query_block_status_arguments *arguments;
    struct arena *arena;
    struct handle *handle;
    struct node *base;
    struct range range;
    unsigned ask;
    bool base_left; /* the chain, since the question came */
    struct block_status_info *result;
};

static unsigned questions_of(const struct query_block_status_arguments *arguments)
{
    static const unsigned bits[] = {
        [BLOCK_STATUS_QUESTION_ALLOCATION] = ASK_ALLOCATED,
        [BLOCK_STATUS_QUESTION_ZERO] = ASK_ZERO,
        [BLOCK_STATUS_QUESTION_MAP] = ASK_MAP,
    };
    if (!arguments->has_want)
        return ASK_ALL;
    unsigned ask = 0;
    for (size_t i = 0; i < arguments->want_count; i++)
        ask |= bits[arguments->want[i]];
    return ask;
}

static struct block_status_extent describe(const struct question *question, const struct extent *extent)
{
    unsigned flags = extent->flags;
    bool map = question->ask & ASK_MAP;
    bool allocation = question->ask & ASK_ALLOCATED;
    return (struct block_status_extent){
        .offset = extent->offset,
        .length = extent->bytes,
        .has_depth = allocation,
        .depth = extent->depth,
        .has_present = allocation,
        .present = flags & EXTENT_PRESENT,
        .node = allocation && extent->layer ? arena_strdup(question->arena, node_name(extent->layer)) : NULL,
        .has_zero = question->ask & ASK_ZERO,
        .zero = flags & EXTENT_ZERO,
        .has_data = map,
        .data = flags & EXTENT_DATA,
        .has_compressed = map,
        .compressed = flags & EXTENT_COMPRESSED,
        .file = map && (flags & EXTENT_MAPPED) ? arena_strdup(question->arena, node_name(extent->file.node)) : NULL,
        .has_file_offset = map && (flags & EXTENT_MAPPED),
        .file_offset = extent->file_offset,
    };
}

static void answer(const struct question *question, const struct extents *extents)
{
    struct block_status_info *result = question->result;
    struct block_status_extent *items = arena_array(question->arena, extents->count, sizeof(*items));
    for (size_t i = 0; i < extents->count; i++)
        items[i] = describe(question, &extents->items[i]);
    result->extents = items;
    result->extents_count = extents->count;
    if (extents->count == 0)
        return;
    const struct block_status_extent *last = &items[extents->count - 1];
    result->next_offset = last->offset + last->length;
    result->has_next_offset = result->next_offset < range_end(question->range);
}

/* On an I/O loop. The extents name nodes, which stay as they are while the handle is entered. */
static int ask(void *arg)
{
    struct question *question = arg;
    const struct query_block_status_arguments *arguments = question->arguments;
    CLEANUP(extents_fini) struct extents extents;
    extents_init(&extents, arguments->max_extents);
    handle_enter(question->handle);
    question->base_left = question->base && !chain_contains(handle_node(question->handle), question->base);
    int ret = question->base_left ? -EINVAL
                                  : handle_block_status_entered(question->handle, question->range, question->ask,
                                                                question->base, arguments->include_base, &extents);
    if (ret == 0)
        answer(question, &extents);
    handle_leave(question->handle);
    return ret;
}

static struct error *check_range(struct question *question, const struct node *node)
{
    const struct query_block_status_arguments *arguments = question->arguments;
    uint64_t length = node_length(node);
    uint64_t bytes = arguments->has_length ? arguments->length : length - min_u64(arguments->offset, length);
    question->range = range_make(arguments->offset, bytes);
    if (!range_inside(question->range, length))
        return error_new("the range of %llu bytes from offset %llu on is not inside node '%s', which has %llu bytes",
                         (unsigned long long)bytes, (unsigned long long)arguments->offset, node_name(node),
                         (unsigned long long)length);
    return NULL;
}

static struct error *check_base(struct question *question, const struct node *node)
{
    const char *name = question->arguments->base;
    if (!name)
        return NULL;
    question->base = node_find(name);
    if (!question->base)
        return error_set_class(node_not_found(name), ERROR_DEVICE_NOT_FOUND);
    if (!chain_contains(node, question->base))
        return error_new("node '%s' is not in the backing chain of node '%s'", name, node_name(node));
    return NULL;
}

/* The node's length may have changed since the range was checked: that is what -EINVAL means here. */
static struct error *CO_FN ask_elsewhere(struct question *question)
{
    int ret = co_call_on(loop_io_next(), "query-block-status", ask, question);
    if (question->base_left)
        return error_new("node '%s' has left the backing chain of node '%s'", node_name(question->base),
                         question->arguments->node_name);
    if (ret < 0)
        return error_errno(-ret, "cannot find out the block status of node '%s'", question->arguments->node_name);
    return NULL;
}

struct error *handle_query_block_status(struct command_context *context,
                                        const struct query_block_status_arguments *arguments,
                                        struct block_status_info *result)
{
    struct question question = {
        .arguments = arguments, .arena = command_arena(context), .ask = questions_of(arguments), .result = result
    };
    struct node *node = node_find(arguments->node_name);
    if (!node)
        return error_set_class(node_not_found(arguments->node_name), ERROR_DEVICE_NOT_FOUND);
    struct error *err = check_range(&question, node);
    if (!err)
        err = check_base(&question, node);
    if (err || question.range.bytes == 0)
        return err;
    if (question.base)
        node_ref(question.base); /* before anything is awaited */
    err = handle_open(node, "query-block-status", 0, PERM_ALL, &question.handle);
    if (!err) {
        err = ask_elsewhere(&question);
        handle_close(question.handle);
    }
    node_unref(question.base);
    if (result->extents_count > EXTENTS_LARGE)
        command_expect_large_reply(context);
    return err;
}
