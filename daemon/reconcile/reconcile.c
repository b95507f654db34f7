#include "daemon/reconcile/reconcile.h"

#include "daemon/config.h"
#include "daemon/options.h"

static struct {
    struct cairn_config settings;
} reconcile;

void reconcile_begin(const struct options *options)
{
    for (size_t i = 0; i < options->count; i++) {
        if (options->items[i].config)
            config_take_settings(options->items[i].config, &reconcile.settings);
    }
    if (options->image_policy)
        reconcile.settings.image_policy = options->image_policy;
    if (options->pidfile)
        reconcile.settings.pidfile = options->pidfile;
}

const struct cairn_config *reconcile_settings(void)
{
    return &reconcile.settings;
}
