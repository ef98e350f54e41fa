/* prelu of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_pairs.h"

LEANEDGE_FOR_EACH_PAIR(for_each_pair, int8_t)

static int8_t combine(const void *parameters, int8_t input, int8_t slope)
{
    const leanedge_prelu *const p = (const leanedge_prelu *)parameters;
    const int32_t value = input - p->input_zero;
    if (value >= 0) {
        return leanedge_requantize(value, p->above_multiplier, p->above_power, p->output_zero, INT8_MIN, INT8_MAX);
    }
    return leanedge_requantize(value * (slope - p->slope_zero), p->below_multiplier, p->below_power, p->output_zero,
                               INT8_MIN, INT8_MAX);
}

void leanedge_prelu_int8(const leanedge_prelu *p, const int8_t *input, const int8_t *slope, int8_t *output)
{
    for_each_pair(&p->pairs, input, slope, output, combine, p);
}
