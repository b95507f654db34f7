/* http and https - nodes whose bytes a web server has, for reading only
 *
 * What was read lately, and what comes after it, is kept for a while (readahead.h); the rest is asked of the server
 * (remote.h). */
#include "blockcore/base/memory.h"
#include "blockcore/drivers/curl/libcurl.h"
#include "blockcore/drivers/curl/readahead.h"
#include "blockcore/drivers/curl/remote.h"
#include "blockcore/drivers/drivers.h"
#include "blockcore/graph/node.h"
#include "blockcore/net/host_policy.h"
#include "blockcore/objects/secret.h"
#include "schema/cairn_types.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define SECTOR 512
#define TRANSFER_MAX (1024 * 1024) /* of one request to the server, readahead excepted */

struct curl {
    struct remote *remote;
    struct readahead *ahead;
};

/* What the options of both drivers have in common. */
struct chosen {
    const char *url;
    const char *username;
    const char *password_secret;
    const char *proxy_username;
    const char *proxy_password_secret;
    const char *cookie;
    const char *cookie_secret;
    int64_t readahead;
    int64_t timeout;
    bool verify;
};

#define CHOSEN(own, verify_)                                                                                           \
    {                                                                                                                  \
        .url = (own)->url, .username = (own)->username, .password_secret = (own)->password_secret,                     \
        .proxy_username = (own)->proxy_username, .proxy_password_secret = (own)->proxy_password_secret,                \
        .cookie = (own)->cookie, .cookie_secret = (own)->cookie_secret, .readahead = (own)->readahead,                 \
        .timeout = (own)->timeout, .verify = (verify_)                                                                 \
    }

/* Options -------------------------------------------------------------------------------------------------------- */

/* "http://", in any case. */
static bool has_scheme(const char *url, const char *scheme)
{
    size_t length = strlen(scheme);
    return strncasecmp(url, scheme, length) == 0 && strncmp(url + length, "://", 3) == 0;
}

static struct error *check_options(const struct chosen *chosen, const char *scheme)
{
    if (!has_scheme(chosen->url, scheme))
        return error_new("url: does not begin with '%s://'", scheme);
    if (chosen->readahead % SECTOR != 0)
        return error_new("readahead: %lld is not a multiple of %d", (long long)chosen->readahead, SECTOR);
    if (chosen->cookie && chosen->cookie_secret)
        return error_new("cookie, cookie-secret: only one of them can be given");
    return NULL;
}

/* @prefix and the bytes, with a zero byte at the end. */
static struct key_bytes *join(const char *prefix, const void *data, size_t bytes)
{
    size_t length = strlen(prefix);
    struct key_bytes *joined = key_bytes_new(length + bytes + 1);
    if (joined) {
        memcpy(joined->data, prefix, length);
        memcpy(joined->data + length, data, bytes);
    }
    return joined;
}

/* @id NULL: none. */
static struct error *take_secret(const char *option, const char *id, struct key_bytes **out) CONTROL_FN;

static struct error *take_secret(const char *option, const char *id, struct key_bytes **out)
{
    CLEANUP(key_bytes_free) struct key_bytes *bytes = NULL;
    struct error *err = id ? secret_get(id, &bytes) : NULL;
    if (err || !id)
        return error_wrap(err, "%s", option);
    if (memchr(bytes->data, 0, bytes->bytes))
        return error_new("%s: secret '%s' contains a zero byte", option, id);
    *out = join("", bytes->data, bytes->bytes);
    return *out ? NULL : error_errno(ENOMEM, "%s", option);
}

/* What is below a blank would begin another line of the header, or hide something. */
static bool is_one_line(const struct key_bytes *text)
{
    for (size_t i = 0; i + 1 < text->bytes; i++) {
        if (text->data[i] < ' ' && text->data[i] != '\t')
            return false;
    }
    return true;
}

static struct error *take_cookie(const struct chosen *chosen, struct key_bytes **out) CONTROL_FN;

static struct error *take_cookie(const struct chosen *chosen, struct key_bytes **out)
{
    static const char prefix[] = "Cookie: ";
    CLEANUP(key_bytes_free) struct key_bytes *text = NULL;
    struct error *err = take_secret("cookie-secret", chosen->cookie_secret, &text);
    if (err || (!chosen->cookie && !text))
        return err;
    const char *value = text ? (const char *)text->data : chosen->cookie;
    *out = join(prefix, value, strlen(value));
    if (!*out)
        return error_errno(ENOMEM, "cookie");
    return is_one_line(*out) ? NULL : error_new("%s: contains control characters", text ? "cookie-secret" : "cookie");
}

static struct error *take_credentials(const struct chosen *chosen, struct credentials *out) CONTROL_FN;

static struct error *take_credentials(const struct chosen *chosen, struct credentials *out)
{
    out->username = xstrdup_or_null(chosen->username);
    out->proxy_username = xstrdup_or_null(chosen->proxy_username);
    struct error *err = take_secret("password-secret", chosen->password_secret, &out->password);
    if (!err)
        err = take_secret("proxy-password-secret", chosen->proxy_password_secret, &out->proxy_password);
    return err ? err : take_cookie(chosen, &out->cookie);
}

/* Opening -------------------------------------------------------------------------------------------------------- */

static int fetch(void *arg, struct range range, char *data, const struct arrival *arrival) CO_FN;

static int fetch(void *arg, struct range range, char *data, const struct arrival *arrival)
{
    return remote_read(arg, range, data, arrival);
}

static struct error *set_read_only(struct node *node, const struct open_context *context)
{
    if (!open_read_only(context) && !open_auto_read_only(context))
        return error_errno(EACCES, "it can only be read");
    node_set_read_only(node, true);
    return NULL;
}

static struct error *open_remote(struct node *node, const struct chosen *chosen) CO_FN;

static struct error *open_remote(struct node *node, const struct chosen *chosen)
{
    struct curl *curl = node_state(node);
    const struct remote_options options = {
        .node_name = node_name(node),
        .url = chosen->url,
        .verify = chosen->verify,
        .timeout_s = (unsigned)chosen->timeout,
    };
    struct credentials credentials = { 0 };
    struct error *err = take_credentials(chosen, &credentials);
    if (!err)
        err = libcurl_load();
    if (!err && host_policy_is_set())
        err = remote_check_host(chosen->url);
    if (!err)
        err = remote_open(&options, &credentials, &curl->remote);
    credentials_fini(&credentials);
    return err;
}

static struct error *open_any(struct node *node, const struct chosen *chosen, const struct open_context *context) CO_FN;

static struct error *open_any(struct node *node, const struct chosen *chosen, const struct open_context *context)
{
    struct curl *curl = node_state(node);
    struct error *err = check_options(chosen, node_driver(node)->name);
    if (!err)
        err = set_read_only(node, context);
    if (!err)
        err = open_remote(node, chosen);
    if (err)
        return err;
    const struct readahead_source source = { .fetch = fetch, .arg = curl->remote, remote_length(curl->remote) };
    curl->ahead = readahead_create(&source, (uint64_t)chosen->readahead);
    node_limits_mutable(node)->max_transfer = TRANSFER_MAX;
    node_set_length(node, remote_length(curl->remote));
    node_set_filename(node, remote_name(curl->remote));
    return NULL;
}

static struct error *http_open(struct node *node, const struct blockdev_options *options,
                               const struct open_context *context)
{
    const struct chosen chosen = CHOSEN(&options->u.http, true);
    return open_any(node, &chosen, context);
}

static struct error *https_open(struct node *node, const struct blockdev_options *options,
                                const struct open_context *context)
{
    const struct chosen chosen = CHOSEN(&options->u.https, options->u.https.sslverify);
    return open_any(node, &chosen, context);
}

static void curl_close(struct node *node)
{
    struct curl *curl = node_state(node);
    remote_cancel(curl->remote);
    readahead_destroy(curl->ahead);
    remote_close(curl->remote);
}

/* At work -------------------------------------------------------------------------------------------------------- */

static int curl_preadv(struct node *node, struct range range, const struct iov *iov, unsigned flags)
{
    struct curl *curl = node_state(node);
    (void)flags;
    return readahead_read(curl->ahead, range, iov);
}

/* What it takes there is not known here. */
static int64_t curl_allocated_bytes(struct node *node)
{
    (void)node;
    return -ENOTSUP;
}

/* Nothing can change but what is the graph's business. */
static struct error *curl_reopen_prepare(struct node *node, const struct blockdev_options *options,
                                         struct reopen *reopen)
{
    (void)node;
    (void)reopen;
    if (!(options->has_read_only && options->read_only) && !(options->has_auto_read_only && options->auto_read_only))
        return error_errno(EACCES, "it can only be read");
    return NULL;
}

const struct driver http_driver = {
    .name = "http",
    .kind = DRIVER_PROTOCOL,
    .state_size = sizeof(struct curl),
    .open = http_open,
    .reopen_prepare = curl_reopen_prepare,
    .close = curl_close,
    .preadv = curl_preadv,
    .allocated_bytes = curl_allocated_bytes,
};

const struct driver https_driver = {
    .name = "https",
    .kind = DRIVER_PROTOCOL,
    .state_size = sizeof(struct curl),
    .open = https_open,
    .reopen_prepare = curl_reopen_prepare,
    .close = curl_close,
    .preadv = curl_preadv,
    .allocated_bytes = curl_allocated_bytes,
};
