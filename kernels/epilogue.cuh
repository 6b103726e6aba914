// The end of a block of mma.cuh: from a warp's sums to what lies in memory.
//
// Tensors are (pixels, channels). In f32 a pixel has its channels and no more, so that octets are aligned only where the
// channels are whole octets; rounded to bf16 it has whole vectors of channels, zeros where there are none.
#pragma once
#include "mma.cuh"

// Eight neighbouring channels of a pixel: what a thread finishes at once, for in memory they are one access of 16 bytes
// rounded, and two in f32. Pairs took four times the instructions, and left too few bytes on their way: on an H100 the
// ends of blocks took longer than their products.
struct Octet {
    float value[8];
};

// Hands the sums of a block, all of whose warps call this, to `use(row, column, octet, operands)`, where operands is
// what `load(row, column)` has returned: loads of several octets are on their way before the first is used. Each warp
// does so with its own rows, and waits for no other.
template <class T, class Load, class Use>
__device__ __forceinline__ void each_octet(typename T::WarpSums& sums, uint4* memory, Load load, Use use) {
    constexpr u32 ACROSS = T::WARP_COLUMNS / 8, DOWN = 32 / ACROSS, PASSES = T::SLAB / DOWN;
    constexpr u32 TOGETHER = PASSES < 2 ? 1 : 2;
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = T::column() + lane % ACROSS * 8;
    float* slab = (float*)memory + warp * (T::SLAB * T::PITCH);
    const float* own = slab + lane / ACROSS * T::PITCH + lane % ACROSS * 8;
    // Which half of its octet a lane reads first: eight lanes then meet all banks.
    u32 swap = ACROSS == 2 ? lane % 2 : lane / 4 % 2;
    auto read = [&](u32 pass) {
        float4 one = *(const float4*)(own + pass * (DOWN * T::PITCH) + swap * 4);
        float4 two = *(const float4*)(own + pass * (DOWN * T::PITCH) + (1 - swap) * 4);
        float4 low = swap ? two : one, high = swap ? one : two;
        return Octet{{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
    };
    // No warp reads operands any more.
    __syncthreads();
#pragma unroll
    for (u32 first = 0; first < T::WARP_ROWS; first += T::SLAB) {
        // Nor does a lane of this one the rows before.
        __syncwarp();
        sums.template store<T::PITCH>(shared_address(slab), first / 16, T::SLAB / 16);
        __syncwarp();
#pragma unroll 1
        for (u32 pass = 0; pass < PASSES; pass += TOGETHER) {
            u32 row = T::row() + first + pass * DOWN + lane / ACROSS;
            decltype(load(row, column)) operands[TOGETHER];
#pragma unroll
            for (u32 i = 0; i < TOGETHER; ++i) operands[i] = load(row + i * DOWN, column);
#pragma unroll
            for (u32 i = 0; i < TOGETHER; ++i) {
                Octet octet = read(pass + i);
                use(row + i * DOWN, column, octet, operands[i]);
            }
        }
    }
}

// An octet as it is in memory: f32, or rounded in the first half.
struct Raw {
    uint4 low, high;
};

// `count` floats, at most eight, and zeros behind them; all eight in whole accesses where `aligned`.
__device__ __forceinline__ Raw load_floats(const float* from, bool aligned, u32 count) {
    if (aligned) return {*(const uint4*)from, *(const uint4*)(from + 4)};
    u32 word[8];
#pragma unroll
    for (u32 j = 0; j < 8; ++j) word[j] = j < count ? __float_as_uint(from[j]) : 0;
    return {{word[0], word[1], word[2], word[3]}, {word[4], word[5], word[6], word[7]}};
}

__device__ __forceinline__ Octet as_floats(const Raw& raw) {
    const uint4 &a = raw.low, &b = raw.high;
    return {{__uint_as_float(a.x), __uint_as_float(a.y), __uint_as_float(a.z), __uint_as_float(a.w),
             __uint_as_float(b.x), __uint_as_float(b.y), __uint_as_float(b.z), __uint_as_float(b.w)}};
}

__device__ __forceinline__ Octet from_rounded(const uint4& words) {
    u32 word[4] = {words.x, words.y, words.z, words.w};
    Octet octet;
#pragma unroll
    for (u32 j = 0; j < 4; ++j) {
        octet.value[2 * j] = __uint_as_float(word[j] << 16);
        octet.value[2 * j + 1] = __uint_as_float(word[j] & 0xffff0000u);
    }
    return octet;
}

__device__ __forceinline__ void add(Octet& octet, const Octet& more) {
#pragma unroll
    for (u32 j = 0; j < 8; ++j) octet.value[j] += more.value[j];
}

// Channels from k on, of which there are `channels`, of a row of a tensor in f32; `there`: the row is, whichever channels
// are. All lanes of a warp call this, and neighbours have the same row and neighbouring octets. Where `aligned` they swap
// halves: a store of both is then a whole sector, where each one's own half would touch two.
__device__ __forceinline__ void store_floats(float* row, const Octet& octet, bool aligned, u32 k, u32 channels, bool there) {
    const float* v = octet.value;
    if (aligned) {
        bool odd = threadIdx.x % 2;
        float other[4];
#pragma unroll
        for (u32 j = 0; j < 4; ++j) other[j] = __shfl_xor_sync(~0u, odd ? v[j] : v[4 + j], 1);
        // The even lane's octet, then the odd one's: its low half by the even lane, its high half by the odd one.
        u32 even = odd ? k - 8 : k, half = odd ? 4 : 0;
        float4 first = odd ? make_float4(other[0], other[1], other[2], other[3]) : make_float4(v[0], v[1], v[2], v[3]);
        float4 second = odd ? make_float4(v[4], v[5], v[6], v[7]) : make_float4(other[0], other[1], other[2], other[3]);
        if (there && even < channels) *(float4*)(row + even + half) = first;
        if (there && even + 8 < channels) *(float4*)(row + even + 8 + half) = second;
        return;
    }
#pragma unroll
    for (u32 j = 0; j < 8; ++j)
        if (there && k + j < channels) row[k + j] = v[j];
}

__device__ __forceinline__ void store_rounded(bf16* to, const Octet& octet) {
    u32 word[4];
#pragma unroll
    for (u32 j = 0; j < 4; ++j) word[j] = rounded_pair(octet.value[2 * j], octet.value[2 * j + 1]);
    *(uint4*)to = make_uint4(word[0], word[1], word[2], word[3]);
}

// A summand, in f32 or rounded (channels in whole vectors, zeros where there are none); both null where there is none.
struct Summand {
    const float* wide;
    const bf16* rounded;

    // Its channels of a pixel from k on.
    __device__ __forceinline__ Raw load(u32 pixel, u32 k, u32 channels, bool aligned) const {
        if (wide) return load_floats(wide + pixel * channels + k, aligned, channels - k);
        if (rounded) return {*(const uint4*)(rounded + pixel * whole_vectors(channels) + k), {}};
        return {};
    }

    __device__ __forceinline__ void add_to(Octet& octet, const Raw& raw) const {
        if (wide) add(octet, as_floats(raw));
        if (rounded) add(octet, from_rounded(raw.low));
    }
};

// What a convolution hands on to the one that reads its result: bf16 behind that one's prologue, max(0, scale[k] *
// value + shift[k]), channels in whole vectors, and the mask of the prologue's ReLU. Nulls where it hands on nothing.
struct Next {
    bf16* to;
    const float* scale;
    const float* shift;
    u32* mask;
    u32 relu;
};

// Channels of a pixel from k on, of which there is at least one; those behind the last are zeros.
__device__ __forceinline__ void hand_on(const Next& next, Octet octet, u32 pixel, u32 k, u32 channels, bool aligned) {
    if (next.scale) {
        Octet scale = as_floats(load_floats(next.scale + k, aligned, channels - k));
        Octet shift = as_floats(load_floats(next.shift + k, aligned, channels - k));
#pragma unroll
        for (u32 j = 0; j < 8; ++j) octet.value[j] = affine(octet.value[j], scale.value[j], shift.value[j]);
    }
    if (next.mask) {
        u32 bits = 0;
#pragma unroll
        for (u32 j = 0; j < 8; ++j) bits |= (u32)(octet.value[j] > 0.0f) << j;
        u8* byte = (u8*)(next.mask + pixel * ((channels + 31) / 32)) + k / 8;
        *byte = (u8)bits;
        // The last word's other bytes have no channels, and no one else to write them.
        if (k + 8 >= channels)
            for (u32 rest = k / 8 + 1; rest % 4; ++rest) *++byte = 0;
    }
    if (next.relu)
#pragma unroll
        for (u32 j = 0; j < 8; ++j)
            if (octet.value[j] < 0.0f) octet.value[j] = 0.0f;
    store_rounded(next.to + pixel * whole_vectors(channels) + k, octet);
}

// Whether all octets of rows of `channels` floats can be accessed in whole; null counts as aligned.
__device__ __forceinline__ bool octets_aligned(u32 channels, const float* a, const float* b, const float* c,
                                               const float* d, const float* e) {
    return channels % 8 == 0 && (((u64)a | (u64)b | (u64)c | (u64)d | (u64)e) & 15) == 0;
}
