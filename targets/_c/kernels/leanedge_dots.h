/* Sums of products.
 *
 * SPDX-License-Identifier: 0BSD
 */
#ifndef LEANEDGE_DOTS_H
#define LEANEDGE_DOTS_H

#include <stdint.h>

static inline int32_t leanedge_dot(const int8_t *left, const int8_t *right, int32_t count)
{
    int32_t total = 0;
    for (int32_t i = 0; i < count; ++i) {
        total += left[i] * right[i];
    }
    return total;
}

/* Adds the products of one run of the input with the weights of four outputs, `step` apart: each input is loaded once. */
static inline void leanedge_four_dots(const int8_t *input, const int8_t *weights, int32_t step, int32_t count,
                                      int32_t totals[4])
{
    const int8_t *const first = weights;
    const int8_t *const second = first + step;
    const int8_t *const third = second + step;
    const int8_t *const fourth = third + step;
    int32_t a = totals[0], b = totals[1], c = totals[2], d = totals[3];
    for (int32_t i = 0; i < count; ++i) {
        const int32_t x = input[i];
        a += x * first[i];
        b += x * second[i];
        c += x * third[i];
        d += x * fourth[i];
    }
    totals[0] = a;
    totals[1] = b;
    totals[2] = c;
    totals[3] = d;
}

#endif
