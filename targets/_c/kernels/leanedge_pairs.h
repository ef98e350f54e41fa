/* The loop of element-wise kinds with two operands.
 *
 * SPDX-License-Identifier: 0BSD
 */
#ifndef LEANEDGE_PAIRS_H
#define LEANEDGE_PAIRS_H

#include "leanedge_kernels.h"

/* Element after element, so that an operand may lie where the output goes. `combine` is inlined. */
static inline void leanedge_for_each_pair(const leanedge_pairs *shape, const int8_t *left, const int8_t *right,
                                          int8_t *output, int8_t (*combine)(const void *, int8_t, int8_t),
                                          const void *parameters)
{
    const int32_t left_step = shape->left_strides[3];
    const int32_t right_step = shape->right_strides[3];
    for (int32_t i = 0; i < shape->sizes[0]; ++i) {
        for (int32_t j = 0; j < shape->sizes[1]; ++j) {
            for (int32_t k = 0; k < shape->sizes[2]; ++k) {
                const int8_t *a = left + i * shape->left_strides[0] + j * shape->left_strides[1] +
                                  k * shape->left_strides[2];
                const int8_t *b = right + i * shape->right_strides[0] + j * shape->right_strides[1] +
                                  k * shape->right_strides[2];
                for (int32_t l = 0; l < shape->sizes[3]; ++l) {
                    *output++ = combine(parameters, a[l * left_step], b[l * right_step]);
                }
            }
        }
    }
}

#endif
