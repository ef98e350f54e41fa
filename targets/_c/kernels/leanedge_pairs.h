/* The loop of element-wise kinds with two operands.
 *
 * SPDX-License-Identifier: 0BSD
 */
#ifndef LEANEDGE_PAIRS_H
#define LEANEDGE_PAIRS_H

#include "leanedge_kernels.h"

/* Element after element, so that an operand may lie where the output goes. `combine` is inlined. */
#define LEANEDGE_FOR_EACH_PAIR(name, type)                                                                        \
    static inline void name(const leanedge_pairs *shape, const type *left, const type *right, type *output,       \
                            type (*combine)(const void *, type, type), const void *parameters)                    \
    {                                                                                                             \
        const int32_t *const a = shape->left_strides;                                                             \
        const int32_t *const b = shape->right_strides;                                                            \
        for (int32_t i = 0; i < shape->sizes[0]; ++i) {                                                           \
            for (int32_t j = 0; j < shape->sizes[1]; ++j) {                                                       \
                for (int32_t k = 0; k < shape->sizes[2]; ++k) {                                                   \
                    const type *x = left + i * a[0] + j * a[1] + k * a[2];                                        \
                    const type *y = right + i * b[0] + j * b[1] + k * b[2];                                       \
                    for (int32_t l = 0; l < shape->sizes[3]; ++l) {                                               \
                        *output++ = combine(parameters, x[l * a[3]], y[l * b[3]]);                                \
                    }                                                                                             \
                }                                                                                                 \
            }                                                                                                     \
        }                                                                                                         \
    }

#endif
