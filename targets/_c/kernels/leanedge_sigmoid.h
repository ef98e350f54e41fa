/* The table of the logistic function, interpolated.
 *
 * SPDX-License-Identifier: 0BSD
 */
#ifndef LEANEDGE_SIGMOID_H
#define LEANEDGE_SIGMOID_H

#include "leanedge_kernels.h"

/* The input in units of 1/12288. */
static inline int32_t leanedge_sigmoid_input(const leanedge_sigmoid *p, int16_t input)
{
    return (input * p->multiplier + p->rounding) >> p->shift;
}

/* The table at magnitude / 2^bits with so many bits more; what it saturates to beyond its end. */
static inline uint32_t leanedge_sigmoid_at(const leanedge_sigmoid *p, uint32_t magnitude, uint32_t bits,
                                           uint32_t saturated)
{
    const uint32_t place = magnitude >> bits;
    if (place >= 255) {
        return saturated;
    }
    const uint32_t part = magnitude & ((1u << bits) - 1u);
    const uint32_t slope = (uint32_t)p->sigmoid[place + 1] - p->sigmoid[place];
    return ((uint32_t)p->sigmoid[place] << bits) + part * slope;
}

#endif
