/* slab - aligned blocks that go back to the system when nobody has them
 *
 * Blocks of one size lie side by side in mappings of 1 MiB, whose first block tells which of the others are free. The
 * heap is no place for them: it gives an aligned block out of a larger one, and what is left of that fits nobody, so
 * under requests of many sizes it grows far beyond what is in use. */
#ifndef CAIRN_RUNTIME_SLAB_H
#define CAIRN_RUNTIME_SLAB_H

#define SLAB_CLASSES 5 /* 4 KiB << 0 to 4 KiB << 4 */

/* A block of 4 KiB << @class, aligned to its size, with any content. NULL when there is no memory. Any thread; a lock
 * is held for some hundred nanoseconds, or for a call of mmap(). */
void *slab_take(unsigned class);

/* @block of slab_take(@class). Its pages are the system's again: a system call. Any thread. */
void slab_give(void *block, unsigned class);

#endif
