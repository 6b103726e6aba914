// The operands of the convolutions, of type E, bf16 or f32, with channels rounded up to a multiple of 8, marked ', and no
// border; and the mask of an input's ReLU.
//   load_filter  (K, C, taps) -> fprop (K, taps, C') or dgrad (C, taps, K') in the order of dgrad_tap_index (mma.cuh)
//   conv_input   max(0, scale[c] * x + shift[c]); NaN stays NaN, so that a diverging run shows it
//   conv_mask    its sign, one bit a channel
//
// Used where no other op writes the operand (NextOperand in epilogue.cuh). load_filter computes one element a thread,
// conv_input eight channels, conv_mask four, with 16-byte loads where aligned.
#include "args.cuh"
#include "epilogue.cuh"
#include "vec4.cuh"

template <class E> __device__ __forceinline__ E as(float value);
template <> __device__ __forceinline__ bf16 as<bf16>(float value) { return to_bf16(value); }
template <> __device__ __forceinline__ float as<float>(float value) { return value; }

// weights (K, C, kernel^2), scale (K) or null -> filter (K, taps, C'), or (C, taps, K') where `dgrad`, in
// the order of dgrad_tap_index. Items: (row, tap, column), the last fastest.
template <class E, class Args> __device__ __forceinline__ void load_filter(const Args& a) {
    u32 i = global_index();
    if (i >= a.total) return;
    u32 column = i % a.columns, rest = i / a.columns, taps = a.kernel * a.kernel;
    u32 tap = rest % taps, row = rest / taps;
    u32 k = a.dgrad ? column : row, c = a.dgrad ? row : column;
    u32 place = a.dgrad ? dgrad_tap_index(tap, a.kernel, a.stride) : tap;
    float value = 0.0f;
    if (k < a.out_channels && c < a.in_channels) {
        value = a.weights[(k * a.in_channels + c) * taps + tap];
        if (a.scale) value *= a.scale[k];
    }
    a.filter[(row * taps + place) * a.columns + column] = as<E>(value);
}

KERNEL load_filter_bf16(const LoadFilterBf16Args a) { load_filter<bf16>(a); }
KERNEL load_filter_f32(const LoadFilterF32Args a) { load_filter<float>(a); }

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
template <class Args> __device__ __forceinline__ void conv_input(const Args& a) {
    u32 i = global_index();
    if (i >= a.total) return;
    u32 vectors = a.padded_channels / VECTOR, c = i % vectors * VECTOR, pixel = i / vectors;
    const float* from = a.input + pixel * a.channels + c;
    Vec4 low, high;
    if (a.channels % VECTOR == 0 && is_vec4_aligned(a.channels, a.input, a.scale, a.shift)) {
        low = prologue_vec4<true>(from, a.scale, a.shift, a.relu, c, VEC4);
        high = prologue_vec4<true>(from + VEC4, a.scale, a.shift, a.relu, c + VEC4, VEC4);
    } else {
        u32 valid = a.channels - c, more = valid > VEC4 ? valid - VEC4 : 0;
        low = prologue_vec4<false>(from, a.scale, a.shift, a.relu, c, valid);
        high = prologue_vec4<false>(from + VEC4, a.scale, a.shift, a.relu, c + VEC4, more);
    }
    store_operand(a.output + i * VECTOR,
                  Vec8{{low.v[0], low.v[1], low.v[2], low.v[3], high.v[0], high.v[1], high.v[2], high.v[3]}});
}

KERNEL conv_input_bf16(const ConvInputBf16Args a) { conv_input(a); }
KERNEL conv_input_f32(const ConvInputF32Args a) { conv_input(a); }

// mask (pixels, words): bit b of a pixel's word w is 1 where channel 32 w + b of the prologue is positive. Eight
// threads compute a word, of `total`, four channels each. Tried and lost: one thread a word, which reads 128 bytes one
// value after the other.
KERNEL conv_mask(const ConvMaskArgs a) {
    u32 i = global_index() / 8, c = i % a.words * 32 + threadIdx.x % 8 * VEC4, pixel = i / a.words;
    u32 valid = i < a.total && c < a.channels ? a.channels - c : 0, word = 0;
    const float* from = a.input + pixel * a.channels + c;
    if (valid) {
        Vec4 vec = is_vec4_aligned(a.channels, a.input, a.scale, a.shift)
                       ? prologue_vec4<true>(from, a.scale, a.shift, 0, c, VEC4)
                       : prologue_vec4<false>(from, a.scale, a.shift, 0, c, valid);
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k)
            if (k < valid && vec.v[k] > 0.0f) word |= 1u << k;
    }
    word <<= threadIdx.x % 8 * VEC4;
#pragma unroll
    for (u32 lane = 1; lane < 8; lane *= 2) word |= __shfl_xor_sync(~0u, word, lane);
    if (i < a.total && threadIdx.x % 8 == 0) a.mask[i] = word;
}
