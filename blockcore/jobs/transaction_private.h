/* transaction_private - what an action is, for transaction.c and the kinds of actions beside it */
#ifndef CAIRN_JOBS_TRANSACTION_PRIVATE_H
#define CAIRN_JOBS_TRANSACTION_PRIVATE_H

#include "blockcore/jobs/transaction.h"

#include "blockcore/base/list.h"

struct action;
struct change;

/* Steps of an action that has been prepared; absent: nothing to do. */
struct action_ops {
    /* Tells @change what the graph shall be; does not wait. */
    struct error *(*describe)(struct action *action, struct change *change)CONTROL_FN;
    /* The change was given up, and another one will be described. */
    void (*undescribe)(struct action *action) CO_FN CONTROL_FN;
    /* No request runs. */
    struct error *(*moment)(struct action *action)CO_FN;
    /* The same, after the moment of this one or of a later one, or the switch, has failed. An error says what could
     * not be undone. */
    struct error *(*undo_moment)(struct action *action)CO_FN;
    /* It has happened. Does not wait for storage. */
    void (*done)(struct action *action) CO_FN CONTROL_FN;
    /* The same, after all others are done; may wait for storage. */
    void (*settle)(struct action *action) CO_FN CONTROL_FN;
    /* It has not happened: undoes what was prepared. */
    void (*give_up)(struct action *action) CO_FN CONTROL_FN;
    /* At the end in any case. */
    void (*fini)(struct action *action) CO_FN CONTROL_FN;
};

struct action {
    const struct action_ops *ops;
    struct transaction *transaction;
    struct list link;
    size_t number;
};

/* @action is the first member of @size bytes; zeroed but for it. Becomes the last action. */
struct action *action_add(struct transaction *transaction, const struct action_ops *ops, size_t size) CONTROL_FN;

/* For how long it may hold back the requests of guests, in milliseconds; 0: as long as it takes. */
unsigned transaction_patience_ms(const struct transaction *transaction) CONTROL_FN;

/* Which bits a bitmap will have at the moment, after the actions that there are so far. */
enum bits_before {
    BITS_AS_THEY_ARE, /* and what is written until then */
    BITS_NONE,
    BITS_OTHERS,
};

/* The bitmap is taken. */
void transaction_set_bits(struct transaction *transaction, struct dirty_bitmap *bitmap,
                          enum bits_before bits) CONTROL_FN;
enum bits_before transaction_bits(struct transaction *transaction, const struct dirty_bitmap *bitmap) CONTROL_FN;

/* It is about to be destroyed. */
void transaction_forget_bitmap(struct transaction *transaction, struct dirty_bitmap *bitmap) CONTROL_FN;

#endif
