#include "blockcore/net/tls_name.h"

#include "blockcore/base/memory.h"

#include <string.h>

static const struct {
    const char *number;
    const char *name;
} attributes[] = {
    { "2.5.4.3", "CN" },
    { "2.5.4.4", "surName" },
    { "2.5.4.5", "serialNumber" },
    { "2.5.4.6", "C" },
    { "2.5.4.7", "L" },
    { "2.5.4.8", "ST" },
    { "2.5.4.9", "street" },
    { "2.5.4.10", "O" },
    { "2.5.4.11", "OU" },
    { "2.5.4.12", "title" },
    { "2.5.4.13", "description" },
    { "2.5.4.15", "businessCategory" },
    { "2.5.4.17", "postalCode" },
    { "2.5.4.20", "telephoneNumber" },
    { "2.5.4.41", "name" },
    { "2.5.4.42", "givenName" },
    { "2.5.4.43", "initials" },
    { "2.5.4.44", "generationQualifier" },
    { "2.5.4.46", "dnQualifier" },
    { "2.5.4.65", "pseudonym" },
    { "0.9.2342.19200300.100.1.1", "UID" },
    { "0.9.2342.19200300.100.1.25", "DC" },
    { "1.2.840.113549.1.9.1", "EMAIL" },
    { "1.3.6.1.4.1.311.60.2.1.1", "jurisdictionOfIncorporationLocalityName" },
    { "1.3.6.1.4.1.311.60.2.1.2", "jurisdictionOfIncorporationStateOrProvinceName" },
    { "1.3.6.1.4.1.311.60.2.1.3", "jurisdictionOfIncorporationCountryName" },
    { "1.3.6.1.5.5.7.9.2", "placeOfBirth" },
    { "1.3.6.1.5.5.7.9.3", "gender" },
    { "1.3.6.1.5.5.7.9.4", "countryOfCitizenship" },
    { "1.3.6.1.5.5.7.9.5", "countryOfResidence" },
};

static const char *name_of_attribute(const char *number)
{
    for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
        if (strcmp(attributes[i].number, number) == 0)
            return attributes[i].name;
    }
    return NULL;
}

static bool put_text(BIO *out, const char *text)
{
    size_t length = strlen(text);
    size_t written;
    return libssl.BIO_write_ex(out, text, length, &written) && written == length;
}

static bool put_attribute(BIO *out, const X509_NAME_ENTRY *entry)
{
    static const unsigned long as_text = ASN1_STRFLGS_ESC_2253 | ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_UTF8_CONVERT;
    static const unsigned long as_digits = ASN1_STRFLGS_DUMP_ALL | ASN1_STRFLGS_DUMP_DER;
    char number[128];
    int length = libssl.OBJ_obj2txt(number, sizeof(number), libssl.X509_NAME_ENTRY_get_object(entry), 1);
    if (length <= 0 || (size_t)length >= sizeof(number))
        return false;
    const char *name = name_of_attribute(number);
    const ASN1_STRING *value = libssl.X509_NAME_ENTRY_get_data(entry);
    return put_text(out, name ? name : number) && put_text(out, "=") &&
           libssl.ASN1_STRING_print_ex(out, value, name ? as_text : as_digits) >= 0;
}

static bool put_name(BIO *out, const X509_NAME *name)
{
    int level = -1;
    for (int i = 0; i < libssl.X509_NAME_entry_count(name); i++) {
        const X509_NAME_ENTRY *entry = libssl.X509_NAME_get_entry(name, i);
        const char *before = libssl.X509_NAME_ENTRY_set(entry) == level ? "+" : ",";
        if (i > 0 && !put_text(out, before))
            return false;
        level = libssl.X509_NAME_ENTRY_set(entry);
        if (!put_attribute(out, entry))
            return false;
    }
    return true;
}

char *tls_name_of(const X509 *certificate)
{
    BIO *out = libssl.BIO_new(libssl.BIO_s_mem());
    char *text = NULL;
    char *result = NULL;
    if (out && put_name(out, libssl.X509_get_subject_name(certificate))) {
        long length = libssl.BIO_ctrl(out, BIO_CTRL_INFO, 0, &text);
        if (length >= 0 && length <= TLS_NAME_BYTES_MAX)
            result = xstrndup(text, (size_t)length);
    }
    libssl.BIO_free(out);
    return result;
}
