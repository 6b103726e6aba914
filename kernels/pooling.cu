// Max pooling over square windows:
//   max_pool        output = the largest of each window of the prologue max(0, scale[c] * x + shift[c]),
//                   NaN where there is one
//   max_pool_dgrad  output = sum of the gradients of the windows that the pixel won
//
// input (N, height, width, channels), output (N, out_height, out_width, channels). A window's border
// outside the image is no part of it. winners (N, out_height, out_width, words): a byte for each channel,
// four to a word from the lowest, with the first maximum's place in its window, row * kernel + column, or
// NO_WINNER where the ReLU keeps it back. One thread makes a word: no two write to the same; and dgrad's makes
// the pixel's four channels of a word, whose gradients are 16 bytes.
//
// Tried and lost: a thread for each element of dgrad, with eight divisions and a byte of a word for every window:
// 0.3 TB/s on an H100.
#include "vec4.cuh"

constexpr u32 NO_WINNER = 255;

// The largest of a window so far, of four channels.
struct Best {
    Four value;
    u32 winner[FOUR];
};

template <bool WHOLE>
__device__ __forceinline__ void window(Best& best, const float* image, const float* scale, const float* shift,
                                       int top, int left, int last_row, int last_column, int width, u32 channels,
                                       int kernel, u32 there) {
    Four factor = {{1.0f, 1.0f, 1.0f, 1.0f}}, offset = {};
    if (scale) {
        factor = load_four<WHOLE>(scale, there);
        offset = load_four<WHOLE>(shift, there);
    }
    for (int y = max(top, 0); y < last_row; ++y)
#pragma unroll 1
        for (int x = max(left, 0); x < last_column; ++x) {
            Four four = load_four<WHOLE>(image + (y * width + x) * channels, there);
            u32 place = (y - top) * kernel + x - left;
#pragma unroll
            for (u32 k = 0; k < FOUR; ++k) {
                float value = affine(four.of[k], factor.of[k], offset.of[k]);
                if (value > best.value.of[k] || value != value) {
                    best.value.of[k] = value;
                    best.winner[k] = place;
                }
            }
        }
}

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
    u32 c = i % words * FOUR, there = min(channels - c, FOUR);
    const float *image = input + row / out_height * height * width * channels + c;
    const float *factors = scale ? scale + c : nullptr, *offsets = scale ? shift + c : nullptr;
    Best best;
#pragma unroll
    for (u32 k = 0; k < FOUR; ++k) {
        best.value.of[k] = -INFINITY;
        best.winner[k] = max(-top, 0) * kernel + max(-left, 0);
    }
    bool whole = fours(channels, input, scale, shift, output);
    if (whole)
        window<true>(best, image, factors, offsets, top, left, last_row, last_column, width, channels, kernel,
                     there);
    else
        window<false>(best, image, factors, offsets, top, left, last_row, last_column, width, channels, kernel,
                      there);
    u32 word = 0;
#pragma unroll
    for (u32 k = 0; k < FOUR; ++k) {
        if (relu) {
            if (!(best.value.of[k] > 0.0f)) best.winner[k] = NO_WINNER;
            if (best.value.of[k] < 0.0f) best.value.of[k] = 0.0f;
        }
        if (k < there) word |= best.winner[k] << k * 8;
    }
    if (whole) store_four<true>(output + pixel * channels + c, best.value, there);
    else store_four<false>(output + pixel * channels + c, best.value, there);
    if (winners) winners[i] = word;
}

template <bool WHOLE>
__device__ __forceinline__ Four gradients_won(const float* gradient, const u32* winners, int y, int x,
                                              int first_row, int last_row, int first_column, int last_column,
                                              u32 out_width, u32 channels, u32 words, int kernel, int stride,
                                              u32 there) {
    Four sum = {};
    for (int row = first_row; row <= last_row; ++row)
#pragma unroll 1
        for (int column = first_column; column <= last_column; ++column) {
            u32 pixel = row * out_width + column;
            u32 tap = (y - row * stride) * kernel + x - column * stride;
            u32 word = winners[pixel * words];
            Four g = load_four<WHOLE>(gradient + pixel * channels, there);
#pragma unroll
            for (u32 k = 0; k < FOUR; ++k)
                if ((word >> k * 8 & 255) == tap) sum.of[k] += g.of[k];
        }
    return sum;
}

// gradient and winners as max_pool's output. One thread makes four channels of a pixel of output (N, height,
// width, channels). Grid: (images x height, a row's fours / 128).
KERNEL max_pool_dgrad(const float* gradient, const u32* winners, float* output, int height, int width,
                      u32 channels, int out_height, int out_width, int kernel, int stride, int pad) {
    u32 words = (channels + 3) / 4, i = blockIdx.y * BLOCK + threadIdx.x;
    if (i >= width * words) return;
    u32 image = blockIdx.x / height, c = i % words * FOUR, there = min(channels - c, FOUR);
    int x = (int)(i / words) + pad, y = (int)(blockIdx.x % height) + pad;
    // The windows (row, column) with row * stride <= y < row * stride + kernel, and columns likewise.
    int first_row = max(y - kernel + stride, 0) / stride, last_row = min(y / stride, out_height - 1);
    int first_column = max(x - kernel + stride, 0) / stride, last_column = min(x / stride, out_width - 1);
    u32 before = image * out_height * out_width;
    float* to = output + (blockIdx.x * width + i / words) * channels + c;
    gradient += before * channels + c;
    winners += before * words + c / FOUR;
    if (fours(channels, gradient, output)) {
        Four sum = gradients_won<true>(gradient, winners, y, x, first_row, last_row, first_column, last_column,
                                       out_width, channels, words, kernel, stride, there);
        store_four<true>(to, sum, there);
    } else {
        Four sum = gradients_won<false>(gradient, winners, y, x, first_row, last_row, first_column, last_column,
                                        out_width, channels, words, kernel, stride, there);
        store_four<false>(to, sum, there);
    }
}
