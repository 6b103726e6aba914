// Max pooling over square windows:
//   max_pool        output = the largest of each window of the prologue max(0, scale[c] * x + shift[c]),
//                   NaN where there is one
//   max_pool_dgrad  output = sum of the gradients of the windows that the pixel won
//
// input (N, height, width, channels), output (N, out_height, out_width, channels). A window's border
// outside the image is no part of it. winners (N, out_height, out_width, words): a byte for each channel,
// four to a word from the lowest, with the first maximum's place in its window, row * kernel + column, or
// NO_WINNER where the ReLU keeps it back. One thread makes a word: no two write to the same.
#include "common.cuh"

constexpr u32 NO_WINNER = 255;

// scale, shift (channels) or null; winners or null.
KERNEL max_pool(const float* input, const float* scale, const float* shift, float* output, u32* winners,
                u32 total, u32 relu, int height, int width, u32 channels, u32 out_height, u32 out_width,
                int kernel, int stride, int pad) {
    u32 i = global_index();
    if (i >= total) return;
    u32 words = (channels + 3) / 4;
    u32 pixel = i / words, row = pixel / out_width;
    int left = (int)(pixel % out_width) * stride - pad, top = (int)(row % out_height) * stride - pad;
    int last_row = min(top + kernel, height), last_column = min(left + kernel, width);
    const float* image = input + row / out_height * height * width * channels;
    u32 first = i % words * 4, last = min(first + 4, channels), word = 0;
    for (u32 c = first; c < last; ++c) {
        float best = -INFINITY, factor = scale ? scale[c] : 1.0f, offset = scale ? shift[c] : 0.0f;
        u32 winner = max(-top, 0) * kernel + max(-left, 0);
        for (int y = max(top, 0); y < last_row; ++y)
#pragma unroll 1
            for (int x = max(left, 0); x < last_column; ++x) {
                float value = affine(image[(y * width + x) * channels + c], factor, offset);
                if (value > best || value != value) {
                    best = value;
                    winner = (y - top) * kernel + x - left;
                }
            }
        if (relu) {
            if (!(best > 0.0f)) winner = NO_WINNER;
            if (best < 0.0f) best = 0.0f;
        }
        output[pixel * channels + c] = best;
        word |= winner << (c - first) * 8;
    }
    if (winners) winners[i] = word;
}

// gradient and winners as max_pool's output. One thread makes an element of output (N, height, width,
// channels).
KERNEL max_pool_dgrad(const float* gradient, const u32* winners, float* output, u32 total, int height,
                      int width, u32 channels, int out_height, int out_width, int kernel, int stride,
                      int pad) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % channels, rest = i / channels, words = (channels + 3) / 4;
    int x = (int)(rest % width) + pad;
    rest /= width;
    int y = (int)(rest % height) + pad;
    u32 image = rest / height;
    float sum = 0.0f;
    // The windows (row, column) with row * stride <= y < row * stride + kernel, and columns likewise.
    int first_row = max(y - kernel + stride, 0) / stride, last_row = min(y / stride, out_height - 1);
    int first_column = max(x - kernel + stride, 0) / stride, last_column = min(x / stride, out_width - 1);
    for (int row = first_row; row <= last_row; ++row)
#pragma unroll 1
        for (int column = first_column; column <= last_column; ++column) {
            u32 pixel = (image * out_height + row) * out_width + column;
            u32 tap = (y - row * stride) * kernel + x - column * stride;
            u32 winner = winners[pixel * words + c / 4] >> c % 4 * 8 & 255;
            if (winner == tap) sum += gradient[pixel * channels + c];
        }
    output[i] = sum;
}
