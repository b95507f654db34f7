/* chain_copy - what stream and commit have in common: they copy inside of a chain, once
 *
 *     overlay --backing--> filter --file--> top --backing--> mid --backing--> base
 *                             '- - - - - - - - - - - layers - -^                       nodes that the job needs
 *
 * The kind of job makes the filter, says what is copied and how, and switches the graph at the end. Here are the run,
 * errors by the client's policy, nodes that are writable for the time of the job, and the end, also of what hangs. */
#ifndef CAIRN_JOBS_CHAIN_COPY_H
#define CAIRN_JOBS_CHAIN_COPY_H

#include "blockcore/jobs/copier.h"
#include "blockcore/jobs/job.h"
#include "blockcore/runtime/sync.h"

#define CHAIN_LAYERS_MAX 256

struct change;
struct node;

struct chain_copy_ops {
    struct copier_ops copier; /* arg: the chain_copy; without failed */
    bool leaves_out; /* what fails and is ignored is left out, and the job fails in the end; else tried again */
};

/* Nodes that a job has made writable, with references. */
struct writable {
    struct node *nodes[CHAIN_LAYERS_MAX];
    size_t count;
};

/* Where the filter stands and what else is needed. */
struct chain_copy_nodes {
    struct node *filter; /* NULL: not made yet; the copy's own reference */
    struct node *place;  /* whose users get the filter */
    struct node *other;  /* one more that shall stay; NULL: none */
    struct node *layers[CHAIN_LAYERS_MAX];
    size_t layers_count;
    struct writable writable;
};

/* Embedded at the begin of a kind's own, on the heap; outlives the job where requests hang. */
struct chain_copy {
    const struct chain_copy_ops *ops;
    struct job *job; /* NULL: it has ended */
    char *owner;     /* in messages */
    struct chain_copy_nodes nodes;
    struct handle *handle;
    struct copier *copier;
    enum blockdev_on_error on_error;
    int left_out; /* the first error that was ignored */
    bool in_graph;
    bool switched; /* the filter's users have got something else already */
    struct co_queue told;
    bool closed;
    bool hangs;
    unsigned refs;
};

/* The layers of the chain from @top on, filters included, down to @end, exclusive (NULL: all). With references, as
 * those of the whole structure. Error: the chain is too long, or one of them is in use by another job. */
struct error *chain_nodes_add(struct chain_copy_nodes *nodes, struct node *top,
                              const struct node *end) CONTROL_FN MUST_CHECK;
/* The same down to what is right above @base, or the filters on it; an error also if a job uses base. */
struct error *chain_nodes_add_above(struct chain_copy_nodes *nodes, struct node *top,
                                    struct node *base) CONTROL_FN MUST_CHECK;
/* The layers become children of the inner node, without a role: its driver says what they share. */
struct error *chain_nodes_attach(const struct chain_copy_nodes *nodes, struct node *inner) CO_FN CONTROL_FN MUST_CHECK;
/* Drops all references, and restores what was made writable. NULL is allowed. */
void chain_nodes_let_go(struct chain_copy_nodes *nodes) CO_FN CONTROL_FN;

void chain_copy_init(struct chain_copy *copy, const struct chain_copy_ops *ops, struct job *job);
/* nodes.filter goes on top of nodes.place, letting others have @shared of it. @bytes, @granule: of what is copied. */
struct error *chain_copy_begin(struct chain_copy *copy, unsigned shared, uint64_t bytes, uint64_t granule,
                               uint64_t speed) CO_FN CONTROL_FN MUST_CHECK;

/* Those who use the filter, and the copy's own handle, shall use @node: part of a change. */
struct error *chain_copy_leave(struct chain_copy *copy, struct change *change, struct node *node) CONTROL_FN MUST_CHECK;

/* As the functions of a job's driver. */
struct error *chain_copy_run(struct chain_copy *copy) CO_FN;
void chain_copy_wake(struct chain_copy *copy) CONTROL_FN;
/* The job is over, well or not, or it could not begin; the copy goes. */
void chain_copy_end(struct chain_copy *copy) CO_FN CONTROL_FN;

/* @node and what it filters can be written from now on. Nothing happens to those that can be written anyway. */
struct error *writable_make(struct writable *writable, struct node *node) CO_FN CONTROL_FN MUST_CHECK;
/* In the end they are as they were; where their users forbid that, a node stays as it is. */
void writable_restore(struct writable *writable) CO_FN CONTROL_FN;
/* They stay as they are. */
void writable_forget(struct writable *writable) CO_FN CONTROL_FN;

/* @node below filters. */
struct node *layer_of(struct node *node) CONTROL_FN;
/* The layer from @top down that is called @name: as its node's filename, or as its overlay's header calls it. NULL:
 * none. */
struct node *chain_find_file(struct node *top, const char *name) CONTROL_FN;
/* The first layer from @top down whose backing layer is @base. NULL: @base is not below. */
struct node *chain_find_overlay(struct node *top, const struct node *base) CONTROL_FN;

/* What the header of @overlay says of its backing file becomes the name and format of @base; @file, if not NULL,
 * instead of its name. @mask_protocol: "raw" for what has no format. @base NULL: none. */
struct error *chain_write_backing(struct node *overlay, const struct node *base, const char *file, bool mask_protocol)
    CO_FN CONTROL_FN MUST_CHECK;

#endif
