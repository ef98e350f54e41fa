/* sub of int16. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_pairs.h"

LEANEDGE_FOR_EACH_PAIR(for_each_pair, int16_t)

static int16_t combine(const void *parameters, int16_t left, int16_t right)
{
    const leanedge_add *const p = (const leanedge_add *)parameters;
    const int32_t a = leanedge_scale((left - p->left_zero) * (1 << 15), p->left_multiplier, p->left_power);
    const int32_t b = leanedge_scale((right - p->right_zero) * (1 << 15), p->right_multiplier, p->right_power);
    const int32_t scaled = leanedge_scale(a - b, p->multiplier, p->power);
    return (int16_t)leanedge_clamp(scaled + p->output_zero, p->low, p->high);
}

void leanedge_sub_int16(const leanedge_add *p, const int16_t *left, const int16_t *right, int16_t *output)
{
    for_each_pair(&p->pairs, left, right, output, combine, p);
}
