/* softmax of int16, by two tables; the output's scale is 1/32768. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

/* The table of 513 numbers at an int16, interpolated. */
static int32_t look_up(const int16_t *table, int32_t number)
{
    const int32_t place = 256 + (number >> 7);
    const int32_t slope = table[place + 1] - table[place];
    return table[place] + ((slope * (number & 0x7F) + 64) >> 7);
}

static int32_t exponential(const leanedge_softmax_16 *p, int32_t difference)
{
    const int32_t scaled = leanedge_scale(difference, p->multiplier, p->power);
    return look_up(p->exponentials, leanedge_clamp(scaled + INT16_MAX, INT16_MIN, INT16_MAX));
}

void leanedge_softmax_int16(const leanedge_softmax_16 *p, const int16_t *input, int16_t *output)
{
    for (int32_t row = 0; row < p->rows; ++row, input += p->depth, output += p->depth) {
        int32_t highest = INT16_MIN;
        for (int32_t i = 0; i < p->depth; ++i) {
            highest = input[i] > highest ? input[i] : highest;
        }
        uint32_t total = 0;
        for (int32_t i = 0; i < p->depth; ++i) {
            total += (uint32_t)exponential(p, input[i] - highest);
        }
        /* total = 2^(31 - headroom) x (1 + fraction). */
        int32_t headroom = 0;
        while (((total << headroom) & 0x80000000u) == 0) {
            ++headroom;
        }
        const int32_t shifted = (int32_t)(((total << headroom) / 2 + (1u << 13)) >> 14);
        const int32_t place = leanedge_clamp(shifted - (1 << 15) - (1 << 16), INT16_MIN, INT16_MAX);
        const int32_t inverse = look_up(p->reciprocals, place);
        const int32_t right = 31 - headroom;
        for (int32_t i = 0; i < p->depth; ++i) {
            const int32_t share = exponential(p, input[i] - highest) * inverse;
            output[i] = (int16_t)leanedge_clamp((share + (1 << (right - 1))) >> right, 0, INT16_MAX);
        }
    }
}
