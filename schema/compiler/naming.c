#include "schema/compiler/naming.h"

#include <ctype.h>
#include <string.h>

/* Sorted by use, not by name: the list is searched once for each name of a schema. */
static const char *const reserved_words[] = {
    /* C17 and what is coming */
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern", "float",
    "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed", "sizeof",
    "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "alignas", "alignof",
    "bool", "constexpr", "false", "nullptr", "static_assert", "thread_local", "true", "typeof", "typeof_unqual",
    /* C++ */
    "and", "and_eq", "asm", "bitand", "bitor", "catch", "char8_t", "char16_t", "char32_t", "class", "compl", "concept",
    "consteval", "constinit", "const_cast", "co_await", "co_return", "co_yield", "decltype", "delete", "dynamic_cast",
    "explicit", "export", "friend", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "operator", "or",
    "or_eq", "private", "protected", "public", "reinterpret_cast", "requires", "static_cast", "template", "this",
    "throw", "try", "typeid", "typename", "using", "virtual", "wchar_t", "xor", "xor_eq",
    /* macros that compilers or common headers define */
    "errno", "unix", "linux", "i386", "mips", "sparc", "stdin", "stdout", "stderr", "offsetof", "assert"
};

const char *name_stem(const char *name)
{
    if (strncmp(name, "__", 2) == 0) {
        const char *vendor_end = strchr(name + 2, '_');
        if (vendor_end && vendor_end > name + 2)
            name = vendor_end + 1;
    }
    return (*name == 'x' || *name == 'X') && name[1] == '-' && isalpha((unsigned char)name[2]) ? name + 2 : name;
}

bool name_is_kept(const char *name)
{
    return name[0] == 'q' && (name[1] == '_' || name[1] == '-');
}

bool name_is_valid(const char *name)
{
    const char *stem = name_stem(name);
    if (!isalpha((unsigned char)*stem) || name_is_kept(name))
        return false;
    for (; *stem; stem++)
        if (!isalnum((unsigned char)*stem) && *stem != '-' && *stem != '_')
            return false;
    for (; name < stem; name++)
        if (!isalnum((unsigned char)*name) && !strchr("-_.", *name))
            return false;
    return true;
}

static void replace_punctuation(char *name)
{
    for (; *name; name++)
        if (!isalnum((unsigned char)*name))
            *name = '_';
}

const char *c_part(struct arena *arena, const char *name)
{
    char *part = arena_strdup(arena, name);
    replace_punctuation(part);
    return part;
}

static const char *protect(struct arena *arena, const char *identifier)
{
    for (size_t i = 0; i < sizeof(reserved_words) / sizeof(reserved_words[0]); i++)
        if (*identifier == *reserved_words[i] && strcmp(identifier, reserved_words[i]) == 0)
            return arena_printf(arena, "%s_", identifier);
    return identifier;
}

const char *c_identifier(struct arena *arena, const char *name)
{
    const char *identifier = c_part(arena, name);
    if (isdigit((unsigned char)*identifier))
        return arena_printf(arena, "_%s", identifier);
    return protect(arena, identifier);
}

/* A word begins at an upper-case letter that follows a lower-case one or a digit, or is the last of several. */
static bool word_begins(const char *name, size_t i)
{
    if (i == 0 || !isupper((unsigned char)name[i]))
        return false;
    return islower((unsigned char)name[i - 1]) || isdigit((unsigned char)name[i - 1]) ||
           (isupper((unsigned char)name[i - 1]) && islower((unsigned char)name[i + 1]));
}

const char *c_snake(struct arena *arena, const char *name)
{
    char *snake = arena_array(arena, 2, strlen(name) + 1);
    size_t length = 0;
    for (size_t i = 0; name[i]; i++) {
        if (word_begins(name, i))
            snake[length++] = '_';
        snake[length++] = (char)tolower((unsigned char)name[i]);
    }
    replace_punctuation(snake);
    return snake;
}

const char *c_tag(struct arena *arena, const char *name)
{
    return protect(arena, c_snake(arena, name));
}

const char *c_constant(struct arena *arena, const char *prefix, const char *name)
{
    char *constant = arena_printf(arena, "%s_%s", prefix, name);
    replace_punctuation(constant);
    for (char *p = constant; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    return constant;
}
