#include "blockcore/base/trace.h"

#include "blockcore/base/ticks.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIGNAL_STACK_BYTES (32 * 1024)

enum { WORD_TICKS, WORD_POINT, WORD_NUMBERS, WORD_TEXT = WORD_NUMBERS + TRACE_NUMBERS };
#define TEXT_WORDS (TRACE_TEXT_BYTES / sizeof(uint64_t))
#define RECORD_WORDS (WORD_TEXT + TEXT_WORDS)

/* Written by one thread at a time. A record that is being overwritten is recognized: `begun` is raised before, and
 * whoever sees one of the new words sees that as well. */
struct trace_ring {
    _Atomic bool taken;
    uint32_t thread;
    _Atomic uint64_t begun;
    _Atomic uint64_t end; /* records ever written */
    _Atomic uint64_t records[TRACE_RECORDS][RECORD_WORDS];
    _Alignas(16) char signal_stack[SIGNAL_STACK_BYTES];
};

static struct trace_ring rings[TRACE_RINGS_MAX];
static _Thread_local struct trace_ring *own_ring;
static _Atomic uint64_t without_ring;
static _Atomic bool signal_stacks;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;

static const char *const names[] = {
#define TRACE_DEFINE_NAME(name, mode, format) #name,
    TRACE_POINTS(TRACE_DEFINE_NAME)
};

static const char *const formats[] = {
#define TRACE_DEFINE_FORMAT(name, mode, format) format,
    TRACE_POINTS(TRACE_DEFINE_FORMAT)
};

_Atomic unsigned char trace_modes[TRACE_POINT_COUNT] = {
#define TRACE_DEFINE_MODE(name, mode, format) mode,
    TRACE_POINTS(TRACE_DEFINE_MODE)
};

/* Writing -------------------------------------------------------------------------------------------------------- */

static void disable_signal_stack(void)
{
    stack_t stack = { .ss_flags = SS_DISABLE };
    sigaltstack(&stack, NULL);
}

static void enable_signal_stack(struct trace_ring *ring)
{
    stack_t stack = { .ss_sp = ring->signal_stack, .ss_size = sizeof(ring->signal_stack) };
    sigaltstack(&stack, NULL);
}

static void thread_ends(void *arg)
{
    struct trace_ring *ring = arg;
    if (atomic_load(&signal_stacks))
        disable_signal_stack();
    own_ring = NULL;
    atomic_store_explicit(&ring->taken, false, memory_order_release);
}

static void make_key(void)
{
    (void)pthread_key_create(&thread_key, thread_ends);
}

static struct trace_ring *take_ring(void)
{
    pthread_once(&once, make_key);
    for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
        struct trace_ring *ring = &rings[i];
        if (atomic_load_explicit(&ring->taken, memory_order_relaxed) ||
            atomic_exchange_explicit(&ring->taken, true, memory_order_acquire))
            continue;
        ring->thread = (uint32_t)syscall(SYS_gettid);
        (void)pthread_setspecific(thread_key, ring);
        if (atomic_load(&signal_stacks))
            enable_signal_stack(ring);
        own_ring = ring;
        return ring;
    }
    return NULL;
}

static inline void put(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_release);
}

static void put_text(_Atomic uint64_t words[TEXT_WORDS], const char *text)
{
    union {
        char bytes[TRACE_TEXT_BYTES];
        uint64_t words[TEXT_WORDS];
    } copy = { .words = { 0 } };
    for (size_t i = 0; i < TRACE_TEXT_BYTES - 1 && text[i]; i++)
        copy.bytes[i] = text[i];
    for (size_t i = 0; i < TEXT_WORDS; i++)
        put(&words[i], copy.words[i]);
}

void trace_write(enum trace_point point, unsigned mode, const char *text, uint64_t a, uint64_t b, uint64_t c)
{
    struct trace_ring *ring = own_ring ? own_ring : take_ring();
    if (!ring) {
        atomic_fetch_add_explicit(&without_ring, 1, memory_order_relaxed);
        return;
    }
    uint64_t position = atomic_load_explicit(&ring->end, memory_order_relaxed);
    _Atomic uint64_t *words = ring->records[position % TRACE_RECORDS];
    atomic_store_explicit(&ring->begun, position + 1, memory_order_relaxed);
    put(&words[WORD_TICKS], ticks_now());
    put(&words[WORD_POINT], (uint64_t)point | (uint64_t)mode << 16 | (uint64_t)ring->thread << 32);
    put(&words[WORD_NUMBERS], a);
    put(&words[WORD_NUMBERS + 1], b);
    put(&words[WORD_NUMBERS + 2], c);
    put_text(&words[WORD_TEXT], text ? text : "");
    atomic_store_explicit(&ring->end, position + 1, memory_order_release);
}

void trace_give_signal_stacks(void)
{
    atomic_store(&signal_stacks, true);
    if (own_ring)
        enable_signal_stack(own_ring);
    else
        (void)take_ring();
}

/* Which points --------------------------------------------------------------------------------------------------- */

const char *trace_point_name(enum trace_point point)
{
    return names[point];
}

int trace_point_find(const char *name)
{
    for (int i = 0; i < TRACE_POINT_COUNT; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
    }
    return -1;
}

bool trace_is_pattern(const char *text)
{
    return strchr(text, '*');
}

/* When a character does not fit, the last star takes one more: time is at most the product of both lengths. */
bool trace_matches(const char *pattern, const char *name)
{
    const char *after_star = NULL;
    const char *retry = NULL;
    while (*name) {
        if (*pattern == '*') {
            after_star = ++pattern;
            retry = name;
        } else if (*pattern == *name || (*pattern == '?')) {
            pattern++;
            name++;
        } else if (after_star) {
            pattern = after_star;
            name = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == 0;
}

void trace_show(enum trace_point point, bool shown)
{
    if (shown)
        atomic_fetch_or(&trace_modes[point], TRACE_SHOWN);
    else
        atomic_fetch_and(&trace_modes[point], (unsigned char)~TRACE_SHOWN);
}

bool trace_is_shown(enum trace_point point)
{
    return atomic_load_explicit(&trace_modes[point], memory_order_relaxed) & TRACE_SHOWN;
}

bool trace_is_any_shown(void)
{
    for (int i = 0; i < TRACE_POINT_COUNT; i++) {
        if (trace_is_shown((enum trace_point)i))
            return true;
    }
    return false;
}

uint64_t trace_lost(void)
{
    return atomic_load_explicit(&without_ring, memory_order_relaxed);
}

/* Reading -------------------------------------------------------------------------------------------------------- */

static inline uint64_t get(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_acquire);
}

/* False when the record has been overwritten. */
static bool read_record(struct trace_ring *ring, uint64_t position, struct trace_record *out)
{
    const _Atomic uint64_t *words = ring->records[position % TRACE_RECORDS];
    out->ticks = get(&words[WORD_TICKS]);
    uint64_t point = get(&words[WORD_POINT]);
    out->point = (uint16_t)point;
    out->mode = (uint16_t)(point >> 16);
    out->thread = (uint32_t)(point >> 32);
    for (size_t i = 0; i < TRACE_NUMBERS; i++)
        out->numbers[i] = get(&words[WORD_NUMBERS + i]);
    for (size_t i = 0; i < TEXT_WORDS; i++) {
        uint64_t word = get(&words[WORD_TEXT + i]);
        memcpy(out->text + i * sizeof(word), &word, sizeof(word));
    }
    return atomic_load_explicit(&ring->begun, memory_order_relaxed) <= position + TRACE_RECORDS;
}

void trace_cursor_to_end(struct trace_cursor *cursor)
{
    for (size_t i = 0; i < ARRAY_SIZE(rings); i++)
        cursor->next[i] = get(&rings[i].end);
}

static size_t read_ring(struct trace_ring *ring, uint64_t *next, struct trace_record *out, size_t max, uint64_t *lost)
{
    uint64_t end = get(&ring->end);
    size_t count = 0;
    if (end - *next > TRACE_RECORDS) {
        *lost += end - *next - TRACE_RECORDS;
        *next = end - TRACE_RECORDS;
    }
    for (; *next < end && count < max; ++*next) {
        if (read_record(ring, *next, &out[count]))
            count++;
        else
            ++*lost;
    }
    return count;
}

size_t trace_read(struct trace_cursor *cursor, struct trace_record *out, size_t max, uint64_t *lost)
{
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(rings) && count < max; i++)
        count += read_ring(&rings[i], &cursor->next[i], out + count, max - count, lost);
    return count;
}

/* The newest record at or before each ring's place in @back, which counts from the end; the newest of these. */
static bool newest(const uint64_t ends[], uint32_t back[], struct trace_record *out)
{
    struct trace_record candidate;
    size_t best = TRACE_RINGS_MAX;
    for (size_t i = 0; i < TRACE_RINGS_MAX; i++) {
        if (back[i] >= TRACE_RECORDS || back[i] >= ends[i])
            continue;
        if (!read_record(&rings[i], ends[i] - 1 - back[i], &candidate)) {
            back[i] = TRACE_RECORDS; /* older ones are gone too */
            continue;
        }
        if (best == TRACE_RINGS_MAX || candidate.ticks > out->ticks) {
            best = i;
            *out = candidate;
        }
    }
    if (best == TRACE_RINGS_MAX)
        return false;
    back[best]++;
    return true;
}

/* From the last place of @out to the first, then moved to its begin. */
size_t trace_last(struct trace_record *out, size_t max)
{
    uint64_t ends[TRACE_RINGS_MAX];
    uint32_t back[TRACE_RINGS_MAX] = { 0 };
    size_t count = 0;
    for (size_t i = 0; i < TRACE_RINGS_MAX; i++)
        ends[i] = get(&rings[i].end);
    while (count < max && newest(ends, back, &out[max - 1 - count]))
        count++;
    memmove(out, out + max - count, count * sizeof(*out));
    return count;
}

/* Formatting, without functions that may take locks -------------------------------------------------------------- */

struct line {
    char *text;
    size_t length;
};

static void add_char(struct line *line, char c)
{
    if (line->length + 1 < TRACE_LINE_BYTES)
        line->text[line->length++] = c;
}

static void add_text(struct line *line, const char *text)
{
    /* What strangers named shall not look like a line of ours. */
    for (; *text; text++)
        add_char(line, (unsigned char)*text < ' ' ? '?' : *text);
}

static void add_number(struct line *line, uint64_t number, unsigned base)
{
    char digits[24];
    size_t count = 0;
    do {
        digits[count++] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    while (count > 0)
        add_char(line, digits[--count]);
}

static void add_signed(struct line *line, uint64_t number)
{
    bool negative = (int64_t)number < 0;
    if (negative)
        add_char(line, '-');
    add_number(line, negative ? 0 - number : number, 10);
}

static void add_value(struct line *line, char kind, uint64_t number)
{
    switch (kind) {
    case 'u':
        add_number(line, number, 10);
        break;
    case 'd':
        add_signed(line, number);
        break;
    case 'x':
        add_text(line, "0x");
        add_number(line, number, 16);
        break;
    case 'c':
        add_text(line, number ? (const char *)(uintptr_t)number : "(none)");
        break;
    }
}

size_t trace_format(const struct trace_record *record, char out[TRACE_LINE_BYTES])
{
    struct line line = { .text = out };
    size_t number = 0;
    add_text(&line, names[record->point]);
    add_char(&line, ' ');
    for (const char *format = formats[record->point]; *format; format++) {
        if (*format != '%')
            add_char(&line, *format);
        else if (*++format == 't')
            add_text(&line, record->text);
        else
            add_value(&line, *format, record->numbers[number++]);
    }
    out[line.length] = 0;
    return line.length;
}
