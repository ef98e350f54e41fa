/* memcpy, memmove, memset and memcmp for images without a C library; compilers also call them on their own account. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Else the compiler sees that the loops below are memcpy and memset, and calls those. */
#if defined(__clang__)
#define OWN_LOOPS __attribute__((used, no_builtin))
#else
#define OWN_LOOPS __attribute__((used, optimize("no-tree-loop-distribute-patterns")))
#endif

typedef uint32_t __attribute__((may_alias)) Word;

/* Whole words at the same time as long as both addresses are aligned: some cores fault on others. */
OWN_LOOPS void *memcpy(void *to, const void *from, size_t bytes)
{
    uint8_t *byte_to = to;
    const uint8_t *byte_from = from;
    if ((((uintptr_t)to | (uintptr_t)from) & 3u) == 0) {
        Word *word_to = to;
        const Word *word_from = from;
        for (; bytes >= 16; bytes -= 16, word_to += 4, word_from += 4) {
            Word a = word_from[0], b = word_from[1], c = word_from[2], d = word_from[3];
            word_to[0] = a;
            word_to[1] = b;
            word_to[2] = c;
            word_to[3] = d;
        }
        for (; bytes >= 4; bytes -= 4) {
            *word_to++ = *word_from++;
        }
        byte_to = (uint8_t *)word_to;
        byte_from = (const uint8_t *)word_from;
    }
    for (; bytes != 0; bytes--) {
        *byte_to++ = *byte_from++;
    }
    return to;
}

OWN_LOOPS void *memmove(void *to, const void *from, size_t bytes)
{
    uint8_t *byte_to = to;
    const uint8_t *byte_from = from;
    if ((uintptr_t)to - (uintptr_t)from >= bytes) { /* unsigned: also where `to` comes first */
        return memcpy(to, from, bytes);
    }
    while (bytes != 0) {
        bytes--;
        byte_to[bytes] = byte_from[bytes];
    }
    return to;
}

OWN_LOOPS void *memset(void *to, int value, size_t bytes)
{
    uint8_t *byte_to = to;
    for (; bytes != 0 && ((uintptr_t)byte_to & 3u) != 0; bytes--) {
        *byte_to++ = (uint8_t)value;
    }
    for (; bytes >= 4; bytes -= 4, byte_to += 4) {
        *(Word *)(void *)byte_to = 0x01010101u * (uint8_t)value;
    }
    for (; bytes != 0; bytes--) {
        *byte_to++ = (uint8_t)value;
    }
    return to;
}

OWN_LOOPS int memcmp(const void *left, const void *right, size_t bytes)
{
    const uint8_t *a = left, *b = right;
    for (; bytes != 0; bytes--, a++, b++) {
        if (*a != *b) {
            return *a < *b ? -1 : 1;
        }
    }
    return 0;
}
