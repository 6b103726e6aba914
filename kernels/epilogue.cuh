// Epilogue of the convolutions: from a warp's accumulators (mma.cuh) to tensors in memory.
//
// Tensors are (pixels, channels). An f32 tensor has no padding, so eight channels are aligned only where the channels
// are a multiple of eight. An operand of a convolution, in bf16 or f32, has its channels rounded up to a multiple of
// eight, filled with zeros, and so has every bf16 tensor.
#pragma once
#include "mma.cuh"

// Eight neighbouring channels of a pixel, the unit a thread works on: one 16-byte access in bf16, two in f32. Tried and
// lost: pairs as mma.sync leaves them. They took four times the instructions with too few bytes in flight; on an H100
// the epilogue then took longer than the main loop.
struct Vec8 {
    float value[8];
};

// Passes every eight accumulators of a block to `use(row, column, vec, operands)`. `operands` is what
// `load(row, column)` returned: several loads are in flight before the first is used. All warps call this; each
// handles its own rows and waits for no other.
template <class T, class Load, class Use>
__device__ __forceinline__ void for_each_vec8(typename T::Mma& acc, uint4* memory, Load load, Use use) {
    constexpr u32 VECS_PER_ROW = T::WARP_N / 8, ROWS_PER_PASS = 32 / VECS_PER_ROW, PASSES = T::SLAB / ROWS_PER_PASS;
    constexpr u32 IN_FLIGHT = PASSES < 2 ? 1 : 2;
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = T::column() + lane % VECS_PER_ROW * 8;
    float* slab = (float*)memory + warp * (T::SLAB * T::PITCH);
    const float* local = slab + lane / VECS_PER_ROW * T::PITCH + lane % VECS_PER_ROW * 8;
    // The half that a lane reads first: eight lanes then hit all banks.
    u32 swap = VECS_PER_ROW == 2 ? lane % 2 : lane / 4 % 2;
    auto read = [&](u32 pass) {
        float4 one = *(const float4*)(local + pass * (ROWS_PER_PASS * T::PITCH) + swap * 4);
        float4 two = *(const float4*)(local + pass * (ROWS_PER_PASS * T::PITCH) + (1 - swap) * 4);
        float4 low = swap ? two : one, high = swap ? one : two;
        return Vec8{{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
    };
    // All warps have finished reading the operand tiles, which share this memory.
    __syncthreads();
#pragma unroll
    for (u32 first = 0; first < T::WARP_M; first += T::SLAB) {
        // All lanes have finished reading the previous rows.
        __syncwarp();
        acc.template store<T::PITCH>(shared_address(slab), first / 16, T::SLAB / 16);
        __syncwarp();
#pragma unroll 1
        for (u32 pass = 0; pass < PASSES; pass += IN_FLIGHT) {
            u32 row = T::row() + first + pass * ROWS_PER_PASS + lane / VECS_PER_ROW;
            decltype(load(row, column)) operands[IN_FLIGHT];
#pragma unroll
            for (u32 i = 0; i < IN_FLIGHT; ++i) operands[i] = load(row + i * ROWS_PER_PASS, column);
#pragma unroll
            for (u32 i = 0; i < IN_FLIGHT; ++i) {
                Vec8 vec = read(pass + i);
                use(row + i * ROWS_PER_PASS, column, vec, operands[i]);
            }
        }
    }
}

// Eight values as loaded: f32, or bf16 in `low`.
struct Vec8Bits {
    uint4 low, high;
};

// Loads eight floats in two accesses where `aligned`; otherwise `count` of them, at most eight, and zeros.
__device__ __forceinline__ Vec8Bits load_vec8(const float* from, bool aligned, u32 count) {
    if (aligned) return {*(const uint4*)from, *(const uint4*)(from + 4)};
    u32 word[8];
#pragma unroll
    for (u32 j = 0; j < 8; ++j) word[j] = j < count ? __float_as_uint(from[j]) : 0;
    return {{word[0], word[1], word[2], word[3]}, {word[4], word[5], word[6], word[7]}};
}

__device__ __forceinline__ Vec8 to_vec8(const Vec8Bits& bits) {
    const uint4 &a = bits.low, &b = bits.high;
    return {{__uint_as_float(a.x), __uint_as_float(a.y), __uint_as_float(a.z), __uint_as_float(a.w),
             __uint_as_float(b.x), __uint_as_float(b.y), __uint_as_float(b.z), __uint_as_float(b.w)}};
}

__device__ __forceinline__ Vec8 from_bf16(const uint4& words) {
    u32 word[4] = {words.x, words.y, words.z, words.w};
    Vec8 vec;
#pragma unroll
    for (u32 j = 0; j < 4; ++j) {
        vec.value[2 * j] = __uint_as_float(word[j] << 16);
        vec.value[2 * j + 1] = __uint_as_float(word[j] & 0xffff0000u);
    }
    return vec;
}

__device__ __forceinline__ void add(Vec8& vec, const Vec8& more) {
#pragma unroll
    for (u32 j = 0; j < 8; ++j) vec.value[j] += more.value[j];
}

// Stores channels k to k + 7 of an f32 row of `channels`; `valid` says whether the row exists. All lanes of a warp call
// this; lanes 2i and 2i + 1 have the same row and neighbouring vectors. Where `aligned` they swap halves, so that a pair
// of lanes stores a whole 32-byte sector at once.
__device__ __forceinline__ void store_vec8(float* row, const Vec8& vec, bool aligned, u32 k, u32 channels, bool valid) {
    const float* v = vec.value;
    if (aligned) {
        bool odd = threadIdx.x % 2;
        float other[4];
#pragma unroll
        for (u32 j = 0; j < 4; ++j) other[j] = __shfl_xor_sync(~0u, odd ? v[j] : v[4 + j], 1);
        // Both lanes store to the even lane's vector, then both to the odd lane's.
        u32 even = odd ? k - 8 : k, half = odd ? 4 : 0;
        float4 first = odd ? make_float4(other[0], other[1], other[2], other[3]) : make_float4(v[0], v[1], v[2], v[3]);
        float4 second = odd ? make_float4(v[4], v[5], v[6], v[7]) : make_float4(other[0], other[1], other[2], other[3]);
        if (valid && even < channels) *(float4*)(row + even + half) = first;
        if (valid && even + 8 < channels) *(float4*)(row + even + 8 + half) = second;
        return;
    }
#pragma unroll
    for (u32 j = 0; j < 8; ++j)
        if (valid && k + j < channels) row[k + j] = v[j];
}

__device__ __forceinline__ void store_vec8_bf16(bf16* to, const Vec8& vec) {
    u32 word[4];
#pragma unroll
    for (u32 j = 0; j < 4; ++j) word[j] = pack_bf16x2(vec.value[2 * j], vec.value[2 * j + 1]);
    *(uint4*)to = make_uint4(word[0], word[1], word[2], word[3]);
}

// A tensor to add, in f32 or bf16. Both pointers are null where there is none.
struct Addend {
    const float* f32_data;
    const bf16* bf16_data;

    // Channels k to k + 7 of a pixel.
    __device__ __forceinline__ Vec8Bits load(u32 pixel, u32 k, u32 channels, bool aligned) const {
        if (f32_data) return load_vec8(f32_data + pixel * channels + k, aligned, channels - k);
        if (bf16_data) return {*(const uint4*)(bf16_data + pixel * round_up_to_vector(channels) + k), {}};
        return {};
    }

    __device__ __forceinline__ void add_to(Vec8& vec, const Vec8Bits& bits) const {
        if (f32_data) add(vec, to_vec8(bits));
        if (bf16_data) add(vec, from_bf16(bits.low));
    }
};

// Stores eight values of an operand.
__device__ __forceinline__ void store_operand(bf16* to, const Vec8& vec) { store_vec8_bf16(to, vec); }
__device__ __forceinline__ void store_operand(float* to, const Vec8& vec) {
    const float* v = vec.value;
    *(float4*)to = make_float4(v[0], v[1], v[2], v[3]);
    *(float4*)(to + 4) = make_float4(v[4], v[5], v[6], v[7]);
}

// The operand of the next convolution, written by the op that makes its input: E after that convolution's prologue
// max(0, scale[k] * value + shift[k]), and the mask of the prologue's ReLU. `to` is null where there is none.
template <class E> struct NextOperand {
    E* to;
    const float* scale;
    const float* shift;
    u32* mask;
    u32 relu;
};

// Writes channels k to k + 7 of a pixel; k < channels, and channels past the last are zeros.
template <class E> __device__ __forceinline__ void store_next_operand(const NextOperand<E>& next, Vec8 vec, u32 pixel,
                                                                      u32 k, u32 channels, bool aligned) {
    if (next.scale) {
        Vec8 scale = to_vec8(load_vec8(next.scale + k, aligned, channels - k));
        Vec8 shift = to_vec8(load_vec8(next.shift + k, aligned, channels - k));
#pragma unroll
        for (u32 j = 0; j < 8; ++j) vec.value[j] = affine(vec.value[j], scale.value[j], shift.value[j]);
    }
    if (next.mask) {
        u32 bits = 0;
#pragma unroll
        for (u32 j = 0; j < 8; ++j) bits |= (u32)(vec.value[j] > 0.0f) << j;
        u8* byte = (u8*)(next.mask + pixel * ((channels + 31) / 32)) + k / 8;
        *byte = (u8)bits;
        // The remaining bytes of the last word have no channels: nothing else writes them.
        if (k + 8 >= channels)
            for (u32 rest = k / 8 + 1; rest % 4; ++rest) *++byte = 0;
    }
    if (next.relu)
#pragma unroll
        for (u32 j = 0; j < 8; ++j)
            if (vec.value[j] < 0.0f) vec.value[j] = 0.0f;
    store_operand(next.to + pixel * round_up_to_vector(channels) + k, vec);
}

// Whether rows of `channels` floats allow 16-byte accesses to every eight channels; null counts as aligned.
__device__ __forceinline__ bool is_vec8_aligned(u32 channels, const float* a, const float* b, const float* c,
                                                const float* d, const float* e) {
    return channels % 8 == 0 && (((u64)a | (u64)b | (u64)c | (u64)d | (u64)e) & 15) == 0;
}
