/* maximum of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_pairs.h"

LEANEDGE_FOR_EACH_PAIR(for_each_pair, int8_t)

static int8_t combine(const void *parameters, int8_t left, int8_t right)
{
    (void)parameters;
    return left > right ? left : right;
}

void leanedge_maximum_int8(const leanedge_pairs *p, const int8_t *left, const int8_t *right, int8_t *output)
{
    for_each_pair(p, left, right, output, combine, NULL);
}
