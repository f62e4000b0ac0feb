/* Functions of GCC's library that an ESP8266 has in its ROM, so that toolchains for it leave them out. Their numbers of instructions are not the
 * ROM's. */
#include <stdint.h>

uint64_t __umulsidi3(uint32_t a, uint32_t b);
uint64_t __muldi3(uint64_t a, uint64_t b);
uint32_t __udivsi3(uint32_t a, uint32_t b);
uint32_t __umodsi3(uint32_t a, uint32_t b);
int32_t __divsi3(int32_t a, int32_t b);
uint64_t __udivdi3(uint64_t a, uint64_t b);
uint64_t __umoddi3(uint64_t a, uint64_t b);
int64_t __divdi3(int64_t a, int64_t b);
uint64_t __udivmoddi4(uint64_t a, uint64_t b, uint64_t *remainder); /* of the library */

/* The product of two words by halves: of its middle two products each may carry. */
uint64_t __umulsidi3(uint32_t a, uint32_t b) {
    const uint32_t al = a & 0xFFFF, ah = a >> 16, bl = b & 0xFFFF, bh = b >> 16;
    const uint32_t low = al * bl, first = ah * bl + (low >> 16), second = al * bh + (first & 0xFFFF);
    return ((uint64_t)(ah * bh + (first >> 16) + (second >> 16)) << 32) | (second << 16) | (low & 0xFFFF);
}

uint64_t __muldi3(uint64_t a, uint64_t b) {
    const uint32_t al = (uint32_t)a, bl = (uint32_t)b;
    return __umulsidi3(al, bl) + ((uint64_t)((uint32_t)(a >> 32) * bl + al * (uint32_t)(b >> 32)) << 32);
}

/* Bit by bit: the quotient moves into `a` as the dividend moves out. */
static uint32_t divide(uint32_t a, uint32_t b, uint32_t *remainder) {
    uint32_t rest = 0;
    for (int bit = 0; bit < 32; bit++) {
        const uint32_t out = rest >> 31;
        rest = (rest << 1) | (a >> 31);
        a <<= 1;
        if (out != 0 || rest >= b) {
            rest -= b;
            a |= 1;
        }
    }
    *remainder = rest;
    return a;
}

uint32_t __udivsi3(uint32_t a, uint32_t b) {
    uint32_t rest;
    return divide(a, b, &rest);
}

uint32_t __umodsi3(uint32_t a, uint32_t b) {
    uint32_t rest;
    (void)divide(a, b, &rest);
    return rest;
}

int32_t __divsi3(int32_t a, int32_t b) {
    const uint32_t size = __udivsi3(a < 0 ? 0 - (uint32_t)a : (uint32_t)a, b < 0 ? 0 - (uint32_t)b : (uint32_t)b);
    return (int32_t)((a ^ b) < 0 ? 0 - size : size);
}

uint64_t __udivdi3(uint64_t a, uint64_t b) { return __udivmoddi4(a, b, 0); }

uint64_t __umoddi3(uint64_t a, uint64_t b) {
    uint64_t rest;
    (void)__udivmoddi4(a, b, &rest);
    return rest;
}

int64_t __divdi3(int64_t a, int64_t b) {
    const uint64_t size = __udivdi3(a < 0 ? 0 - (uint64_t)a : (uint64_t)a, b < 0 ? 0 - (uint64_t)b : (uint64_t)b);
    return (int64_t)((a ^ b) < 0 ? 0 - size : size);
}
