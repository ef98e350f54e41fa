/* pad of int8. SPDX-License-Identifier: 0BSD */
#include "leanedge_kernels.h"

/* Place in the input of a place in the output, or -1 in the padding. */
static inline int32_t place(const leanedge_pad *p, int32_t axis, int32_t output)
{
    const int32_t size = p->sizes[axis];
    const int32_t at = output - p->before[axis];
    if (at >= 0 && at < size) {
        return at;
    }
    if (!p->reflect) {
        return -1;
    }
    return at < 0 ? -at : 2 * (size - 1) - at;
}

void leanedge_pad_int8(const leanedge_pad *p, const int8_t *input, int8_t *output)
{
    int32_t sizes[4];
    for (int32_t axis = 0; axis < 4; ++axis) {
        sizes[axis] = p->before[axis] + p->sizes[axis] + p->after[axis];
    }
    for (int32_t i = 0; i < sizes[0]; ++i) {
        const int32_t a = place(p, 0, i);
        for (int32_t j = 0; j < sizes[1]; ++j) {
            const int32_t b = place(p, 1, j);
            for (int32_t k = 0; k < sizes[2]; ++k) {
                const int32_t c = place(p, 2, k);
                const int32_t outside = a < 0 || b < 0 || c < 0;
                const int32_t row = ((a * p->sizes[1] + b) * p->sizes[2] + c) * p->sizes[3];
                for (int32_t l = 0; l < sizes[3]; ++l) {
                    const int32_t d = place(p, 3, l);
                    *output++ = outside || d < 0 ? (int8_t)p->value : input[row + d];
                }
            }
        }
    }
}
