/* Fixed-point arithmetic of the kernels: gemmlowp's, as TensorFlow Lite Micro uses it.
 *
 * SPDX-License-Identifier: 0BSD
 *
 * A right shift of a negative number must keep its sign, as every compiler for the supported cores does.
 */
#ifndef LEANEDGE_FIXED_POINT_H
#define LEANEDGE_FIXED_POINT_H

#include <stdint.h>

/* The high half of 2 x left x right, a half rounded up. Not for INT32_MIN x INT32_MIN. */
static inline int32_t leanedge_high_product(int32_t left, int32_t right)
{
    return (int32_t)(((int64_t)left * right + (1 << 30)) >> 31);
}

/* number / 2^bits, a half rounded away from zero. */
static inline int32_t leanedge_rounding_shift(int32_t number, int32_t bits)
{
    const int32_t mask = (int32_t)((1u << bits) - 1u);
    const int32_t threshold = (mask >> 1) + (number < 0);
    return (number >> bits) + ((number & mask) > threshold);
}

/* number x multiplier x 2^(power - 31). */
static inline int32_t leanedge_scale(int32_t number, int32_t multiplier, int32_t power)
{
    if (power > 0) {
        return leanedge_high_product((int32_t)((uint32_t)number << power), multiplier);
    }
    return leanedge_rounding_shift(leanedge_high_product(number, multiplier), -power);
}

static inline int32_t leanedge_clamp(int32_t number, int32_t low, int32_t high)
{
    return number < low ? low : number > high ? high : number;
}

/* The last step of most kernels: to the output's scale and zero point, clamped. */
static inline int8_t leanedge_requantize(int32_t number, int32_t multiplier, int32_t power, int32_t zero, int32_t low,
                                         int32_t high)
{
    return (int8_t)leanedge_clamp(leanedge_scale(number, multiplier, power) + zero, low, high);
}

/* A sum of int16 products: number x multiplier / 2^shift, a half rounded up, clamped. */
static inline int16_t leanedge_requantize_wide(int64_t number, int16_t multiplier, int32_t shift, int32_t low,
                                               int32_t high)
{
    const int64_t scaled = (number * multiplier + ((int64_t)1 << (shift - 1))) >> shift;
    return (int16_t)(scaled < low ? low : scaled > high ? high : scaled);
}

#endif
