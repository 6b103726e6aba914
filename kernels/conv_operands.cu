// The operands of convolutions: filters and inputs in the layouts of conv.cu and conv_bf16.cu, and the mask of an
// input's ReLU.
//
// f32 (conv.cu), where ' means padded with zeros to whole tiles, so that inner loops have no tail and no bounds:
//   filter (R, S, rows', columns'): fprop (in, out channels), dgrad (out, in channels)
//   input (N, HP, WP, C') with a border of zeros, after the prologue max(0, scale[c] * x + shift[c]); NaN stays NaN,
//   so that a diverging run shows it. The copy is one pass over the tensor; the loops make 9 K passes.
//
// bf16 (conv_bf16.cu), where ' means channels rounded up to a multiple of 8, no border:
//   filter (rows, taps, columns'): fprop (K, taps, C'), dgrad (C, taps, K') in the order of dgrad_tap_index (mma.cuh)
//   input (N, H, W, C') after the prologue
//
// A thread computes one element; conv_input_bf16 computes a vector, conv_mask four channels, with 16-byte loads where
// aligned.
#include "mma.cuh"
#include "vec4.cuh"

// weights (K, C, taps), scale (K) or null -> filter (taps, C', K'), or (taps, K', C') where `dgrad`.
KERNEL load_filter(const float* weights, const float* scale, float* filter, u32 total, u32 taps, u32 out_channels,
                   u32 in_channels, u32 rows, u32 columns, u32 dgrad) {
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
KERNEL conv_input(const float* input, const float* scale, const float* shift, float* output, u32 total, u32 relu,
                  int height, int width, u32 channels, int border, u32 padded_height, u32 padded_width,
                  u32 padded_channels) {
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

// weights (K, C, kernel^2), scale (K) or null -> filter (K, taps, C'), or (C, taps, K') where `dgrad`, in
// the order of dgrad_tap_index. Items: (row, tap, column), the last fastest.
KERNEL load_filter_bf16(const float* weights, const float* scale, bf16* filter, u32 total, u32 kernel, u32 stride,
                        u32 out_channels, u32 in_channels, u32 columns, u32 dgrad) {
    u32 i = global_index();
    if (i >= total) return;
    u32 column = i % columns, rest = i / columns, taps = kernel * kernel;
    u32 tap = rest % taps, row = rest / taps;
    u32 k = dgrad ? column : row, c = dgrad ? row : column;
    u32 place = dgrad ? dgrad_tap_index(tap, kernel, stride) : tap;
    float value = 0.0f;
    if (k < out_channels && c < in_channels) {
        value = weights[(k * in_channels + c) * taps + tap];
        if (scale) value *= scale[k];
    }
    filter[(row * taps + place) * columns + column] = to_bf16(value);
}

// Channels c to c + 3 after the prologue.
template <bool ALIGNED> __device__ __forceinline__ Vec4 prologue_vec4(const float* input, const float* scale,
                                                                      const float* shift, u32 relu, u32 c, u32 valid) {
    Vec4 vec = load_vec4<ALIGNED>(input, valid);
    if (scale) {
        Vec4 factor = load_vec4<ALIGNED>(scale + c, valid), offset = load_vec4<ALIGNED>(shift + c, valid);
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k) vec.v[k] = affine(vec.v[k], factor.v[k], offset.v[k]);
    }
#pragma unroll
    for (u32 k = 0; k < VEC4; ++k)
        if (relu && vec.v[k] < 0.0f) vec.v[k] = 0.0f;
    return vec;
}

// input (pixels, channels) -> output (pixels, padded_channels) after the prologue. A thread computes a vector, of
// `total`.
KERNEL conv_input_bf16(const float* input, const float* scale, const float* shift, bf16* output, u32 total, u32 relu,
                       u32 channels, u32 padded_channels) {
    u32 i = global_index();
    if (i >= total) return;
    u32 vectors = padded_channels / VECTOR, c = i % vectors * VECTOR, pixel = i / vectors;
    const float* from = input + pixel * channels + c;
    Vec4 low, high;
    if (channels % VECTOR == 0 && is_vec4_aligned(channels, input, scale, shift)) {
        low = prologue_vec4<true>(from, scale, shift, relu, c, VEC4);
        high = prologue_vec4<true>(from + VEC4, scale, shift, relu, c + VEC4, VEC4);
    } else {
        u32 valid = channels - c, more = valid > VEC4 ? valid - VEC4 : 0;
        low = prologue_vec4<false>(from, scale, shift, relu, c, valid);
        high = prologue_vec4<false>(from + VEC4, scale, shift, relu, c + VEC4, more);
    }
    *(uint4*)(output + i * VECTOR) = make_uint4(pack_bf16x2(low.v[0], low.v[1]), pack_bf16x2(low.v[2], low.v[3]),
                                                pack_bf16x2(high.v[0], high.v[1]), pack_bf16x2(high.v[2], high.v[3]));
}

// mask (pixels, words): bit b of a pixel's word w is 1 where channel 32 w + b of the prologue is positive. Eight
// threads compute a word, of `total`, four channels each. Tried and lost: one thread a word, which reads 128 bytes one
// value after the other.
KERNEL conv_mask(const float* input, const float* scale, const float* shift, u32* mask, u32 total, u32 channels,
                 u32 words) {
    u32 i = global_index() / 8, c = i % words * 32 + threadIdx.x % 8 * VEC4, pixel = i / words;
    u32 valid = i < total && c < channels ? channels - c : 0, word = 0;
    const float* from = input + pixel * channels + c;
    if (valid) {
        Vec4 vec = is_vec4_aligned(channels, input, scale, shift)
                       ? prologue_vec4<true>(from, scale, shift, 0, c, VEC4)
                       : prologue_vec4<false>(from, scale, shift, 0, c, valid);
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k)
            if (k < valid && vec.v[k] > 0.0f) word |= 1u << k;
    }
    word <<= threadIdx.x % 8 * VEC4;
#pragma unroll
    for (u32 lane = 1; lane < 8; lane *= 2) word |= __shfl_xor_sync(~0u, word, lane);
    if (i < total && threadIdx.x % 8 == 0) mask[i] = word;
}
