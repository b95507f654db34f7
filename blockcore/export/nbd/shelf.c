#include "blockcore/export/nbd/shelf.h"

#include "blockcore/base/memory.h"
#include "blockcore/export/nbd/nbd_export.h"

#include <stdlib.h>
#include <string.h>

/* Of one export on one shelf. */
struct place {
    struct nbd_shelf *shelf;
    struct nbd_export *export;
    struct hash_link by_name;
    struct list in_shelf;
    struct list of_export;
};

void nbd_shelf_init(struct nbd_shelf *shelf)
{
    hash_init(&shelf->by_name);
    list_init(&shelf->places);
}

void nbd_shelf_put(struct nbd_shelf *shelf, struct nbd_export *export, struct list *places_of_export)
{
    struct place *place = xcalloc(1, sizeof(*place));
    place->shelf = shelf;
    place->export = export;
    hash_insert_string(&shelf->by_name, &place->by_name, nbd_export_name(export));
    list_append(&shelf->places, &place->in_shelf);
    list_append(places_of_export, &place->of_export);
}

bool nbd_shelf_has(const struct nbd_shelf *shelf, const char *name)
{
    return hash_find_string(&shelf->by_name, name);
}

static void place_free(struct place *place)
{
    hash_remove(&place->shelf->by_name, &place->by_name);
    if (place->shelf->by_name.count == 0)
        hash_fini(&place->shelf->by_name);
    list_remove(&place->in_shelf);
    list_remove(&place->of_export);
    free(place);
}

void nbd_shelf_clear(struct nbd_shelf *shelf)
{
    while (!list_empty(&shelf->places))
        place_free(list_first(&shelf->places, struct place, in_shelf));
}

void nbd_shelves_withdraw(struct list *places_of_export)
{
    while (!list_empty(places_of_export))
        place_free(list_first(places_of_export, struct place, of_export));
}

struct nbd_export *nbd_shelf_find(const struct nbd_shelf *shelf, struct nbd_string name)
{
    char text[NBD_STRING_MAX + 1];
    memcpy(text, name.data, name.bytes);
    text[name.bytes] = '\0';
    struct hash_link *link = hash_find_string(&shelf->by_name, text);
    if (link)
        return hash_entry(link, struct place, by_name)->export;
    if (name.bytes == 0 && shelf->by_name.count == 1)
        return list_first(&shelf->places, struct place, in_shelf)->export;
    return NULL;
}

unsigned nbd_shelf_list(const struct nbd_shelf *shelf, uint64_t *cursor, struct nbd_export **out, unsigned max)
{
    const struct place *place;
    unsigned count = 0;
    list_for_each (place, &shelf->places, in_shelf) {
        uint64_t number = nbd_export_number(place->export);
        if (number <= *cursor)
            continue;
        if (count == max)
            break;
        out[count++] = place->export;
        *cursor = number;
    }
    return count;
}
