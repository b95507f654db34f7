/* list - intrusive doubly linked ring
 *
 * A struct list is either a head or a link inside an element; an empty head points at itself. A link that is in no
 * list points at itself too, so removing twice is harmless. */
#ifndef CAIRN_BASE_LIST_H
#define CAIRN_BASE_LIST_H

#include "blockcore/base/annotations.h"

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *prev;
};

#define LIST_INIT(head)                                                                                                \
    {                                                                                                                  \
        &(head), &(head)                                                                                               \
    }

static inline void list_init(struct list *list)
{
    list->next = list;
    list->prev = list;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

/* At the end, so that a list is a queue. @link must be in no list. */
static inline void list_append(struct list *head, struct list *link)
{
    link->next = head;
    link->prev = head->prev;
    head->prev->next = link;
    head->prev = link;
}

static inline void list_prepend(struct list *head, struct list *link)
{
    list_append(head->next, link);
}

static inline void list_remove(struct list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

/* Takes the first link out; NULL when the list is empty. */
static inline struct list *list_take_first(struct list *head)
{
    struct list *first = head->next;
    if (first == head)
        return NULL;
    list_remove(first);
    return first;
}

/* Moves all of @from to the end of @to; @from is empty afterwards. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define list_entry(link, type, member) CONTAINER_OF(link, type, member)

#define list_first(head, type, member) (list_empty(head) ? NULL : list_entry((head)->next, type, member))

/* The body must not remove @pos; see list_for_each_safe. */
#define list_for_each(pos, head, member)                                                                               \
    for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head);                             \
         pos = list_entry(pos->member.next, __typeof__(*pos), member))

/* The body may remove @pos, and nothing else. */
#define list_for_each_safe(pos, following, head, member)                                                               \
    for (pos = list_entry((head)->next, __typeof__(*pos), member),                                                     \
        following = list_entry(pos->member.next, __typeof__(*pos), member);                                            \
         &pos->member != (head); pos = following, following = list_entry(pos->member.next, __typeof__(*pos), member))

#endif
