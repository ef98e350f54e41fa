/* Concatenation and split of any type. SPDX-License-Identifier: 0BSD */
#include "leanedge_kernels.h"

void leanedge_copy_rows(size_t rows, size_t row_bytes, const void *input, size_t input_stride, void *output,
                        size_t output_stride)
{
    const uint8_t *from = (const uint8_t *)input;
    uint8_t *to = (uint8_t *)output;
    if (from == to && (rows == 1 || input_stride == output_stride)) {
        return;
    }
    for (size_t row = 0; row < rows; ++row, from += input_stride, to += output_stride) {
        for (size_t i = 0; i < row_bytes; ++i) {
            to[i] = from[i];
        }
    }
}
