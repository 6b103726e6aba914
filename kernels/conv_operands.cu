// What convolutions read: filters and inputs in the form of conv.cu's inner loops, or of conv_bf16.cu's; and the
// mask of an input's ReLU.
//
// filter (R, S, rows', columns'): for fprop rows = in, columns = out channels; for dgrad the other
// way round. Both are padded with zeros to whole tiles, marked ': then no inner loop has a tail.
// input (N, HP, WP, C'): the image with its zero border, after the prologue
//     max(0, scale[c] * x + shift[c]), NaN for NaN: a run that leaves the numbers has to show it;
// so that no inner loop has a bound to check. A copy costs one pass over the tensor; the loops that
// read it make 9 K passes.
//
// For conv_bf16.cu the same values are rounded to bf16, with channels in whole vectors of 8, marked ', and
// no border: filter (rows, taps, columns'), rows being what the product's columns are; dgrad's taps lie by phases
// (dgrad_place in mma.cuh).
//
// A thread makes one element, but a vector of conv_input_bf16 and four channels of conv_mask, which it reads 16
// bytes at once where channels are whole fours, or whole vectors, and lie so.
#include "vec4.cuh"
#include "mma.cuh"

// weights (K, C, taps), scale (K) or null -> filter (taps, C', K'), or (taps, K', C') where `dgrad`.
KERNEL load_filter(const float* weights, const float* scale, float* filter, u32 total, u32 taps,
                   u32 out_channels, u32 in_channels, u32 rows, u32 columns, u32 dgrad) {
    u32 i = global_index();
    if (i >= total) return;
    u32 column = i % columns, rest = i / columns;
    u32 row = rest % rows, tap = rest / rows;
    u32 k = dgrad ? row : column, c = dgrad ? column : row;
    float value = 0.0f;
    if (k < out_channels && c < in_channels) {
        value = weights[(k * in_channels + c) * taps + tap];
        if (scale) value *= scale[k];
    }
    filter[i] = value;
}

// input (N, height, width, channels) -> output (N, padded_height, padded_width, padded_channels):
// pixel (y, x) of the input at (y + border, x + border), zeros around it. What does not fit is left
// out. scale, shift (channels) or null.
KERNEL conv_input(const float* input, const float* scale, const float* shift, float* output, u32 total,
                  u32 relu, int height, int width, u32 channels, int border, u32 padded_height,
                  u32 padded_width, u32 padded_channels) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % padded_channels, rest = i / padded_channels;
    int x = (int)(rest % padded_width) - border;
    rest /= padded_width;
    int y = (int)(rest % padded_height) - border;
    u32 image = rest / padded_height;
    float value = 0.0f;
    if (c < channels && y >= 0 && y < height && x >= 0 && x < width) {
        value = input[((image * height + y) * width + x) * channels + c];
        if (scale) value = affine(value, scale[c], shift[c]);
        if (relu && value < 0.0f) value = 0.0f;
    }
    output[i] = value;
}

// weights (K, C, kernel^2), scale (K) or null -> filter (K, taps, C'), or (C, taps, K') where `dgrad`, whose
// taps have places of their own (dgrad_place). Items: (row, tap, column), the last fastest.
KERNEL load_filter_bf16(const float* weights, const float* scale, bf16* filter, u32 total, u32 kernel,
                        u32 stride, u32 out_channels, u32 in_channels, u32 columns, u32 dgrad) {
    u32 i = global_index();
    if (i >= total) return;
    u32 column = i % columns, rest = i / columns, taps = kernel * kernel;
    u32 tap = rest % taps, row = rest / taps;
    u32 k = dgrad ? column : row, c = dgrad ? row : column;
    u32 place = dgrad ? dgrad_place(tap, kernel, stride) : tap;
    float value = 0.0f;
    if (k < out_channels && c < in_channels) {
        value = weights[(k * in_channels + c) * taps + tap];
        if (scale) value *= scale[k];
    }
    filter[(row * taps + place) * columns + column] = to_bf16(value);
}

// Four channels, c on, behind the prologue.
template <bool WHOLE>
__device__ __forceinline__ Four behind(const float* input, const float* scale, const float* shift, u32 relu, u32 c,
                                       u32 there) {
    Four four = load_four<WHOLE>(input, there);
    if (scale) {
        Four factor = load_four<WHOLE>(scale + c, there), offset = load_four<WHOLE>(shift + c, there);
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k) four.of[k] = affine(four.of[k], factor.of[k], offset.of[k]);
    }
#pragma unroll
    for (u32 k = 0; k < FOUR; ++k)
        if (relu && four.of[k] < 0.0f) four.of[k] = 0.0f;
    return four;
}

// input (pixels, channels) -> output (pixels, padded_channels), behind the prologue. One thread makes a vector.
// `total` vectors.
KERNEL conv_input_bf16(const float* input, const float* scale, const float* shift, bf16* output, u32 total,
                       u32 relu, u32 channels, u32 padded_channels) {
    u32 i = global_index();
    if (i >= total) return;
    u32 vectors = padded_channels / VECTOR, c = i % vectors * VECTOR, pixel = i / vectors;
    const float* from = input + pixel * channels + c;
    Four low, high;
    if (channels % VECTOR == 0 && fours(channels, input, scale, shift)) {
        low = behind<true>(from, scale, shift, relu, c, FOUR);
        high = behind<true>(from + FOUR, scale, shift, relu, c + FOUR, FOUR);
    } else {
        u32 there = channels - c, more = there > FOUR ? there - FOUR : 0;
        low = behind<false>(from, scale, shift, relu, c, there);
        high = behind<false>(from + FOUR, scale, shift, relu, c + FOUR, more);
    }
    *(uint4*)(output + i * VECTOR) =
        make_uint4(rounded_pair(low.of[0], low.of[1]), rounded_pair(low.of[2], low.of[3]),
                   rounded_pair(high.of[0], high.of[1]), rounded_pair(high.of[2], high.of[3]));
}

// mask (pixels, words): bit b of a pixel's word w is 1 where channel 32 w + b of the prologue is
// positive. Eight threads make a word, four channels each: one with all 32 read a line for itself, and waited for
// one value after the other. `total` words.
KERNEL conv_mask(const float* input, const float* scale, const float* shift, u32* mask, u32 total,
                 u32 channels, u32 words) {
    u32 i = global_index() / 8, c = i % words * 32 + threadIdx.x % 8 * FOUR, pixel = i / words;
    u32 there = i < total && c < channels ? channels - c : 0, word = 0;
    const float* from = input + pixel * channels + c;
    if (there) {
        Four four = fours(channels, input, scale, shift) ? behind<true>(from, scale, shift, 0, c, FOUR)
                                                         : behind<false>(from, scale, shift, 0, c, there);
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k)
            if (k < there && four.of[k] > 0.0f) word |= 1u << k;
    }
    word <<= threadIdx.x % 8 * FOUR;
#pragma unroll
    for (u32 lane = 1; lane < 8; lane *= 2) word |= __shfl_xor_sync(~0u, word, lane);
    if (i < total && threadIdx.x % 8 == 0) mask[i] = word;
}
