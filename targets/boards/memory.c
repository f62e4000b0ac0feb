/* The functions that compilers call by themselves, for want of a C library on a bare board.
 * Without a library on any board, counts do not depend on which one was at hand. -ffreestanding keeps clang from making each loop
 * a call of itself; GCC needs the pragma too. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-loop-distribute-patterns")
#endif

#include <stddef.h>
#include <stdint.h>

typedef uint32_t __attribute__((may_alias)) word;

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

/* By words where both sides are aligned, as weights and states are. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    uint8_t *d = to;
    const uint8_t *s = from;
    if ((((uintptr_t)d | (uintptr_t)s) & 3) == 0) {
        for (; bytes >= 4; bytes -= 4, d += 4, s += 4) {
            *(word *)(void *)d = *(const word *)(const void *)s;
        }
    }
    while (bytes-- != 0) *d++ = *s++;
    return to;
}

void *memmove(void *to, const void *from, size_t bytes) {
    uint8_t *d = to;
    const uint8_t *s = from;
    if (d <= s) {
        while (bytes-- != 0) *d++ = *s++;
    } else {
        while (bytes-- != 0) d[bytes] = s[bytes];
    }
    return to;
}

void *memset(void *to, int value, size_t bytes) {
    uint8_t *d = to;
    if (((uintptr_t)d & 3) == 0) {
        const uint32_t four = UINT32_C(0x01010101) * (uint8_t)value;
        for (; bytes >= 4; bytes -= 4, d += 4) *(word *)(void *)d = four;
    }
    while (bytes-- != 0) *d++ = (uint8_t)value;
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes) {
    const uint8_t *p = a, *q = b;
    for (; bytes != 0; bytes--, p++, q++) {
        if (*p != *q) return *p < *q ? -1 : 1;
    }
    return 0;
}

#if defined(__arm__)
/* The same under the names of Arm's run-time ABI (IHI 0043, section 4.3.4), which clang calls: the suffix is an alignment that may be relied
 * on, the arguments of memset are in another order, and nothing is returned. */
#define ARM_NAMES(suffix)                                                                                       \
    void __aeabi_memcpy##suffix(void *to, const void *from, size_t bytes);                                      \
    void __aeabi_memmove##suffix(void *to, const void *from, size_t bytes);                                     \
    void __aeabi_memset##suffix(void *to, size_t bytes, int value);                                             \
    void __aeabi_memclr##suffix(void *to, size_t bytes);                                                        \
    void __aeabi_memcpy##suffix(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); }          \
    void __aeabi_memmove##suffix(void *to, const void *from, size_t bytes) { memmove(to, from, bytes); }        \
    void __aeabi_memset##suffix(void *to, size_t bytes, int value) { memset(to, value, bytes); }                \
    void __aeabi_memclr##suffix(void *to, size_t bytes) { memset(to, 0, bytes); }
ARM_NAMES()
ARM_NAMES(4)
ARM_NAMES(8)
#endif
