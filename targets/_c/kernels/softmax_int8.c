/* softmax of int8, in integers only; the output's scale is 1/256, its zero point -128. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

enum { SUM_BITS = 12 }; /* integer bits of the sum of exponentials */

/* 1 / (1 + x) in Q0.31 for x in [0, 1): three Newton-Raphson steps from 48/17 - 32/17 d, in Q2.29. */
static int32_t reciprocal(int32_t x)
{
    const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2); /* d = (1 + x) / 2 */
    int32_t guess = 1515870810 + leanedge_high_product(half, -1010580540);
    for (int32_t step = 0; step < 3; ++step) {
        const int32_t error = (1 << 29) - leanedge_high_product(half, guess);
        guess += leanedge_high_product(guess, error) * 4;
    }
    return guess > INT32_MAX / 2 ? INT32_MAX : guess * 2;
}

void leanedge_softmax_int8(const leanedge_softmax *p, const int8_t *input, int8_t *output)
{
    for (int32_t row = 0; row < p->rows; ++row, input += p->depth, output += p->depth) {
        int32_t highest = INT8_MIN;
        for (int32_t i = 0; i < p->depth; ++i) {
            highest = input[i] > highest ? input[i] : highest;
        }
        uint32_t total = 0;
        for (int32_t i = 0; i < p->depth; ++i) {
            const int32_t below = highest - input[i];
            if (below < p->count) {
                total += (uint32_t)leanedge_rounding_shift(p->exponentials[below], SUM_BITS);
            }
        }
        /* total = 2^(SUM_BITS - headroom) x (1 + fraction). */
        int32_t headroom = 0;
        uint32_t fraction = total;
        while ((fraction & 0x80000000u) == 0) {
            fraction <<= 1;
            ++headroom;
        }
        const int32_t inverse = reciprocal((int32_t)(fraction - 0x80000000u));
        const int32_t shift = SUM_BITS - headroom + 31 - 8;
        for (int32_t i = 0; i < p->depth; ++i) {
            const int32_t below = highest - input[i];
            int32_t share = 0;
            if (below < p->count && shift < 32) {
                share = leanedge_rounding_shift(leanedge_high_product(p->exponentials[below], inverse), shift);
            }
            output[i] = (int8_t)leanedge_clamp(share + INT8_MIN, INT8_MIN, INT8_MAX);
        }
    }
}
