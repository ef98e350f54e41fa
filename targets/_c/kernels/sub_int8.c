/* sub of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_pairs.h"

LEANEDGE_FOR_EACH_PAIR(for_each_pair, int8_t)

static int8_t combine(const void *parameters, int8_t left, int8_t right)
{
    const leanedge_add *const p = (const leanedge_add *)parameters;
    const int32_t a = leanedge_scale((left - p->left_zero) * (1 << 20), p->left_multiplier, p->left_power);
    const int32_t b = leanedge_scale((right - p->right_zero) * (1 << 20), p->right_multiplier, p->right_power);
    return leanedge_requantize(a - b, p->multiplier, p->power, p->output_zero, p->low, p->high);
}

void leanedge_sub_int8(const leanedge_add *p, const int8_t *left, const int8_t *right, int8_t *output)
{
    for_each_pair(&p->pairs, left, right, output, combine, p);
}
