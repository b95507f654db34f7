/* copy_on_read - the filter as a job's means to fill an overlay that is in use
 *
 * Made by a job, the filter is as one that a client adds, and besides copies what it is told to copy. */
#ifndef CAIRN_FILTERS_COPY_ON_READ_H
#define CAIRN_FILTERS_COPY_ON_READ_H

#include "blockcore/base/range.h"
#include "blockcore/graph/node.h"
#include "blockcore/io/block_status.h"

#include <stdbool.h>
#include <stddef.h>

/* The filter of @owner ("block job 'x'") on @node, which nobody uses yet. @bottom: the deepest layer that is copied,
 * which the caller keeps; NULL: the whole chain is, and what it has not reads as zero once the overlay stands alone.
 * @layers: the nodes below that are in use with it. */
struct error *copy_on_read_create(const char *name, const char *owner, struct node *node, struct node *bottom,
                                  struct node *const *layers, size_t layers_count, struct node **out)
    CO_FN CONTROL_FN MUST_CHECK;

/* Does an extent, of a question about allocation and zeroes to the filter, have to be copied? */
bool copy_on_read_copies(struct node *filter, const struct extent *extent);

/* Copies what is to be copied of the range, and of the clusters around it. Inside of a handle on the filter, on any
 * loop. 0 or -errno; then *@write_failed says whether it was the overlay that failed. */
int copy_on_read_populate(struct node *filter, struct range range, bool *write_failed) CO_FN;

/* Nothing is copied any more, but by what guests read: the filter may go. Copies that hang while they read what is
 * below hold no write up, and will write nothing. Waits for those that are writing the overlay. */
void copy_on_read_end(struct node *filter) CO_FN CONTROL_FN;

#endif
