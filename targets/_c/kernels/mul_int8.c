/* mul of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_pairs.h"

LEANEDGE_FOR_EACH_PAIR(for_each_pair, int8_t)

static int8_t combine(const void *parameters, int8_t left, int8_t right)
{
    const leanedge_mul *const p = (const leanedge_mul *)parameters;
    const int32_t product = (left - p->left_zero) * (right - p->right_zero);
    return leanedge_requantize(product, p->multiplier, p->power, p->output_zero, p->low, p->high);
}

void leanedge_mul_int8(const leanedge_mul *p, const int8_t *left, const int8_t *right, int8_t *output)
{
    for_each_pair(&p->pairs, left, right, output, combine, p);
}
