#include "tests/unit/property/world.h"

#include <signal.h>
#include <stdarg.h>

static char history[1 << 20];
static size_t history_used;
static const struct world *current;

uint64_t choose(struct world *world, uint64_t limit)
{
    world->random = world->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (world->random >> 20) % limit;
}

bool chance(struct world *world, unsigned one_in)
{
    return choose(world, one_in) == 0;
}

void tell(const char *format, ...)
{
    size_t begin = history_used;
    va_list args;
    if (history_used > sizeof(history) - 4096)
        return;
    va_start(args, format);
    history_used += (size_t)vsnprintf(history + history_used, 2048, format, args);
    va_end(args);
    if (getenv("CAIRN_TEST_VERBOSE"))
        fprintf(stderr, "%s\n", history + begin);
    history[history_used++] = '\n';
}

static void draw_part(const struct part *part, const char *role, int depth)
{
    if (!part)
        return;
    fprintf(stderr, "%*s%s%s (%s)\n", 4 * depth, "", role, part->name, part->about);
    draw_part(part->below[0], "file: ", depth + 1);
    for (int i = 1; i < BELOW_MAX; i++)
        draw_part(part->below[i], "beside: ", depth + 1);
    draw_part(part->backing, "backing: ", depth + 1);
}

void draw(const struct world *world)
{
    draw_part(world->top, "disk: ", 1);
}

static void print_and_die(int signal_number)
{
    signal(signal_number, SIG_DFL);
    if (current) {
        fprintf(stderr,
                "\nTo see it again: CAIRN_TEST_SEED=%llu\n%.*s\nThe graph at the "
                "end (disk of %llu bytes):\n",
                (unsigned long long)current->seed, (int)history_used, history, (unsigned long long)current->length);
        draw(current);
    }
    raise(signal_number);
}

void history_begin(const struct world *world)
{
    current = world;
    history_used = 0;
    signal(SIGABRT, print_and_die);
    signal(SIGSEGV, print_and_die);
    signal(SIGFPE, print_and_die);
    signal(SIGBUS, print_and_die);
}
