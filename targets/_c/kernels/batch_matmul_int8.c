/* batch_matmul of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_fixed_point.h"
#include "leanedge_kernels.h"

void leanedge_batch_matmul_int8(const leanedge_batch_matmul *p, const int8_t *left, const int8_t *right,
                                int8_t *output)
{
    for (int32_t batch = 0; batch < p->batches; ++batch) {
        for (int32_t row = 0; row < p->rows; ++row) {
            const int8_t *a = left + batch * p->left_batch_stride + row * p->depth;
            for (int32_t column = 0; column < p->columns; ++column) {
                const int8_t *b = right + batch * p->right_batch_stride + column * p->right_column_stride;
                int32_t total = 0;
                for (int32_t i = 0; i < p->depth; ++i) {
                    total += (a[i] - p->left_zero) * (b[i * p->right_depth_stride] - p->right_zero);
                }
                *output++ = leanedge_requantize(total, p->multiplier, p->power, p->output_zero, p->low, p->high);
            }
        }
    }
}
