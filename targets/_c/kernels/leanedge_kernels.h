/* Integer kernels of LeanEdge in portable C99: parameters and functions, one a file.
 *
 * SPDX-License-Identifier: 0BSD
 *
 * Arithmetic is TensorFlow Lite Micro's, bit for bit. Images are rows x columns x channels, batch 1. No kernel
 * allocates, keeps state or reads anything but its arguments. `low` and `high` clamp the result (fused activation).
 * A factor is `multiplier` (31 bits) x 2^(power - 31).
 */
#ifndef LEANEDGE_KERNELS_H
#define LEANEDGE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A window that slides over an image. */
typedef struct {
    int32_t input_rows, input_columns, input_channels;
    int32_t output_rows, output_columns, output_channels;
    int32_t kernel_rows, kernel_columns;
    int32_t stride_rows, stride_columns;
    int32_t dilation_rows, dilation_columns;
    int32_t pad_top, pad_left;
} leanedge_window;

/* conv_2d, depthwise_conv_2d, transpose_conv. Weights are (output, row, column, input) for conv_2d and transpose_conv,
 * (row, column, output) for depthwise_conv_2d. Each output channel of a group sees the input channels of that group. */
typedef struct {
    leanedge_window window;
    int32_t groups;
    const int8_t *weights;
    const int32_t *bias; /* conv_2d and depthwise_conv_2d: bias - input_zero x (sum of the channel's weights) */
    const int32_t *multiplier;
    const int8_t *power;
    int32_t input_zero, output_zero, low, high;
} leanedge_conv;

void leanedge_conv_2d_int8(const leanedge_conv *p, const int8_t *input, int8_t *output);
void leanedge_depthwise_conv_2d_int8(const leanedge_conv *p, const int8_t *input, int8_t *output);
void leanedge_transpose_conv_int8(const leanedge_conv *p, const int8_t *input, int8_t *output);

/* Weights (output, depth); bias - input_zero x (sum of the row's weights); one factor an output, or one for all. */
typedef struct {
    int32_t rows, depth, outputs;
    const int8_t *weights;
    const int32_t *bias;
    const int32_t *multiplier;
    const int8_t *power;
    int32_t factor_step; /* 1: a factor for each output; 0: the first for all */
    int32_t output_zero, low, high;
} leanedge_fully_connected;

void leanedge_fully_connected_int8(const leanedge_fully_connected *p, const int8_t *input, int8_t *output);

/* output[b] = left[b] (rows x depth) times right[b]; the right operand's element (k, c) is at k x right_depth_stride +
 * c x right_column_stride. A batch stride of 0 repeats an operand. */
typedef struct {
    int32_t batches, rows, depth, columns;
    int32_t left_batch_stride, right_batch_stride;
    int32_t right_depth_stride, right_column_stride;
    int32_t left_zero, right_zero, multiplier, power;
    int32_t output_zero, low, high;
} leanedge_batch_matmul;

void leanedge_batch_matmul_int8(const leanedge_batch_matmul *p, const int8_t *left, const int8_t *right,
                                int8_t *output);

/* Two operands of an element-wise kind; a stride of 0 repeats. */
typedef struct {
    int32_t sizes[4];
    int32_t left_strides[4];
    int32_t right_strides[4];
} leanedge_pairs;

/* add and sub: each operand x 2^20 is brought to one scale, then their sum or difference to the output's. */
typedef struct {
    leanedge_pairs pairs;
    int32_t left_zero, left_multiplier, left_power;
    int32_t right_zero, right_multiplier, right_power;
    int32_t output_zero, multiplier, power, low, high;
} leanedge_add;

void leanedge_add_int8(const leanedge_add *p, const int8_t *left, const int8_t *right, int8_t *output);
void leanedge_sub_int8(const leanedge_add *p, const int8_t *left, const int8_t *right, int8_t *output);

typedef struct {
    leanedge_pairs pairs;
    int32_t left_zero, right_zero;
    int32_t output_zero, multiplier, power, low, high;
} leanedge_mul;

void leanedge_mul_int8(const leanedge_mul *p, const int8_t *left, const int8_t *right, int8_t *output);

/* prelu: input x above_multiplier where it is at least its zero point, else input x slope x below_multiplier. */
typedef struct {
    leanedge_pairs pairs;
    int32_t input_zero, slope_zero, output_zero;
    int32_t above_multiplier, above_power;
    int32_t below_multiplier, below_power;
} leanedge_prelu;

void leanedge_prelu_int8(const leanedge_prelu *p, const int8_t *input, const int8_t *slope, int8_t *output);

void leanedge_maximum_int8(const leanedge_pairs *p, const int8_t *left, const int8_t *right, int8_t *output);
void leanedge_minimum_int8(const leanedge_pairs *p, const int8_t *left, const int8_t *right, int8_t *output);

typedef struct {
    leanedge_window window;
    int32_t low, high;
} leanedge_pool;

void leanedge_max_pool_int8(const leanedge_pool *p, const int8_t *input, int8_t *output);
void leanedge_average_pool_int8(const leanedge_pool *p, const int8_t *input, int8_t *output);

/* mean over the reduced axes: output element (i, j, k) is the mean of the elements at
 * i x kept_strides[0] + j x kept_strides[1] + k x kept_strides[2] + m x reduced_strides[0] + n x reduced_strides[1].
 * The multiplier holds the division by their count. */
typedef struct {
    int32_t kept[3], kept_strides[3];
    int32_t reduced[2], reduced_strides[2];
    int32_t input_zero, output_zero, multiplier, power;
} leanedge_mean;

void leanedge_mean_int8(const leanedge_mean *p, const int8_t *input, int8_t *output);

/* exponentials[d] = exp(-d x beta x scale) in Q0.31 for d < count; smaller inputs count as 0. */
typedef struct {
    int32_t rows, depth;
    const int32_t *exponentials;
    int32_t count;
} leanedge_softmax;

void leanedge_softmax_int8(const leanedge_softmax *p, const int8_t *input, int8_t *output);

/* Any function of one int8: output = table[input + 128]. */
void leanedge_lookup_int8(const int8_t *table, int32_t count, const int8_t *input, int8_t *output);

/* Copies element (i0, .., i5) at the sum of i x stride to the next place of the output: transposes, slices. */
typedef struct {
    int32_t sizes[6];
    int32_t strides[6];
    int32_t start;
} leanedge_strided_copy;

void leanedge_strided_copy_int8(const leanedge_strided_copy *p, const int8_t *input, int8_t *output);

/* Copies `rows` rows of `row_bytes`, whose starts are the strides apart: concatenation, split. */
void leanedge_copy_rows(size_t rows, size_t row_bytes, const void *input, size_t input_stride, void *output,
                        size_t output_stride);

/* Copies bytes between regions that may overlap. */
void leanedge_move_bytes(const void *input, void *output, size_t bytes);

/* pad: sizes of the input, places before and after, in elements; `reflect` mirrors without repeating the edge. */
typedef struct {
    int32_t sizes[4], before[4], after[4];
    int32_t value;
    int32_t reflect;
} leanedge_pad;

void leanedge_pad_int8(const leanedge_pad *p, const int8_t *input, int8_t *output);

typedef struct {
    int32_t outer, size, inner, count;
} leanedge_gather;

void leanedge_gather_int8(const leanedge_gather *p, const int8_t *input, const int32_t *indices, int8_t *output);

/* Rows and columns of the input that each row and column of the output copies. */
typedef struct {
    int32_t input_columns, output_rows, output_columns, channels;
    const int16_t *rows;
    const int16_t *columns;
} leanedge_resize_nearest;

void leanedge_resize_nearest_int8(const leanedge_resize_nearest *p, const int8_t *input, int8_t *output);

/* For each row and column of the output: both neighbours and the weight of the second in 1/1024, three numbers. */
typedef struct {
    int32_t input_columns, output_rows, output_columns, channels;
    const int16_t *rows;
    const int16_t *columns;
} leanedge_resize_bilinear;

void leanedge_resize_bilinear_int8(const leanedge_resize_bilinear *p, const int8_t *input, int8_t *output);

/* int16 activations: zero points are 0, sums have 64 bits; a factor is multiplier (15 bits) / 2^shift, rounded once. */
typedef struct {
    leanedge_window window;
    int32_t groups;
    const int8_t *weights;
    const int64_t *bias;
    const int16_t *multiplier;
    const int8_t *shift;
    int32_t factor_step; /* 1: a factor for each output; 0: the first for all */
    int32_t low, high;
} leanedge_conv_16;

void leanedge_conv_2d_int16(const leanedge_conv_16 *p, const int16_t *input, int16_t *output);
void leanedge_depthwise_conv_2d_int16(const leanedge_conv_16 *p, const int16_t *input, int16_t *output);
void leanedge_transpose_conv_int16(const leanedge_conv_16 *p, const int16_t *input, int16_t *output);

void leanedge_add_int16(const leanedge_add *p, const int16_t *left, const int16_t *right, int16_t *output);
void leanedge_sub_int16(const leanedge_add *p, const int16_t *left, const int16_t *right, int16_t *output);
void leanedge_mul_int16(const leanedge_mul *p, const int16_t *left, const int16_t *right, int16_t *output);
void leanedge_max_pool_int16(const leanedge_pool *p, const int16_t *input, int16_t *output);
void leanedge_average_pool_int16(const leanedge_pool *p, const int16_t *input, int16_t *output);
void leanedge_mean_int16(const leanedge_mean *p, const int16_t *input, int16_t *output);

/* Two straight lines that meet at the input's zero point, clamped: relu, leaky_relu, quantize. */
typedef struct {
    int32_t count;
    int32_t input_zero, output_zero;
    int32_t above_multiplier, above_power;
    int32_t below_multiplier, below_power;
    int32_t low, high;
} leanedge_lines;

void leanedge_lines_int16(const leanedge_lines *p, const int16_t *input, int16_t *output);
void leanedge_lines_int8_int16(const leanedge_lines *p, const int8_t *input, int16_t *output);
void leanedge_lines_int16_int8(const leanedge_lines *p, const int16_t *input, int8_t *output);

/* logistic and tanh: (input x multiplier + rounding) / 2^shift is in units of 1/12288; sigmoid(n / 24) x 2^16. */
typedef struct {
    int32_t count;
    const uint16_t *sigmoid;
    int32_t multiplier, rounding, shift;
} leanedge_sigmoid;

void leanedge_logistic_int16(const leanedge_sigmoid *p, const int16_t *input, int16_t *output);
void leanedge_tanh_int16(const leanedge_sigmoid *p, const int16_t *input, int16_t *output);

/* Tables of exp(-10 .. 0) and 1 / (1 + 0 .. 1), 513 numbers each. */
typedef struct {
    int32_t rows, depth;
    int32_t multiplier, power;
    const int16_t *exponentials;
    const int16_t *reciprocals;
} leanedge_softmax_16;

void leanedge_softmax_int16(const leanedge_softmax_16 *p, const int16_t *input, int16_t *output);

#ifdef __cplusplus
}
#endif

#endif
