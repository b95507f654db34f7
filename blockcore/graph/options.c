#include "blockcore/graph/options.h"

static const struct options_service nobody;
static const struct options_service *current = &nobody;

void options_set_service(const struct options_service *service)
{
    current = service;
}

const struct options_service *options_service(void)
{
    return current;
}
