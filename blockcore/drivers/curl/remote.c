#include "blockcore/drivers/curl/remote.h"

#include "blockcore/base/list.h"
#include "blockcore/base/memory.h"
#include "blockcore/base/url.h"
#include "blockcore/drivers/curl/content_range.h"
#include "blockcore/drivers/curl/libcurl.h"
#include "blockcore/graph/node.h"
#include "blockcore/graph/notice.h"
#include "blockcore/net/host_policy.h"
#include "blockcore/runtime/coroutine.h"
#include "blockcore/runtime/loop.h"
#include "blockcore/runtime/pool.h"
#include "blockcore/runtime/sync.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define PROTOCOLS "http,https"
#define STATUS_OK 200
#define STATUS_PARTIAL 206
#define STATUS_NO_SUCH_RANGE 416
#define NOTICE_INTERVAL_NS UINT64_C(1000000000)

struct remote {
    char *node_name;
    char *url;
    char *name;
    struct credentials credentials;
    bool verify;
    unsigned timeout_s;
    uint64_t length;
    struct pool_domain *domain;
    _Atomic bool cancelled;
    _Atomic uint64_t told_ns; /* when a failure was told last; 0: never */
    struct spinlock lock;
    struct list idle GUARDED_BY(lock); /* connections; the one that was used last is first */
};

struct connection {
    struct list link;
    CURL *easy;
    struct curl_slist *headers;
    char message[CURL_ERROR_SIZE];
};

/* One request. */
struct fetch {
    struct remote *remote;
    struct range range;
    char *data;
    const struct arrival *arrival; /* NULL: nobody wants to be told */
    bool probing;                  /* for the length: one byte, which may not be there */
    CURL *easy;
    uint64_t received;
    struct content_range told;
    char why[CURL_ERROR_SIZE + 64]; /* what is wrong with the reply; empty: nothing */
};

/* Connections ---------------------------------------------------------------------------------------------------- */

static void connection_free(struct connection *connection)
{
    if (connection->easy)
        libcurl.curl_easy_cleanup(connection->easy);
    libcurl.curl_slist_free_all(connection->headers);
    free(connection);
}

/* The types that libcurl takes are long, char pointer and pointer, and no compiler looks at them here. */
static bool set_number(CURL *easy, CURLoption option, long value)
{
    return libcurl.curl_easy_setopt(easy, option, value) == CURLE_OK;
}

static bool set_text(CURL *easy, CURLoption option, const char *value)
{
    return !value || libcurl.curl_easy_setopt(easy, option, value) == CURLE_OK;
}

static bool set_secret(CURL *easy, CURLoption option, const struct key_bytes *value)
{
    return set_text(easy, option, value ? (const char *)value->data : NULL);
}

/* By the host that libcurl finds in the address, not another parser. */
struct error *remote_check_host(const char *address)
{
    char *host = NULL;
    CURLU *parts = libcurl.curl_url();
    if (!parts || libcurl.curl_url_set(parts, CURLUPART_URL, address, 0) != CURLUE_OK ||
        libcurl.curl_url_get(parts, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        host = NULL;
    struct error *err = host ? host_policy_check_connect(host) : error_new("url: it is malformed");
    libcurl.curl_free(host);
    libcurl.curl_url_cleanup(parts);
    return err;
}

/* A look-up that takes too long is left to itself when a request ends. A cookie is sent as a line of the header, which
 * does not follow a redirect to another host. */
static bool set_options(struct connection *connection, const struct remote *remote)
{
    CURL *easy = connection->easy;
    const struct credentials *who = &remote->credentials;
    if (who->cookie)
        connection->headers = libcurl.curl_slist_append(NULL, (const char *)who->cookie->data);
    if (who->cookie &&
        (!connection->headers || libcurl.curl_easy_setopt(easy, CURLOPT_HTTPHEADER, connection->headers) != CURLE_OK))
        return false;
    return set_text(easy, CURLOPT_URL, remote->url) && set_text(easy, CURLOPT_PROTOCOLS_STR, PROTOCOLS) &&
           set_text(easy, CURLOPT_REDIR_PROTOCOLS_STR, PROTOCOLS) &&
           set_number(easy, CURLOPT_FOLLOWLOCATION, !host_policy_is_set()) &&
           set_number(easy, CURLOPT_MAXREDIRS, REMOTE_REDIRECTS_MAX) &&
           set_number(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1) &&
           set_number(easy, CURLOPT_SSL_VERIFYPEER, remote->verify) &&
           set_number(easy, CURLOPT_SSL_VERIFYHOST, remote->verify ? 2 : 0) &&
           set_number(easy, CURLOPT_TIMEOUT, (long)remote->timeout_s) && set_number(easy, CURLOPT_NOSIGNAL, 1) &&
           set_number(easy, CURLOPT_QUICK_EXIT, 1) && set_number(easy, CURLOPT_TCP_KEEPALIVE, 1) &&
           set_text(easy, CURLOPT_USERNAME, who->username) && set_secret(easy, CURLOPT_PASSWORD, who->password) &&
           set_text(easy, CURLOPT_PROXYUSERNAME, who->proxy_username) &&
           set_secret(easy, CURLOPT_PROXYPASSWORD, who->proxy_password);
}

static size_t take_header(char *line, size_t size, size_t count, void *arg);
static size_t take_body(char *data, size_t size, size_t count, void *arg);
static int look_up(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up);

static bool set_callbacks(struct connection *connection)
{
    CURL *easy = connection->easy;
    return libcurl.curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, connection->message) == CURLE_OK &&
           libcurl.curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
           libcurl.curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, look_up) == CURLE_OK &&
           set_number(easy, CURLOPT_NOPROGRESS, 0) &&
           libcurl.curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK;
}

/* NULL: no memory. */
static struct connection *connection_new(const struct remote *remote)
{
    struct connection *connection = xcalloc(1, sizeof(*connection));
    list_init(&connection->link);
    connection->easy = libcurl.curl_easy_init();
    if (connection->easy && set_options(connection, remote) && set_callbacks(connection))
        return connection;
    connection_free(connection);
    return NULL;
}

static struct connection *take_connection(struct remote *remote)
{
    spinlock_lock(&remote->lock);
    struct list *first = list_take_first(&remote->idle);
    spinlock_unlock(&remote->lock);
    return first ? list_entry(first, struct connection, link) : connection_new(remote);
}

static void give_back(struct remote *remote, struct connection *connection)
{
    spinlock_lock(&remote->lock);
    list_prepend(&remote->idle, &connection->link);
    spinlock_unlock(&remote->lock);
}

/* Replies -------------------------------------------------------------------------------------------------------- */

static bool wrong(struct fetch *fetch, const char *format, ...) PRINTF_LIKE(2, 3);

static bool wrong(struct fetch *fetch, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(fetch->why, sizeof(fetch->why), format, args);
    va_end(args);
    return false;
}

static long status_of(const struct fetch *fetch)
{
    long status = 0;
    libcurl.curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

/* Is there nothing at all? That is no range to a server, and told in two ways. */
static bool is_empty(const struct fetch *fetch, long status)
{
    curl_off_t bytes = -1;
    if (!fetch->probing)
        return false;
    if (status == STATUS_NO_SUCH_RANGE)
        return fetch->told.state == CONTENT_RANGE_TOLD && fetch->told.range.bytes == 0 && fetch->told.total_is_known &&
               fetch->told.total == 0;
    libcurl.curl_easy_getinfo(fetch->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &bytes);
    return status == STATUS_OK && bytes == 0;
}

static bool sends_more(struct fetch *fetch)
{
    return wrong(fetch, "the server sends more than it was asked for");
}

static bool sends_less(struct fetch *fetch, uint64_t bytes)
{
    return wrong(fetch, "the server sends %" PRIu64 " bytes in place of %" PRIu64, bytes, fetch->range.bytes);
}

/* Is it what was asked for, as far as its header says? */
static bool check_header(struct fetch *fetch)
{
    const struct content_range *told = &fetch->told;
    long status = status_of(fetch);
    if (is_empty(fetch, status))
        return true;
    if (status == STATUS_OK)
        return wrong(fetch, "the server sends all of it when asked for a part: it does not serve ranges");
    if (status != STATUS_PARTIAL)
        return wrong(fetch, "the server answers with status %ld", status);
    if (told->state != CONTENT_RANGE_TOLD)
        return wrong(fetch, "the server %s",
                     told->state == CONTENT_RANGE_ABSENT ? "does not say which range it sends"
                                                         : "sends a malformed Content-Range");
    if (told->range.offset != fetch->range.offset || told->range.bytes != fetch->range.bytes)
        return wrong(fetch, "the server sends another range than it was asked for");
    curl_off_t bytes = -1;
    libcurl.curl_easy_getinfo(fetch->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &bytes);
    if (bytes >= 0 && (uint64_t)bytes > fetch->range.bytes)
        return sends_more(fetch);
    if (bytes >= 0 && (uint64_t)bytes < fetch->range.bytes)
        return sends_less(fetch, (uint64_t)bytes);
    if (fetch->probing && !told->total_is_known)
        return wrong(fetch, "the server does not tell the length");
    if (!fetch->probing && told->total_is_known && told->total != fetch->remote->length)
        return wrong(fetch, "the length has changed from %" PRIu64 " to %" PRIu64, fetch->remote->length, told->total);
    return true;
}

/* A request may have several replies (100, redirects, asking for a password): the last one counts. */
static size_t take_header(char *line, size_t size, size_t count, void *arg)
{
    struct fetch *fetch = arg;
    size_t bytes = size * count;
    if (bytes >= 5 && strncasecmp(line, "HTTP/", 5) == 0)
        fetch->told = (struct content_range){ 0 };
    content_range_read_line(&fetch->told, line, bytes);
    return bytes;
}

static size_t take_body(char *data, size_t size, size_t count, void *arg)
{
    struct fetch *fetch = arg;
    size_t bytes = size * count;
    if (fetch->received == 0 && !check_header(fetch))
        return CURL_WRITEFUNC_ERROR;
    if (status_of(fetch) != STATUS_PARTIAL)
        return bytes; /* the text of an error that is none */
    if (bytes > fetch->range.bytes - fetch->received) {
        sends_more(fetch);
        return CURL_WRITEFUNC_ERROR;
    }
    memcpy(fetch->data + fetch->received, data, bytes);
    fetch->received += bytes;
    if (fetch->arrival)
        fetch->arrival->arrived(fetch->arrival->arg, fetch->received);
    return bytes;
}

/* Called now and then, at least once a second: anything but 0 ends the request. */
static int look_up(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up)
{
    struct fetch *fetch = arg;
    (void)down_all;
    (void)down;
    (void)up_all;
    (void)up;
    return atomic_load(&fetch->remote->cancelled);
}

/* What became of it: 0 or -errno. */
static int judge(struct fetch *fetch, const struct connection *connection, CURLcode code)
{
    if (code == CURLE_OK && fetch->received == 0)
        check_header(fetch);
    if (!fetch->why[0] && code != CURLE_OK)
        wrong(fetch, "%s", connection->message[0] ? connection->message : libcurl.curl_easy_strerror(code));
    if (!fetch->why[0] && fetch->received < fetch->range.bytes && !is_empty(fetch, status_of(fetch)))
        sends_less(fetch, fetch->received);
    if (!fetch->why[0])
        return 0;
    return code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EIO;
}

static CURLcode perform(struct fetch *fetch, struct connection *connection)
{
    char text[64];
    snprintf(text, sizeof(text), "%" PRIu64 "-%" PRIu64, fetch->range.offset, range_end(fetch->range) - 1);
    connection->message[0] = '\0';
    fetch->easy = connection->easy;
    if (!set_text(fetch->easy, CURLOPT_RANGE, text) ||
        libcurl.curl_easy_setopt(fetch->easy, CURLOPT_HEADERDATA, fetch) != CURLE_OK ||
        libcurl.curl_easy_setopt(fetch->easy, CURLOPT_WRITEDATA, fetch) != CURLE_OK ||
        libcurl.curl_easy_setopt(fetch->easy, CURLOPT_XFERINFODATA, fetch) != CURLE_OK)
        return CURLE_OUT_OF_MEMORY;
    return libcurl.curl_easy_perform(fetch->easy);
}

static int fetch_blocking(void *arg)
{
    struct fetch *fetch = arg;
    struct connection *connection = take_connection(fetch->remote);
    if (!connection) {
        wrong(fetch, "no memory for a connection");
        return -ENOMEM;
    }
    int ret = judge(fetch, connection, perform(fetch, connection));
    give_back(fetch->remote, connection);
    return ret;
}

static int fetch_run(struct fetch *fetch) CO_FN;

static int fetch_run(struct fetch *fetch)
{
    return co_blocking(fetch->remote->domain, fetch_blocking, fetch);
}

/* The file ------------------------------------------------------------------------------------------------------- */

void credentials_fini(struct credentials *credentials)
{
    free(credentials->username);
    key_bytes_free(credentials->password);
    free(credentials->proxy_username);
    key_bytes_free(credentials->proxy_password);
    key_bytes_free(credentials->cookie);
    *credentials = (struct credentials){ 0 };
}

static int free_connections(void *arg)
{
    struct remote *remote = arg;
    struct list *first;
    while ((first = list_take_first(&remote->idle)))
        connection_free(list_entry(first, struct connection, link));
    return 0;
}

static void remote_free(struct remote *remote)
{
    pool_domain_unref(remote->domain);
    credentials_fini(&remote->credentials);
    free(remote->node_name);
    free(remote->url);
    free(remote->name);
    free(remote);
}

void remote_cancel(struct remote *remote)
{
    atomic_store(&remote->cancelled, true);
}

void remote_close(struct remote *remote)
{
    if (!list_empty(&remote->idle))
        (void)co_blocking(remote->domain, free_connections, remote);
    remote_free(remote);
}

/* The first request. When it is left behind, all of the remote file is. */
struct first_fetch {
    struct fetch fetch;
    char byte;
};

static int first_fetch_blocking(void *arg)
{
    struct first_fetch *first = arg;
    return fetch_blocking(&first->fetch);
}

static void first_fetch_release(void *arg)
{
    struct first_fetch *first = arg;
    (void)free_connections(first->fetch.remote);
    remote_free(first->fetch.remote);
    free(first);
}

static struct error *judge_length(struct remote *remote, const struct fetch *fetch, int ret)
{
    if (ret < 0)
        return error_new("cannot read '%s': %s", remote->name, fetch->why);
    remote->length = fetch->told.total;
    if (remote->length > NODE_LENGTH_MAX)
        return error_new("'%s' has %" PRIu64 " bytes, which is too much", remote->name, remote->length);
    return NULL;
}

/* What is left behind ends soon. */
struct giving_up {
    struct co_on_cancel on_cancel;
    struct remote *remote;
};

static void give_up(struct co_on_cancel *on_cancel)
{
    remote_cancel(CONTAINER_OF(on_cancel, struct giving_up, on_cancel)->remote);
}

/* *remote becomes NULL when it was left. */
static struct error *find_length(struct remote **remote) CO_FN;

static struct error *find_length(struct remote **remote)
{
    struct first_fetch *first = xcalloc(1, sizeof(*first));
    CLEANUP(free) char *name = xstrdup((*remote)->name);
    struct giving_up giving_up = { .remote = *remote };
    int ret;
    first->fetch = (struct fetch){
        .remote = *remote,
        .range = range_make(0, 1),
        .data = &first->byte,
        .probing = true,
    };
    co_on_cancel_begin(&giving_up.on_cancel, give_up);
    bool ended = co_blocking_or_leave((*remote)->domain, first_fetch_blocking, first_fetch_release, first, &ret);
    co_on_cancel_end(&giving_up.on_cancel);
    if (!ended) {
        *remote = NULL;
        return error_errno(ECANCELED, "asking for '%s'", name);
    }
    struct error *err = judge_length(*remote, &first->fetch, ret);
    free(first);
    return err;
}

struct error *remote_open(const struct remote_options *options, struct credentials *credentials, struct remote **out)
{
    struct remote *remote = xcalloc(1, sizeof(*remote));
    remote->node_name = xstrdup(options->node_name);
    remote->url = xstrdup(options->url);
    remote->name = url_without_user(options->url);
    remote->credentials = *credentials;
    *credentials = (struct credentials){ 0 };
    remote->verify = options->verify;
    remote->timeout_s = options->timeout_s;
    remote->domain = pool_domain_create(remote->name, REMOTE_CONNECTIONS_MAX);
    spinlock_init(&remote->lock);
    list_init(&remote->idle);
    struct error *err = find_length(&remote);
    if (!err)
        *out = remote;
    else if (remote)
        remote_close(remote);
    return err;
}

uint64_t remote_length(const struct remote *remote)
{
    return remote->length;
}

const char *remote_name(const struct remote *remote)
{
    return remote->name;
}

static void tell(struct remote *remote, const char *why)
{
    uint64_t now = loop_now_ns();
    uint64_t before = atomic_load(&remote->told_ns);
    if (before && now - before < NOTICE_INTERVAL_NS)
        return;
    if (!atomic_compare_exchange_strong(&remote->told_ns, &before, now))
        return;
    CLEANUP(free) char *message = xasprintf("cannot read '%s': %s", remote->name, why);
    notice_give(&(struct notice){ .kind = NOTICE_SERVER, .node_name = remote->node_name, .message = message });
}

int remote_read(struct remote *remote, struct range range, char *data, const struct arrival *arrival)
{
    struct fetch fetch = { .remote = remote, .range = range, .data = data, .arrival = arrival };
    int ret = atomic_load(&remote->cancelled) ? -ECANCELED : fetch_run(&fetch);
    if (ret < 0 && !atomic_load(&remote->cancelled))
        tell(remote, fetch.why);
    return ret;
}
