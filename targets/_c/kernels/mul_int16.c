/* mul of int16. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_pairs.h"

LEANEDGE_FOR_EACH_PAIR(for_each_pair, int16_t)

static int16_t combine(const void *parameters, int16_t left, int16_t right)
{
    const leanedge_mul *const p = (const leanedge_mul *)parameters;
    const int32_t product = (left - p->left_zero) * (right - p->right_zero);
    const int32_t scaled = leanedge_scale(product, p->multiplier, p->power);
    return (int16_t)leanedge_clamp(scaled + p->output_zero, p->low, p->high);
}

void leanedge_mul_int16(const leanedge_mul *p, const int16_t *left, const int16_t *right, int16_t *output)
{
    for_each_pair(&p->pairs, left, right, output, combine, p);
}
