#include "blockcore/objects/kinds.h"

const struct object_kind *const object_kinds[OBJECT_TYPE__MAX] = {
    [OBJECT_TYPE_IOTHREAD] = &iothread_kind,
    [OBJECT_TYPE_SECRET] = &secret_kind,
    [OBJECT_TYPE_THROTTLE_GROUP] = &throttle_group_kind,
};
