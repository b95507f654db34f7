#include "daemon/black_box.h"

#include "blockcore/base/sanitizer.h"
#include "blockcore/base/ticks.h"
#include "blockcore/base/trace.h"
#include "daemon/log.h"
#include "daemon/log_sink.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#define PATIENCE_MS 1000 /* with whoever reads standard error; then the rest is not printed */

/* In here: only what may be called in a signal handler. */

static _Atomic pid_t printer; /* the thread that prints; 0: none does */
static struct trace_record records[BLACK_BOX_RECORDS];

struct line {
    char text[TRACE_LINE_BYTES + 128];
    size_t length;
};

static void add(struct line *line, const char *text)
{
    while (*text && line->length < sizeof(line->text))
        line->text[line->length++] = *text++;
}

static void add_number(struct line *line, uint64_t number, unsigned digits)
{
    char text[21] = { 0 };
    size_t at = sizeof(text) - 1;
    while (number > 0 || digits > 0) {
        text[--at] = (char)('0' + number % 10);
        number /= 10;
        digits -= digits > 0;
    }
    add(line, &text[at]);
}

/* An entry without the line feed, if there is one. */
static bool send_to_journal(const char *socket, const struct line *line)
{
    struct line entry = { .length = 0 };
    add(&entry, "PRIORITY=2\nSYSLOG_IDENTIFIER=cairnd\nMESSAGE=");
    for (size_t i = 0; i < line->length && entry.length + 1 < sizeof(entry.text); i++)
        entry.text[entry.length++] = line->text[i];
    if (entry.text[entry.length - 1] != '\n')
        entry.text[entry.length++] = '\n';
    return journal_send(socket, entry.text, entry.length);
}

static bool write_line(const struct line *line)
{
    const char *journal = log_journal_socket();
    if (journal)
        return send_to_journal(journal, line);
    for (size_t done = 0; done < line->length;) {
        struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };
        int ready = poll(&fd, 1, PATIENCE_MS);
        ssize_t count = ready > 0 ? write(STDERR_FILENO, line->text + done, line->length - done) : -1;
        if (count > 0)
            done += (size_t)count;
        else if (ready == 0 || errno != EINTR)
            return false;
    }
    return true;
}

static const char *signal_name(int signum)
{
    switch (signum) {
    case SIGABRT:
        return "SIGABRT";
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGFPE:
        return "SIGFPE";
    default:
        return "SIGILL";
    }
}

static bool print_head(int signum, size_t count)
{
    struct line line = { .length = 0 };
    add(&line, "cairnd: dying of ");
    add(&line, signal_name(signum));
    add(&line, "; what happened last, ");
    add_number(&line, count, 1);
    add(&line, " records (seconds ago, thread):\n");
    return write_line(&line);
}

static bool print_record(const struct trace_record *record, uint64_t now)
{
    char text[TRACE_LINE_BYTES];
    struct line line = { .length = 0 };
    uint64_t us = now > record->ticks ? ticks_to_ns(now - record->ticks) / 1000 : 0;
    trace_format(record, text);
    add(&line, "  -");
    add_number(&line, us / 1000000, 1);
    add(&line, ".");
    add_number(&line, us % 1000000, 6);
    add(&line, " [");
    add_number(&line, record->thread, 1);
    add(&line, "] ");
    add(&line, text);
    add(&line, "\n");
    return write_line(&line);
}

static void print(int signum)
{
    uint64_t now = ticks_now();
    size_t count = trace_last(records, BLACK_BOX_RECORDS);
    bool read = print_head(signum, count);
    for (size_t i = 0; i < count && read; i++)
        read = print_record(&records[i], now);
}

/* The default action is back already (SA_RESETHAND): raised once more, the signal kills as soon as we return. */
static void on_fatal_signal(int signum)
{
    pid_t other = 0;
    pid_t self = gettid();
    if (atomic_compare_exchange_strong(&printer, &other, self))
        print(signum);
    while (other && other != self) /* the process ends when that has printed */
        pause();
    raise(signum); /* what was broken may have broken the printing, too */
}

void black_box_install(void)
{
#if defined(WITH_ASAN) || defined(WITH_TSAN)
    static const int signals[] = { SIGABRT };
#else
    static const int signals[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
    trace_give_signal_stacks(); /* a stack that has overflown has no room for a handler */
#endif
    struct sigaction action = { .sa_handler = on_fatal_signal, .sa_flags = (int)(SA_RESETHAND | SA_ONSTACK) };
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        sigaction(signals[i], &action, NULL);
}
