/* gate - a filter that holds requests until it is told to let them go
 *
 * With it a test acts while a request is in flight, without ever sleeping:
 *
 *     gate_hold(gate, GATE_WRITE, GATE_ALL);        writes that arrive from now on wait
 *     start a write ...
 *     gate_wait_held(gate, 1);                      awaits that it has arrived
 *     act ...
 *     gate_release(gate, GATE_WRITE, GATE_ALL);     it goes on, and so does every later one
 *
 * A request is held before it reaches the node below. The gate begins open. All functions may be called on any thread
 * while the caller keeps the node. */
#ifndef CAIRN_FILTERS_GATE_H
#define CAIRN_FILTERS_GATE_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>
#include <stdint.h>

struct node;

/* Kinds of requests; bits that can be combined. */
enum gate_kind {
    GATE_READ = 0x1,
    GATE_WRITE = 0x2,
    GATE_WRITE_ZEROES = 0x4,
    GATE_DISCARD = 0x8,
    GATE_FLUSH = 0x10,
    GATE_BLOCK_STATUS = 0x20,
    GATE_ANY = 0x3f,
};

#define GATE_KINDS 6

/* As a count: without limit. */
#define GATE_ALL UINT32_MAX

/* Is the node's driver "gate"? The functions below want nothing else. */
bool node_is_gate(const struct node *node);

/* The next @count requests of @kinds, taken together, are held, whatever was told about these kinds before; later ones
 * pass. */
void gate_hold(struct node *node, unsigned kinds, uint32_t count);

/* Lets the @count requests of @kinds go on that have waited longest; the gate stays as it is for others. With GATE_ALL
 * it is open for @kinds afterwards. */
void gate_release(struct node *node, unsigned kinds, uint32_t count);

/* Requests of @kinds that are held now. */
uint32_t gate_held(struct node *node, unsigned kinds);

/* Requests of @kinds that the gate has seen, held ones included. */
uint64_t gate_seen(struct node *node, unsigned kinds);

/* Waits until at least @count requests of any kind are held. */
void gate_wait_held(struct node *node, uint32_t count) CO_FN;

#endif
