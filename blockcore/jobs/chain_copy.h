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
#include "blockcore/jobs/leave.h"

#define CHAIN_LAYERS_MAX 256

struct change;
struct node;

/* What a client says of either kind. */
struct chain_copy_options {
    const char *id;
    unsigned flags;               /* enum job_flags */
    const char *backing_file;     /* what the overlay's header will call what it stands on; NULL: its filename */
    bool mask_protocol;           /* the header says "raw" of what has no format */
    const char *filter_node_name; /* NULL: made up */
    uint64_t speed;
    enum blockdev_on_error on_error;
};

struct chain_copy;

struct chain_copy_ops {
    struct job_driver driver;
    size_t size;              /* of the kind's own structure, which begins with the copy */
    struct copier_ops copier; /* arg: the chain_copy; without failed */
    bool leaves_out; /* what fails and is ignored is left out, and the job fails in the end; else tried again */
    /* The last step: the header and the graph. Checks chain_copy_is_over() after each wait. Is called again when it
     * fails with EAGAIN: another job has changed the chain around it meanwhile. */
    struct error *(*switch_over)(struct chain_copy *copy)CO_FN;
    /* With requests held back, at the point of no return: is the chain still what switch_over saw? Absent: no matter.
     */
    struct error *(*check_chain)(struct chain_copy *copy)CONTROL_FN;
    /* No copy must harm what guests write without the filter, from now on. Absent: none does. */
    void (*let_guests_go)(struct chain_copy *copy) CO_FN;
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
    struct child *frozen[CHAIN_LAYERS_MAX]; /* edges between them, and those to what they stand on */
    size_t frozen_count;
    struct writable writable;
};

/* On the heap; outlives the job where requests hang. */
struct chain_copy {
    const struct chain_copy_ops *ops;
    struct job *job; /* NULL: it has ended */
    char *owner;     /* in messages */
    char *backing_file;
    bool mask_protocol;
    struct chain_copy_nodes nodes;
    struct handle *handle; /* the copies'; it stays on the filter, so that nobody waits for copies that hang */
    struct handle *guard;  /* holds the permissions of the copies, and leaves the filter with its users */
    struct copier *copier;
    enum blockdev_on_error on_error;
    int left_out; /* the first error that was ignored */
    bool in_graph;
    bool switched; /* the filter's users have got something else already */
    struct job_step step;
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
/* The edges from @top down to @end (NULL: all) stay as they are, until chain_nodes_thaw(). The nodes above them are
 * among the layers, or are filters on @end, which the caller keeps. */
void chain_nodes_freeze(struct chain_copy_nodes *nodes, struct node *top, const struct node *end,
                        const char *user) CONTROL_FN;
/* NULL is allowed. */
void chain_nodes_thaw(struct chain_copy_nodes *nodes) CONTROL_FN;
/* Drops all references, and restores what was made writable. NULL is allowed. */
void chain_nodes_let_go(struct chain_copy_nodes *nodes) CO_FN CONTROL_FN;

/* A job, and its copy with a filter still to be made on top of @place. The kind sets up the rest, with
 * chain_copy_begin(), and calls chain_copy_start() with the outcome. */
struct error *chain_copy_create(const struct chain_copy_ops *ops, const struct chain_copy_options *options,
                                struct node *place, struct chain_copy **out) CONTROL_FN MUST_CHECK;
/* nodes.filter goes on top of nodes.place, letting others have @shared of it. @bytes, @granule: of what is copied. */
struct error *chain_copy_begin(struct chain_copy *copy, unsigned shared, uint64_t bytes, uint64_t granule)
    CO_FN CONTROL_FN MUST_CHECK;
/* The job begins to work. With an error, which is returned, everything goes. */
struct error *chain_copy_start(struct chain_copy *copy, struct error *err) CO_FN CONTROL_FN MUST_CHECK;

/* Of a job of either kind; NULL while it is being made, and when it is over. */
struct chain_copy *chain_copy_of(const struct job *job);
/* It was cancelled, or has ended already: whatever still goes on shall not begin anything new. */
bool chain_copy_is_over(const struct chain_copy *copy) CONTROL_FN;
/* The filter's users shall use @node: part of a change, which is made. The point of no
 * return: who cancels the job afterwards comes too late. */
struct error *chain_copy_switch(struct chain_copy *copy, struct change *change, struct node *node)
    CO_FN CONTROL_FN MUST_CHECK;

/* For the tables of drivers. */
struct error *chain_copy_run(struct job *job) CO_FN;
struct error *chain_copy_prepare(struct job *job) CO_FN;
void chain_copy_finish(struct job *job, bool success) CO_FN;
void chain_copy_wake(struct job *job) CONTROL_FN;
void chain_copy_speed_changed(struct job *job) CONTROL_FN;

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

/* Can a header name it? Not a window of a file, nor raw over another format: then a client has to say what it names. */
struct error *chain_check_name(struct node *base) CONTROL_FN MUST_CHECK;

/* What the header of @overlay says of its backing file becomes the name and format of @base; @file, if not NULL,
 * instead of its name. @mask_protocol: "raw" for what has no format. @base NULL: none. */
struct error *chain_write_backing(struct node *overlay, struct node *base, const char *file, bool mask_protocol)
    CO_FN CONTROL_FN MUST_CHECK;
/* The graph did not follow: the header names the layer below @overlay again, with its whole name. One that is ahead of
 * the graph reads the same, but later jobs do not know of the layer that it names, and let it go. */
void chain_restore_backing(struct node *overlay, bool mask_protocol) CO_FN CONTROL_FN;

#endif
