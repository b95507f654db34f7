#include "blockcore/net/tls_priority.h"

#include "blockcore/base/memory.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The sets that a string is about. */
enum family {
    VERSION,
    CIPHER,
    EXCHANGE,
    MAC,
    GROUP,
    FAMILIES,
    ANYWAY = FAMILIES, /* always so, whatever is said */
    NEVER,             /* never so: can be removed only */
};

enum {
    ALL = 0xffff,

    V_1_2 = 1 << 0,
    V_1_3 = 1 << 1,

    C_AES_256_GCM = 1 << 0,
    C_CHACHA = 1 << 1,
    C_AES_128_GCM = 1 << 2,
    C_AES_128_CCM = 1 << 3,
    C_AES_256_CCM = 1 << 4,
    C_AES_256_CBC = 1 << 5,
    C_AES_128_CBC = 1 << 6,
    C_256 = C_AES_256_GCM | C_CHACHA | C_AES_256_CCM | C_AES_256_CBC,

    X_ECDHE_ECDSA = 1 << 0,
    X_ECDHE_RSA = 1 << 1,
    X_DHE_RSA = 1 << 2,
    X_RSA = 1 << 3,
    X_ECDHE_PSK = 1 << 4,
    X_DHE_PSK = 1 << 5,
    X_PSK = 1 << 6,
    X_ANON_ECDH = 1 << 7,
    X_ANON_DH = 1 << 8,
    X_FORWARD_SECRET = X_ECDHE_ECDSA | X_ECDHE_RSA | X_DHE_RSA | X_ECDHE_PSK | X_DHE_PSK | X_ANON_ECDH | X_ANON_DH,

    M_AEAD = 1 << 0,
    M_SHA384 = 1 << 1,
    M_SHA256 = 1 << 2,
    M_SHA1 = 1 << 3,

    G_X25519 = 1 << 0,
    G_P256 = 1 << 1,
    G_X448 = 1 << 2,
    G_P384 = 1 << 3,
    G_P521 = 1 << 4,
    G_FFDHE2048 = 1 << 5,
    G_FFDHE3072 = 1 << 6,
    G_FFDHE4096 = 1 << 7,
    G_FFDHE6144 = 1 << 8,
    G_FFDHE8192 = 1 << 9,
};

/* What changes are about. */
static const struct word {
    const char *name;
    enum family family;
    unsigned bits;
} words[] = {
    { "VERS-TLS1.3", VERSION, V_1_3 },
    { "VERS-TLS1.2", VERSION, V_1_2 },
    { "VERS-TLS-ALL", VERSION, ALL },
    { "VERS-ALL", VERSION, ALL },
    { "VERS-TLS1.1", NEVER, 0 },
    { "VERS-TLS1.0", NEVER, 0 },
    { "VERS-SSL3.0", NEVER, 0 },
    { "VERS-DTLS-ALL", NEVER, 0 },
    { "VERS-DTLS1.2", NEVER, 0 },
    { "VERS-DTLS1.0", NEVER, 0 },
    { "VERS-DTLS0.9", NEVER, 0 },
    { "AES-256-GCM", CIPHER, C_AES_256_GCM },
    { "CHACHA20-POLY1305", CIPHER, C_CHACHA },
    { "AES-128-GCM", CIPHER, C_AES_128_GCM },
    { "AES-128-CCM", CIPHER, C_AES_128_CCM },
    { "AES-256-CCM", CIPHER, C_AES_256_CCM },
    { "AES-256-CBC", CIPHER, C_AES_256_CBC },
    { "AES-128-CBC", CIPHER, C_AES_128_CBC },
    { "CIPHER-ALL", CIPHER, ALL },
    { "AES-128-CCM-8", NEVER, 0 },
    { "AES-256-CCM-8", NEVER, 0 },
    { "CAMELLIA-128-CBC", NEVER, 0 },
    { "CAMELLIA-256-CBC", NEVER, 0 },
    { "CAMELLIA-128-GCM", NEVER, 0 },
    { "CAMELLIA-256-GCM", NEVER, 0 },
    { "3DES-CBC", NEVER, 0 },
    { "ARCFOUR-128", NEVER, 0 },
    { "NULL", NEVER, 0 },
    { "ECDHE-ECDSA", EXCHANGE, X_ECDHE_ECDSA },
    { "ECDHE-RSA", EXCHANGE, X_ECDHE_RSA },
    { "DHE-RSA", EXCHANGE, X_DHE_RSA },
    { "RSA", EXCHANGE, X_RSA },
    { "ECDHE-PSK", EXCHANGE, X_ECDHE_PSK },
    { "DHE-PSK", EXCHANGE, X_DHE_PSK },
    { "PSK", EXCHANGE, X_PSK },
    { "ANON-ECDH", EXCHANGE, X_ANON_ECDH },
    { "ANON-DH", EXCHANGE, X_ANON_DH },
    { "KX-ALL", EXCHANGE, ALL },
    { "DHE-DSS", NEVER, 0 },
    { "RSA-PSK", NEVER, 0 },
    { "SRP", NEVER, 0 },
    { "SRP-RSA", NEVER, 0 },
    { "SRP-DSS", NEVER, 0 },
    { "AEAD", MAC, M_AEAD },
    { "SHA384", MAC, M_SHA384 },
    { "SHA256", MAC, M_SHA256 },
    { "SHA1", MAC, M_SHA1 },
    { "MAC-ALL", MAC, ALL },
    { "MD5", NEVER, 0 },
    { "GROUP-X25519", GROUP, G_X25519 },
    { "GROUP-SECP256R1", GROUP, G_P256 },
    { "GROUP-X448", GROUP, G_X448 },
    { "GROUP-SECP384R1", GROUP, G_P384 },
    { "GROUP-SECP521R1", GROUP, G_P521 },
    { "GROUP-FFDHE2048", GROUP, G_FFDHE2048 },
    { "GROUP-FFDHE3072", GROUP, G_FFDHE3072 },
    { "GROUP-FFDHE4096", GROUP, G_FFDHE4096 },
    { "GROUP-FFDHE6144", GROUP, G_FFDHE6144 },
    { "GROUP-FFDHE8192", GROUP, G_FFDHE8192 },
    { "GROUP-EC-ALL", GROUP, G_X25519 | G_P256 | G_X448 | G_P384 | G_P521 },
    { "GROUP-DH-ALL", GROUP, G_FFDHE2048 | G_FFDHE3072 | G_FFDHE4096 | G_FFDHE6144 | G_FFDHE8192 },
    { "GROUP-ALL", GROUP, ALL },
    { "GROUP-SECP192R1", NEVER, 0 },
    { "GROUP-SECP224R1", NEVER, 0 },
    { "CURVE-X25519", GROUP, G_X25519 },
    { "CURVE-SECP256R1", GROUP, G_P256 },
    { "CURVE-X448", GROUP, G_X448 },
    { "CURVE-SECP384R1", GROUP, G_P384 },
    { "CURVE-SECP521R1", GROUP, G_P521 },
    { "CURVE-ALL", GROUP, G_X25519 | G_P256 | G_X448 | G_P384 | G_P521 },
    { "SIGN-ALL", ANYWAY, 0 },
    { "SIGN-RSA-MD5", NEVER, 0 },
    { "SIGN-RSA-SHA1", NEVER, 0 },
    { "SIGN-ECDSA-SHA1", NEVER, 0 },
    { "SIGN-DSA-SHA1", NEVER, 0 },
    { "COMP-NULL", ANYWAY, 0 },
    { "COMP-ALL", ANYWAY, 0 },
    { "CTYPE-X509", ANYWAY, 0 },
    { "CTYPE-ALL", ANYWAY, 0 },
    { "CTYPE-X.509", ANYWAY, 0 },
    { "CTYPE-OPENPGP", NEVER, 0 },
    { "CTYPE-RAWPK", NEVER, 0 },
};

/* What a string begins with. What is there for old peers only (RSA without forward secrecy) has to be asked for, and so
 * has what takes the processor long (groups beyond 4096 bits). */
#define GROUPS_USUAL (ALL & ~(G_FFDHE6144 | G_FFDHE8192))
#define EXCHANGES_USUAL (ALL & ~X_RSA)
static const struct level {
    const char *name;
    unsigned sets[FAMILIES];
    int security_level;
} levels[] = {
    { "NORMAL", { ALL, ALL, EXCHANGES_USUAL, ALL, GROUPS_USUAL }, 2 },
    { "PERFORMANCE", { ALL, ALL, EXCHANGES_USUAL, ALL, GROUPS_USUAL }, 2 },
    { "LEGACY", { ALL, ALL, ALL, ALL, GROUPS_USUAL }, 2 },
    { "PFS", { ALL, ALL, X_FORWARD_SECRET, ALL, GROUPS_USUAL }, 2 },
    { "SECURE128", { ALL, ALL, EXCHANGES_USUAL, ALL & ~M_SHA1, GROUPS_USUAL }, 2 },
    { "SECURE192", { ALL, C_256, X_FORWARD_SECRET, ALL & ~M_SHA1, G_P384 | G_P521 | G_X448 | G_FFDHE8192 }, 3 },
    { "SECURE256", { ALL, C_256, X_FORWARD_SECRET, ALL & ~M_SHA1, G_P384 | G_P521 | G_X448 | G_FFDHE8192 }, 3 },
    { "SUITEB128", { ALL, C_AES_128_GCM | C_AES_256_GCM, X_ECDHE_ECDSA, M_AEAD, G_P256 | G_P384 }, 3 },
    { "SUITEB192", { ALL, C_AES_256_GCM, X_ECDHE_ECDSA, M_AEAD, G_P384 }, 4 },
    { "NONE", { 0, 0, 0, 0, 0 }, 2 },
    { "@SYSTEM", { ALL, ALL, EXCHANGES_USUAL, ALL, GROUPS_USUAL }, 2 },
};

static const struct {
    const char *name;
    unsigned cipher, exchange, mac;
} suites_1_2[] = {
    { "ECDHE-ECDSA-AES256-GCM-SHA384", C_AES_256_GCM, X_ECDHE_ECDSA, M_AEAD },
    { "ECDHE-ECDSA-CHACHA20-POLY1305", C_CHACHA, X_ECDHE_ECDSA, M_AEAD },
    { "ECDHE-ECDSA-AES128-GCM-SHA256", C_AES_128_GCM, X_ECDHE_ECDSA, M_AEAD },
    { "ECDHE-ECDSA-AES256-CCM", C_AES_256_CCM, X_ECDHE_ECDSA, M_AEAD },
    { "ECDHE-ECDSA-AES128-CCM", C_AES_128_CCM, X_ECDHE_ECDSA, M_AEAD },
    { "ECDHE-ECDSA-AES256-SHA384", C_AES_256_CBC, X_ECDHE_ECDSA, M_SHA384 },
    { "ECDHE-ECDSA-AES256-SHA", C_AES_256_CBC, X_ECDHE_ECDSA, M_SHA1 },
    { "ECDHE-ECDSA-AES128-SHA256", C_AES_128_CBC, X_ECDHE_ECDSA, M_SHA256 },
    { "ECDHE-ECDSA-AES128-SHA", C_AES_128_CBC, X_ECDHE_ECDSA, M_SHA1 },
    { "ECDHE-RSA-AES256-GCM-SHA384", C_AES_256_GCM, X_ECDHE_RSA, M_AEAD },
    { "ECDHE-RSA-CHACHA20-POLY1305", C_CHACHA, X_ECDHE_RSA, M_AEAD },
    { "ECDHE-RSA-AES128-GCM-SHA256", C_AES_128_GCM, X_ECDHE_RSA, M_AEAD },
    { "ECDHE-RSA-AES256-SHA384", C_AES_256_CBC, X_ECDHE_RSA, M_SHA384 },
    { "ECDHE-RSA-AES256-SHA", C_AES_256_CBC, X_ECDHE_RSA, M_SHA1 },
    { "ECDHE-RSA-AES128-SHA256", C_AES_128_CBC, X_ECDHE_RSA, M_SHA256 },
    { "ECDHE-RSA-AES128-SHA", C_AES_128_CBC, X_ECDHE_RSA, M_SHA1 },
    { "DHE-RSA-AES256-GCM-SHA384", C_AES_256_GCM, X_DHE_RSA, M_AEAD },
    { "DHE-RSA-CHACHA20-POLY1305", C_CHACHA, X_DHE_RSA, M_AEAD },
    { "DHE-RSA-AES128-GCM-SHA256", C_AES_128_GCM, X_DHE_RSA, M_AEAD },
    { "DHE-RSA-AES256-CCM", C_AES_256_CCM, X_DHE_RSA, M_AEAD },
    { "DHE-RSA-AES128-CCM", C_AES_128_CCM, X_DHE_RSA, M_AEAD },
    { "DHE-RSA-AES256-SHA256", C_AES_256_CBC, X_DHE_RSA, M_SHA256 },
    { "DHE-RSA-AES256-SHA", C_AES_256_CBC, X_DHE_RSA, M_SHA1 },
    { "DHE-RSA-AES128-SHA256", C_AES_128_CBC, X_DHE_RSA, M_SHA256 },
    { "DHE-RSA-AES128-SHA", C_AES_128_CBC, X_DHE_RSA, M_SHA1 },
    { "AES256-GCM-SHA384", C_AES_256_GCM, X_RSA, M_AEAD },
    { "AES128-GCM-SHA256", C_AES_128_GCM, X_RSA, M_AEAD },
    { "AES256-CCM", C_AES_256_CCM, X_RSA, M_AEAD },
    { "AES128-CCM", C_AES_128_CCM, X_RSA, M_AEAD },
    { "AES256-SHA256", C_AES_256_CBC, X_RSA, M_SHA256 },
    { "AES256-SHA", C_AES_256_CBC, X_RSA, M_SHA1 },
    { "AES128-SHA256", C_AES_128_CBC, X_RSA, M_SHA256 },
    { "AES128-SHA", C_AES_128_CBC, X_RSA, M_SHA1 },
    { "ECDHE-PSK-CHACHA20-POLY1305", C_CHACHA, X_ECDHE_PSK, M_AEAD },
    { "ECDHE-PSK-AES256-CBC-SHA384", C_AES_256_CBC, X_ECDHE_PSK, M_SHA384 },
    { "ECDHE-PSK-AES256-CBC-SHA", C_AES_256_CBC, X_ECDHE_PSK, M_SHA1 },
    { "ECDHE-PSK-AES128-CBC-SHA256", C_AES_128_CBC, X_ECDHE_PSK, M_SHA256 },
    { "ECDHE-PSK-AES128-CBC-SHA", C_AES_128_CBC, X_ECDHE_PSK, M_SHA1 },
    { "DHE-PSK-AES256-GCM-SHA384", C_AES_256_GCM, X_DHE_PSK, M_AEAD },
    { "DHE-PSK-CHACHA20-POLY1305", C_CHACHA, X_DHE_PSK, M_AEAD },
    { "DHE-PSK-AES128-GCM-SHA256", C_AES_128_GCM, X_DHE_PSK, M_AEAD },
    { "DHE-PSK-AES256-CCM", C_AES_256_CCM, X_DHE_PSK, M_AEAD },
    { "DHE-PSK-AES128-CCM", C_AES_128_CCM, X_DHE_PSK, M_AEAD },
    { "PSK-AES256-GCM-SHA384", C_AES_256_GCM, X_PSK, M_AEAD },
    { "PSK-CHACHA20-POLY1305", C_CHACHA, X_PSK, M_AEAD },
    { "PSK-AES128-GCM-SHA256", C_AES_128_GCM, X_PSK, M_AEAD },
    { "PSK-AES256-CCM", C_AES_256_CCM, X_PSK, M_AEAD },
    { "PSK-AES128-CCM", C_AES_128_CCM, X_PSK, M_AEAD },
    { "ADH-AES256-GCM-SHA384", C_AES_256_GCM, X_ANON_DH, M_AEAD },
    { "ADH-AES128-GCM-SHA256", C_AES_128_GCM, X_ANON_DH, M_AEAD },
    { "ADH-AES256-SHA256", C_AES_256_CBC, X_ANON_DH, M_SHA256 },
    { "ADH-AES128-SHA256", C_AES_128_CBC, X_ANON_DH, M_SHA256 },
    { "AECDH-AES256-SHA", C_AES_256_CBC, X_ANON_ECDH, M_SHA1 },
    { "AECDH-AES128-SHA", C_AES_128_CBC, X_ANON_ECDH, M_SHA1 },
};

static const struct word suites_1_3[] = {
    { "TLS_AES_256_GCM_SHA384", CIPHER, C_AES_256_GCM },
    { "TLS_CHACHA20_POLY1305_SHA256", CIPHER, C_CHACHA },
    { "TLS_AES_128_GCM_SHA256", CIPHER, C_AES_128_GCM },
    { "TLS_AES_128_CCM_SHA256", CIPHER, C_AES_128_CCM },
};

/* What clients most often propose comes first. */
static const struct word groups[] = {
    { "X25519", GROUP, G_X25519 },       { "P-256", GROUP, G_P256 },          { "X448", GROUP, G_X448 },
    { "P-384", GROUP, G_P384 },          { "P-521", GROUP, G_P521 },          { "ffdhe2048", GROUP, G_FFDHE2048 },
    { "ffdhe3072", GROUP, G_FFDHE3072 }, { "ffdhe4096", GROUP, G_FFDHE4096 }, { "ffdhe6144", GROUP, G_FFDHE6144 },
    { "ffdhe8192", GROUP, G_FFDHE8192 },
};

/* The state of reading a string. */
struct reading {
    unsigned sets[FAMILIES];
    unsigned banned[FAMILIES];
    int security_level;
    bool server_prefers;
};

/* One item, which is not followed by a zero byte. */
struct item {
    const char *text;
    size_t length;
};

static bool item_is(const struct item *item, const char *word)
{
    return strlen(word) == item->length && memcmp(item->text, word, item->length) == 0;
}

static const struct level *find_level(const struct item *item)
{
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        if (item_is(item, levels[i].name))
            return &levels[i];
    }
    return NULL;
}

static const struct word *find_word(const struct item *item)
{
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (item_is(item, words[i].name))
            return &words[i];
    }
    return NULL;
}

/* What is understood, for a message; the caller frees it. */
static char *known_words(void)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *stream = open_memstream(&text, &bytes);
    for (size_t i = 0; stream && i < ARRAY_SIZE(levels); i++)
        fprintf(stream, "%s%s", i ? ", " : "", levels[i].name);
    for (size_t i = 0; stream && i < ARRAY_SIZE(words); i++) {
        if (words[i].family != NEVER)
            fprintf(stream, "%s%s", i ? ", " : "; after '+', '-' or '!': ", words[i].name);
    }
    if (stream && fclose(stream) == 0)
        return text;
    return xstrdup("(no memory to list it)");
}

static struct error *not_understood(const struct item *item, const char *what)
{
    CLEANUP(free) char *known = known_words();
    int shown = item->length < 64 ? (int)item->length : 64;
    return error_new("'%.*s' %s; understood are: %s", shown, item->text, what, known);
}

/* What begins with "%". */
static struct error *apply_flag(struct reading *reading, const struct item *item)
{
    static const struct {
        const char *name;
        int security_level; /* 0: does not change it */
    } flags[] = {
        { "%COMPAT", 0 },      { "%NO_TICKETS", 0 },     { "%SAFE_RENEGOTIATION", 0 }, { "%SERVER_PRECEDENCE", 0 },
        { "%PROFILE_LOW", 1 }, { "%PROFILE_MEDIUM", 2 }, { "%PROFILE_HIGH", 3 },       { "%PROFILE_ULTRA", 4 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        if (!item_is(item, flags[i].name))
            continue;
        if (flags[i].security_level)
            reading->security_level = flags[i].security_level;
        reading->server_prefers = reading->server_prefers || strcmp(flags[i].name, "%SERVER_PRECEDENCE") == 0;
        return NULL;
    }
    return error_new("'%.*s' is not understood; of this kind are: %%COMPAT, %%NO_TICKETS, %%PROFILE_LOW, "
                     "%%PROFILE_MEDIUM, %%PROFILE_HIGH, %%PROFILE_ULTRA, %%SAFE_RENEGOTIATION, %%SERVER_PRECEDENCE",
                     item->length < 64 ? (int)item->length : 64, item->text);
}

static struct error *apply_change(struct reading *reading, const struct item *item)
{
    char sign = *item->text;
    const struct item name = { item->text + 1, item->length - 1 };
    const struct word *word = find_word(&name);
    if (!word)
        return not_understood(&name, "is not understood");
    if (word->family == NEVER && sign == '+')
        return not_understood(&name, "is never offered");
    if (word->family == ANYWAY && sign != '+')
        return not_understood(&name, "cannot be removed");
    if (word->family >= FAMILIES)
        return NULL;
    if (sign == '+')
        reading->sets[word->family] |= word->bits;
    else
        reading->sets[word->family] &= ~word->bits;
    if (sign == '!')
        reading->banned[word->family] |= word->bits;
    return NULL;
}

static struct error *apply(struct reading *reading, const struct item *item, bool first)
{
    const struct level *level = find_level(item);
    if (item->length == 0)
        return error_new("is empty between two ':'");
    if (strchr("+-!", *item->text))
        return first ? not_understood(item, "cannot come first") : apply_change(reading, item);
    if (*item->text == '%')
        return apply_flag(reading, item);
    if (!level)
        return not_understood(item, "is not understood");
    for (unsigned i = 0; i < FAMILIES; i++)
        reading->sets[i] |= level->sets[i];
    if (level->security_level > reading->security_level)
        reading->security_level = level->security_level;
    return NULL;
}

/* "@A,B:..." means: what the system calls A, else what it calls B, else ... the last, which may be a plain word. Here
 * the system calls nothing anything. */
static struct item skip_names_of_system(struct item item)
{
    const char *comma;
    if (*item.text != '@')
        return item;
    while ((comma = memchr(item.text, ',', item.length))) {
        item.length -= (size_t)(comma + 1 - item.text);
        item.text = comma + 1;
    }
    return item;
}

static struct error *read_items(const char *text, struct reading *reading)
{
    bool first = true;
    for (;;) {
        struct item item = { text, strcspn(text, ":") };
        struct item meant = first ? skip_names_of_system(item) : item;
        struct error *err = apply(reading, &meant, first);
        if (err)
            return err;
        text += item.length;
        if (!*text)
            return NULL;
        text++;
        first = false;
    }
}

/* The lists for OpenSSL ----------------------------------------------------------------------------------------- */

static void append(char *list, size_t bytes, const char *name)
{
    size_t used = strlen(list);
    int length = snprintf(list + used, bytes - used, "%s%s", used ? ":" : "", name);
    assert(length > 0 && (size_t)length < bytes - used); /* all tables together fit */
}

static void append_words(char *list, size_t bytes, const struct word *table, size_t count, unsigned set)
{
    for (size_t i = 0; i < count; i++) {
        if (table[i].bits & set)
            append(list, bytes, table[i].name);
    }
}

static unsigned exchanges_for(enum tls_proof proof)
{
    switch (proof) {
    case TLS_PROOF_NONE:
        return X_ANON_DH | X_ANON_ECDH;
    case TLS_PROOF_KEY:
        return X_ECDHE_PSK | X_DHE_PSK | X_PSK;
    default:
        return X_ECDHE_ECDSA | X_ECDHE_RSA | X_DHE_RSA | X_RSA;
    }
}

static void list_1_2(const struct reading *reading, enum tls_proof proof, struct tls_priority *out)
{
    unsigned exchanges = reading->sets[EXCHANGE] & exchanges_for(proof);
    for (size_t i = 0; i < ARRAY_SIZE(suites_1_2); i++) {
        if (suites_1_2[i].cipher & reading->sets[CIPHER] && suites_1_2[i].exchange & exchanges &&
            suites_1_2[i].mac & reading->sets[MAC])
            append(out->ciphers, sizeof(out->ciphers), suites_1_2[i].name);
    }
}

static struct error *translate(const struct reading *reading, enum tls_proof proof, struct tls_priority *out)
{
    out->server_prefers = reading->server_prefers;
    out->security_level = reading->security_level;
    list_1_2(reading, proof, out);
    if (reading->sets[MAC] & M_AEAD)
        append_words(out->suites, sizeof(out->suites), suites_1_3, ARRAY_SIZE(suites_1_3), reading->sets[CIPHER]);
    append_words(out->groups, sizeof(out->groups), groups, ARRAY_SIZE(groups), reading->sets[GROUP]);
    if (!reading->sets[VERSION])
        return error_new("leaves no version of TLS");
    if (!*out->groups)
        return error_new("leaves no group to agree on keys in");
    out->tls12 = reading->sets[VERSION] & V_1_2 && *out->ciphers;
    out->tls13 = reading->sets[VERSION] & V_1_3 && *out->suites && proof != TLS_PROOF_NONE;
    if (!out->tls12 && !out->tls13)
        return error_new(proof == TLS_PROOF_NONE ? "leaves no cipher for anonymous TLS, which there is in TLS 1.2 only"
                                                 : "leaves no cipher");
    return NULL;
}

struct error *tls_priority_parse(const char *text, enum tls_proof proof, struct tls_priority *out)
{
    struct reading reading = { 0 };
    struct tls_priority found = { 0 };
    if (strlen(text) > TLS_PRIORITY_BYTES_MAX)
        return error_new("priority: is longer than %d bytes", TLS_PRIORITY_BYTES_MAX);
    struct error *err = read_items(text, &reading);
    for (unsigned i = 0; i < FAMILIES; i++)
        reading.sets[i] &= ~reading.banned[i];
    if (!err)
        err = translate(&reading, proof, &found);
    if (err)
        return error_wrap(err, "priority: '%.*s'", 256, text);
    *out = found;
    return NULL;
}
