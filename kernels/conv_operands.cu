// The operands of the convolutions, of type E, bf16 or f32, with channels rounded up to a multiple of 8, marked ', and no
// border; and the mask of an input's ReLU.
//   load_filter  (K, C, taps) -> fprop (K, taps, C') or dgrad (C, taps, K') in the order of dgrad_tap_index (mma.cuh)
//   conv_input   max(0, scale[c] * x + shift[c]); NaN stays NaN, so that a diverging run shows it
//   conv_mask    its sign, one bit a channel
//
// Used where no other op writes the operand (NextOperand in epilogue.cuh). load_filter computes one element a thread,
// conv_input eight channels, conv_mask four, with 16-byte loads where aligned.
#include "epilogue.cuh"
#include "vec4.cuh"

template <class E> __device__ __forceinline__ E as(float value);
template <> __device__ __forceinline__ bf16 as<bf16>(float value) { return to_bf16(value); }
template <> __device__ __forceinline__ float as<float>(float value) { return value; }

// weights (K, C, kernel^2), scale (K) or null -> filter (K, taps, C'), or (C, taps, K') where `dgrad`, in
// the order of dgrad_tap_index. Items: (row, tap, column), the last fastest.
template <class E> __device__ __forceinline__ void load_filter(const float* weights, const float* scale, E* filter,
                                                               u32 total, u32 kernel, u32 stride, u32 out_channels,
                                                               u32 in_channels, u32 columns, u32 dgrad) {
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
    filter[(row * taps + place) * columns + column] = as<E>(value);
}

#define LOAD_FILTER(name, E)                                                                                      \
    KERNEL name(const float* weights, const float* scale, E* filter, u32 total, u32 kernel, u32 stride,           \
                u32 out_channels, u32 in_channels, u32 columns, u32 dgrad) {                                      \
        load_filter<E>(weights, scale, filter, total, kernel, stride, out_channels, in_channels, columns, dgrad); \
    }
LOAD_FILTER(load_filter_bf16, bf16)
LOAD_FILTER(load_filter_f32, float)

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
template <class E> __device__ __forceinline__ void conv_input(const float* input, const float* scale,
                                                              const float* shift, E* output, u32 total, u32 relu,
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
    store_operand(output + i * VECTOR,
                  Vec8{{low.v[0], low.v[1], low.v[2], low.v[3], high.v[0], high.v[1], high.v[2], high.v[3]}});
}

#define CONV_INPUT(name, E)                                                                                 \
    KERNEL name(const float* input, const float* scale, const float* shift, E* output, u32 total, u32 relu, \
                u32 channels, u32 padded_channels) {                                                        \
        conv_input<E>(input, scale, shift, output, total, relu, channels, padded_channels);                 \
    }
CONV_INPUT(conv_input_bf16, bf16)
CONV_INPUT(conv_input_f32, float)

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
