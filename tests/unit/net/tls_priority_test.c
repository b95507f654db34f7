/* Priority strings of GnuTLS, and what becomes of them. */
#include "blockcore/net/tls_priority.h"

#include "tests/unit/base/unit.h"

static struct tls_priority parsed(const char *text, enum tls_proof proof)
{
    struct tls_priority priority;
    CLEANUP(error_free) struct error *err = tls_priority_parse(text, proof, &priority);
    if (err)
        fail_msg("%s", error_message(err));
    return priority;
}

static bool holds(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = list; at; at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
        if (strncmp(at, name, length) == 0 && (at[length] == ':' || !at[length]))
            return true;
    }
    return false;
}

static void refused(const char *text, enum tls_proof proof, const char *part)
{
    struct tls_priority priority = { .security_level = 4711 };
    CLEANUP(error_free) struct error *err = tls_priority_parse(text, proof, &priority);
    assert_non_null(err);
    if (!strstr(error_message(err), part))
        fail_msg("\"%s\" does not contain \"%s\"", error_message(err), part);
    assert_int_equal(priority.security_level, 4711);
}

static void normal_is_everything_that_is_good(void **state)
{
    (void)state;
    struct tls_priority priority = parsed("NORMAL", TLS_PROOF_CERTIFICATE);
    assert_true(priority.tls12 && priority.tls13 && priority.security_level == 2 && !priority.server_prefers);
    assert_true(holds(priority.ciphers, "ECDHE-RSA-AES128-GCM-SHA256"));
    assert_true(holds(priority.ciphers, "ECDHE-ECDSA-AES256-SHA"));
    assert_false(holds(priority.ciphers, "AES128-GCM-SHA256"));
    assert_null(strstr(priority.ciphers, "PSK"));
    assert_null(strstr(priority.ciphers, "ADH"));
    assert_true(holds(priority.suites, "TLS_AES_128_GCM_SHA256"));
    assert_true(holds(priority.groups, "X25519") && holds(priority.groups, "ffdhe2048"));
}

static void versions_can_be_taken_away(void **state)
{
    (void)state;
    struct tls_priority priority = parsed("NORMAL:-VERS-TLS1.2", TLS_PROOF_CERTIFICATE);
    assert_true(priority.tls13 && !priority.tls12);
    priority = parsed("NORMAL:-VERS-ALL:+VERS-TLS1.2", TLS_PROOF_CERTIFICATE);
    assert_true(priority.tls12 && !priority.tls13);
    priority = parsed("NORMAL:-VERS-TLS1.0:-VERS-TLS1.1:!VERS-SSL3.0", TLS_PROOF_CERTIFICATE);
    assert_true(priority.tls12 && priority.tls13);
    refused("NORMAL:-VERS-TLS-ALL", TLS_PROOF_CERTIFICATE, "leaves no version of TLS");
    refused("NORMAL:+VERS-TLS1.0", TLS_PROOF_CERTIFICATE, "'VERS-TLS1.0' is never offered");
}

static void changes_apply_in_order_and_bans_last(void **state)
{
    (void)state;
    struct tls_priority priority =
        parsed("NORMAL:-CIPHER-ALL:+AES-256-GCM:!AES-128-GCM:+AES-128-GCM", TLS_PROOF_CERTIFICATE);
    assert_string_equal(priority.suites, "TLS_AES_256_GCM_SHA384");
    assert_string_equal(priority.ciphers, "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                                          "DHE-RSA-AES256-GCM-SHA384");
    priority = parsed("NORMAL:-MAC-ALL:+SHA1:-VERS-TLS1.3", TLS_PROOF_CERTIFICATE);
    assert_null(strstr(priority.ciphers, "GCM"));
    assert_true(holds(priority.ciphers, "ECDHE-RSA-AES128-SHA"));
    priority = parsed("NORMAL:-GROUP-ALL:+GROUP-SECP384R1", TLS_PROOF_CERTIFICATE);
    assert_string_equal(priority.groups, "P-384");
    priority = parsed("NORMAL:+RSA", TLS_PROOF_CERTIFICATE);
    assert_true(holds(priority.ciphers, "AES128-GCM-SHA256"));
}

static void none_begins_with_nothing(void **state)
{
    (void)state;
    struct tls_priority priority = parsed("NONE:+VERS-TLS1.3:+AES-128-GCM:+AEAD:+GROUP-X25519", TLS_PROOF_CERTIFICATE);
    assert_true(priority.tls13 && !priority.tls12);
    assert_string_equal(priority.suites, "TLS_AES_128_GCM_SHA256");
    refused("NONE", TLS_PROOF_CERTIFICATE, "leaves no version");
    refused("NONE:+VERS-TLS1.3:+AES-128-GCM:+AEAD", TLS_PROOF_CERTIFICATE, "leaves no group");
    refused("NONE:+VERS-TLS1.2:+AES-128-GCM:+AEAD:+GROUP-X25519", TLS_PROOF_CERTIFICATE, "leaves no cipher");
}

static void levels_ask_for_more(void **state)
{
    (void)state;
    struct tls_priority priority = parsed("SECURE256", TLS_PROOF_CERTIFICATE);
    assert_int_equal(priority.security_level, 3);
    assert_null(strstr(priority.suites, "AES_128"));
    assert_null(strstr(priority.ciphers, "AES128"));
    priority = parsed("SECURE128:%PROFILE_ULTRA:%SERVER_PRECEDENCE", TLS_PROOF_CERTIFICATE);
    assert_true(priority.security_level == 4 && priority.server_prefers);
    priority = parsed("SUITEB128", TLS_PROOF_CERTIFICATE);
    assert_string_equal(priority.groups, "P-256:P-384");
}

static void the_proof_chooses_the_key_exchange(void **state)
{
    (void)state;
    struct tls_priority priority = parsed("NORMAL", TLS_PROOF_KEY);
    assert_true(holds(priority.ciphers, "PSK-AES128-GCM-SHA256"));
    assert_true(holds(priority.ciphers, "ECDHE-PSK-CHACHA20-POLY1305"));
    assert_null(strstr(priority.ciphers, "RSA"));
    priority = parsed("PFS", TLS_PROOF_KEY);
    assert_false(holds(priority.ciphers, "PSK-AES128-GCM-SHA256"));
    priority = parsed("NORMAL", TLS_PROOF_NONE);
    assert_true(priority.tls12 && !priority.tls13);
    assert_true(holds(priority.ciphers, "ADH-AES256-GCM-SHA384"));
    refused("NORMAL:-VERS-TLS1.2", TLS_PROOF_NONE, "anonymous TLS, which there is in TLS 1.2 only");
}

static void names_of_the_system_are_skipped(void **state)
{
    (void)state;
    assert_int_equal(parsed("@SYSTEM", TLS_PROOF_CERTIFICATE).security_level, 2);
    assert_int_equal(parsed("@QEMU,SECURE192", TLS_PROOF_CERTIFICATE).security_level, 3);
    assert_false(parsed("@QEMU,@SYSTEM:-VERS-TLS1.2", TLS_PROOF_CERTIFICATE).tls12);
    refused("@QEMU", TLS_PROOF_CERTIFICATE, "'@QEMU' is not understood");
}

static void what_is_not_understood_is_refused_with_what_is(void **state)
{
    (void)state;
    refused("STRONG", TLS_PROOF_CERTIFICATE,
            "priority: 'STRONG': 'STRONG' is not understood; understood are: NORMAL, ");
    refused("NORMAL:+ROT13", TLS_PROOF_CERTIFICATE, "'ROT13' is not understood; understood are: NORMAL");
    refused("NORMAL:+ROT13", TLS_PROOF_CERTIFICATE, "AES-256-GCM, CHACHA20-POLY1305");
    refused("NORMAL:%UNSAFE_RENEGOTIATION", TLS_PROOF_CERTIFICATE, "'%UNSAFE_RENEGOTIATION' is not understood");
    refused("+VERS-TLS1.2", TLS_PROOF_CERTIFICATE, "cannot come first");
    refused("NORMAL:-COMP-NULL", TLS_PROOF_CERTIFICATE, "'COMP-NULL' cannot be removed");
    refused("NORMAL::+SHA1", TLS_PROOF_CERTIFICATE, "is empty");
    refused("", TLS_PROOF_CERTIFICATE, "is empty");
    char text[TLS_PRIORITY_BYTES_MAX + 2];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    refused(text, TLS_PROOF_CERTIFICATE, "is longer than 4096 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_is_everything_that_is_good),
        cmocka_unit_test(versions_can_be_taken_away),
        cmocka_unit_test(changes_apply_in_order_and_bans_last),
        cmocka_unit_test(none_begins_with_nothing),
        cmocka_unit_test(levels_ask_for_more),
        cmocka_unit_test(the_proof_chooses_the_key_exchange),
        cmocka_unit_test(names_of_the_system_are_skipped),
        cmocka_unit_test(what_is_not_understood_is_refused_with_what_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
