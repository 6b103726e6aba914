// Max pooling over square windows:
//   max_pool        output = the largest of each window of max(0, scale[c] * x + shift[c]), NaN if any is NaN
//   max_pool_dgrad  output = sum of the gradients of the windows whose maximum this pixel is
//
// input (N, height, width, channels), output (N, out_height, out_width, channels). Padding is not part of a window.
// argmax (N, out_height, out_width, words): one byte a channel, four a word from the lowest, with the position of the
// first maximum in its window, row * kernel + column, or NO_ARGMAX where the ReLU is zero. One thread computes the four
// channels of a word, so that no two threads write to one word, and gradients are 16-byte accesses.
//
// Tried and lost: one thread an element of dgrad, with eight divisions and a byte access a window: 0.3 TB/s on an H100.
#include "args.cuh"
#include "vec4.cuh"

constexpr u32 NO_ARGMAX = 255;

// The maximum of a window so far, of four channels.
struct WindowMax {
    Vec4 value;
    u32 argmax[VEC4];
};

template <bool ALIGNED> __device__ __forceinline__ void max_of_window(WindowMax& largest, const float* image,
                                                                      const float* scale, const float* shift, int top,
                                                                      int left, int last_row, int last_column,
                                                                      int width, u32 channels, int kernel, u32 valid) {
    Vec4 factor = {{1.0f, 1.0f, 1.0f, 1.0f}}, offset = {};
    if (scale) {
        factor = load_vec4<ALIGNED>(scale, valid);
        offset = load_vec4<ALIGNED>(shift, valid);
    }
    for (int y = max(top, 0); y < last_row; ++y)
#pragma unroll 1
        for (int x = max(left, 0); x < last_column; ++x) {
            Vec4 vec = load_vec4<ALIGNED>(image + (y * width + x) * channels, valid);
            u32 position = (y - top) * kernel + x - left;
#pragma unroll
            for (u32 k = 0; k < VEC4; ++k) {
                float value = affine(vec.v[k], factor.v[k], offset.v[k]);
                if (value > largest.value.v[k] || value != value) {
                    largest.value.v[k] = value;
                    largest.argmax[k] = position;
                }
            }
        }
}

// scale, shift (channels) or null; argmax or null.
KERNEL max_pool(const MaxPoolArgs a) {
    int height = a.height, width = a.width, kernel = a.kernel, stride = a.stride, pad = a.pad;
    u32 i = global_index();
    if (i >= a.total) return;
    u32 words = (a.channels + 3) / 4;
    u32 pixel = i / words, row = pixel / a.out_width;
    int left = (int)(pixel % a.out_width) * stride - pad, top = (int)(row % a.out_height) * stride - pad;
    int last_row = min(top + kernel, height), last_column = min(left + kernel, width);
    u32 c = i % words * VEC4, valid = min(a.channels - c, VEC4);
    const float* image = a.input + row / a.out_height * height * width * a.channels + c;
    const float *factors = a.scale ? a.scale + c : nullptr, *offsets = a.scale ? a.shift + c : nullptr;
    WindowMax largest;
#pragma unroll
    for (u32 k = 0; k < VEC4; ++k) {
        largest.value.v[k] = -INFINITY;
        largest.argmax[k] = max(-top, 0) * kernel + max(-left, 0);
    }
    bool aligned = is_vec4_aligned(a.channels, a.input, a.scale, a.shift, a.output);
    if (aligned)
        max_of_window<true>(largest, image, factors, offsets, top, left, last_row, last_column, width, a.channels,
                            kernel, valid);
    else
        max_of_window<false>(largest, image, factors, offsets, top, left, last_row, last_column, width, a.channels,
                             kernel, valid);
    u32 word = 0;
#pragma unroll
    for (u32 k = 0; k < VEC4; ++k) {
        if (a.relu) {
            if (!(largest.value.v[k] > 0.0f)) largest.argmax[k] = NO_ARGMAX;
            if (largest.value.v[k] < 0.0f) largest.value.v[k] = 0.0f;
        }
        if (k < valid) word |= largest.argmax[k] << k * 8;
    }
    if (aligned) store_vec4<true>(a.output + pixel * a.channels + c, largest.value, valid);
    else store_vec4<false>(a.output + pixel * a.channels + c, largest.value, valid);
    if (a.argmax) a.argmax[i] = word;
}

template <bool ALIGNED> __device__ __forceinline__ Vec4 sum_window_gradients(const float* gradient, const u32* argmax,
                                                                             int y, int x, int first_row, int last_row,
                                                                             int first_column, int last_column,
                                                                             u32 out_width, u32 channels, u32 words,
                                                                             int kernel, int stride, u32 valid) {
    Vec4 sum = {};
    for (int row = first_row; row <= last_row; ++row)
#pragma unroll 1
        for (int column = first_column; column <= last_column; ++column) {
            u32 pixel = row * out_width + column;
            u32 tap = (y - row * stride) * kernel + x - column * stride;
            u32 word = argmax[pixel * words];
            Vec4 g = load_vec4<ALIGNED>(gradient + pixel * channels, valid);
#pragma unroll
            for (u32 k = 0; k < VEC4; ++k)
                if ((word >> k * 8 & 255) == tap) sum.v[k] += g.v[k];
        }
    return sum;
}

// gradient and argmax as max_pool's output; output (N, height, width, channels). A thread computes four channels of a
// pixel. Grid: (images x height, words of a row / 128 rounded up).
KERNEL max_pool_dgrad(const MaxPoolDgradArgs a) {
    int height = a.height, width = a.width, out_height = a.out_height, out_width = a.out_width, kernel = a.kernel,
        stride = a.stride, pad = a.pad;
    u32 words = (a.channels + 3) / 4, i = blockIdx.y * BLOCK + threadIdx.x;
    if (i >= width * words) return;
    u32 image = blockIdx.x / height, c = i % words * VEC4, valid = min(a.channels - c, VEC4);
    int x = (int)(i / words) + pad, y = (int)(blockIdx.x % height) + pad;
    // The windows (row, column) with row * stride <= y < row * stride + kernel, and columns likewise.
    int first_row = max(y - kernel + stride, 0) / stride, last_row = min(y / stride, out_height - 1);
    int first_column = max(x - kernel + stride, 0) / stride, last_column = min(x / stride, out_width - 1);
    u32 before = image * out_height * out_width;
    float* to = a.output + (blockIdx.x * width + i / words) * a.channels + c;
    const float* gradient = a.gradient + before * a.channels + c;
    const u32* argmax = a.argmax + before * words + c / VEC4;
    if (is_vec4_aligned(a.channels, gradient, a.output)) {
        Vec4 sum = sum_window_gradients<true>(gradient, argmax, y, x, first_row, last_row, first_column, last_column,
                                              out_width, a.channels, words, kernel, stride, valid);
        store_vec4<true>(to, sum, valid);
    } else {
        Vec4 sum = sum_window_gradients<false>(gradient, argmax, y, x, first_row, last_row, first_column, last_column,
                                               out_width, a.channels, words, kernel, stride, valid);
        store_vec4<false>(to, sum, valid);
    }
}
