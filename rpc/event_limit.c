#include "rpc/event_limit.h"

#include "blockcore/base/error.h"
#include "blockcore/base/memory.h"
#include "blockcore/runtime/loop.h"
#include "schema/codec/encode.h"
#include "schema/codec/value.h"

#include <stdlib.h>

/* A time that runs. */
struct event_limit {
    struct hash_link link;
    struct event_limits *limits;
    const struct event_descriptor *event;
    char *key;
    struct timer *timer;
    bool holds; /* held is there */
    struct event_text held;
};

void event_text_fini(struct event_text *text)
{
    text_fini(&text->forms[false]);
    text_fini(&text->forms[true]);
}

void event_limits_init(struct event_limits *limits, void (*send)(void *arg, const struct event_text *text), void *arg)
{
    hash_init(&limits->running);
    limits->send = send;
    limits->arg = arg;
}

static void send_held(struct event_limit *limit)
{
    limit->holds = false;
    limit->limits->send(limit->limits->arg, &limit->held);
    event_text_fini(&limit->held);
}

static void end(struct event_limit *limit)
{
    hash_remove(&limit->limits->running, &limit->link);
    timer_destroy(limit->timer);
    event_text_fini(&limit->held);
    free(limit->key);
    free(limit);
}

static void on_time(void *arg)
{
    struct event_limit *limit = arg;
    if (!limit->holds) {
        end(limit);
        return;
    }
    send_held(limit);
    timer_start(limit->timer, limit->event->rate_limit_ms);
}

void event_limits_fini(struct event_limits *limits)
{
    struct hash_link *link;
    while ((link = hash_next(&limits->running, NULL))) {
        struct event_limit *limit = hash_entry(link, struct event_limit, link);
        if (limit->holds)
            send_held(limit);
        end(limit);
    }
    hash_fini(&limits->running);
}

/* What is no value of its type is found when the event itself is encoded. */
static void append_member(struct text *text, const struct member_descriptor *member, const void *data)
{
    const void *place = member_place(member, data);
    struct descriptor_list list;
    if (!member_present(member, data))
        return;
    if (member->type->kind == VALUE_ARRAY) {
        list = (struct descriptor_list){
            .items = (void *)(uintptr_t)value_pointer(place),
            .count = value_count((const char *)data + member->count_offset),
        };
        place = &list;
    } else if (member->type->kind == VALUE_OBJECT || member->type->kind == VALUE_ALTERNATE) {
        place = value_pointer(place);
    }
    error_free(encode_value(text, member->type, place, 0, 0));
}

/* The event's name, and the members that tell such events apart. */
static char *key_of(const struct event_descriptor *event, const void *data)
{
    CLEANUP(text_fini) struct text text = { 0 };
    text_append_string(&text, event->name);
    for (uint32_t i = 0; i < event->rate_key_count; i++) {
        text_append(&text, " ", 1);
        append_member(&text, &event->data->object.members[event->rate_keys[i]], data);
    }
    return xstrndup(text.data, text.length);
}

enum event_limit_verdict event_limits_judge(struct event_limits *limits, const struct event_descriptor *event,
                                            const void *data, struct event_limit **out)
{
    if (event->rate_limit_ms == 0)
        return EVENT_GOES;
    CLEANUP(free) char *key = key_of(event, data);
    struct hash_link *link = hash_find_string(&limits->running, key);
    if (link) {
        *out = hash_entry(link, struct event_limit, link);
        return EVENT_WAITS;
    }
    if (limits->running.count >= EVENT_LIMITS_MAX)
        return EVENT_GOES;
    struct event_limit *limit = xcalloc(1, sizeof(*limit));
    limit->limits = limits;
    limit->event = event;
    limit->key = steal(&key);
    limit->timer = timer_create_on_loop(on_time, limit);
    hash_insert_string(&limits->running, &limit->link, limit->key);
    timer_start(limit->timer, event->rate_limit_ms);
    return EVENT_GOES;
}

void event_limit_hold(struct event_limit *limit, struct event_text *text)
{
    event_text_fini(&limit->held);
    limit->held = *text;
    limit->holds = true;
    *text = (struct event_text){ 0 };
}
