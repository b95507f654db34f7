/* Credentials for TLS as objects: what servers and drivers are told, and what is refused. */
#include "blockcore/net/tls_context.h"
#include "blockcore/objects/object.h"
#include "blockcore/objects/tls_creds.h"

#include "tests/unit/drivers/nodes.h"

static struct object_options psk(const char *id, enum q_crypto_tls_creds_endpoint endpoint)
{
    return (struct object_options){
        .qom_type = OBJECT_TYPE_TLS_CREDS_PSK,
        .id = id,
        .u.tls_creds_psk = { .dir = test_dir, .has_endpoint = true, .endpoint = endpoint },
    };
}

static void put_file(const char *name, const char *text)
{
    int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    expect(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

NODE_TEST(each_side_gets_what_its_connections_need)
{
    struct object *object;
    struct tls_context *context;
    put_file("keys.psk", "qemu:0123456789abcdef0123456789abcdef\nalice:00112233445566778899aabbccddeeff\n");
    struct object_options options = psk("c", Q_CRYPTO_TLS_CREDS_ENDPOINT_CLIENT);
    options.u.tls_creds_psk.username = "alice";
    expect_success(object_add(&options));
    expect_success(tls_creds_find("c", Q_CRYPTO_TLS_CREDS_ENDPOINT_CLIENT, &object, &context));
    expect(object == object_find("c") && !tls_context_is_server(context) && !tls_context_wants_host(context));
    tls_context_unref(context);
    options = psk("s", Q_CRYPTO_TLS_CREDS_ENDPOINT_SERVER);
    expect_success(object_add(&options));
    expect_success(tls_creds_find("s", Q_CRYPTO_TLS_CREDS_ENDPOINT_SERVER, &object, &context));
    expect(object == object_find("s") && tls_context_is_server(context) && tls_context_names_peers(context));
    object_del_all();
    tls_context_unref(context); /* outlives its object */
}

NODE_TEST(the_endpoint_has_to_be_the_right_one)
{
    struct object *object;
    struct tls_context *context;
    put_file("keys.psk", "qemu:0123456789abcdef0123456789abcdef\n");
    struct object_options options = psk("p", Q_CRYPTO_TLS_CREDS_ENDPOINT_SERVER);
    expect_success(object_add(&options));
    expect_error(tls_creds_find("p", Q_CRYPTO_TLS_CREDS_ENDPOINT_CLIENT, &object, &context),
                 "TLS credentials 'p' have endpoint 'server', but 'client' is wanted");
    expect_error(tls_creds_find("q", Q_CRYPTO_TLS_CREDS_ENDPOINT_CLIENT, &object, &context),
                 "No TLS credentials with id 'q'");
    struct object_options secret = { .qom_type = OBJECT_TYPE_SECRET, .id = "s", .u.secret.data = "x" };
    expect_success(object_add(&secret));
    expect_error(tls_creds_find("s", Q_CRYPTO_TLS_CREDS_ENDPOINT_CLIENT, &object, &context),
                 "object 's' is a 'secret', but TLS credentials are wanted");
    object_del_all();
}

NODE_TEST(keys_and_certificates_need_a_directory)
{
    struct object_options options = psk("p", Q_CRYPTO_TLS_CREDS_ENDPOINT_CLIENT);
    options.u.tls_creds_psk.dir = NULL;
    expect_error(object_add(&options), "tls-creds-psk 'p': dir: is missing");
    struct object_options x509 = { .qom_type = OBJECT_TYPE_TLS_CREDS_X509, .id = "x" };
    expect_error(object_add(&x509), "tls-creds-x509 'x': dir: is missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_side_gets_what_its_connections_need),
        cmocka_unit_test(the_endpoint_has_to_be_the_right_one),
        cmocka_unit_test(keys_and_certificates_need_a_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
