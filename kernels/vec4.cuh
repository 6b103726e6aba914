// Four neighbouring channels of f32: what a thread of the kernels that memory bounds takes at once, in one
// access of 16 bytes where rows are whole fours and begin at a multiple of 16 bytes. On an H100 such kernels
// took a third of the memory's speed with an access of 4 bytes a thread.
#pragma once
#include "common.cuh"

constexpr u32 FOUR = 4;

struct Four {
    float of[FOUR];
};

// Whether rows of `channels` that begin where these do can be accessed so; null counts as aligned.
__device__ __forceinline__ bool fours(u32 channels, const void* a, const void* b = nullptr,
                                      const void* c = nullptr, const void* d = nullptr,
                                      const void* e = nullptr) {
    return channels % FOUR == 0 && (((u64)a | (u64)b | (u64)c | (u64)d | (u64)e) & 15) == 0;
}

// `there` of them, zeros for the others; all four, in one access, where WHOLE.
template <bool WHOLE> __device__ __forceinline__ Four load_four(const float* from, u32 there) {
    Four four;
    if (WHOLE) {
        float4 all = *(const float4*)from;
        four.of[0] = all.x, four.of[1] = all.y, four.of[2] = all.z, four.of[3] = all.w;
    } else {
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k) four.of[k] = k < there ? from[k] : 0.0f;
    }
    return four;
}

template <bool WHOLE> __device__ __forceinline__ void store_four(float* to, const Four& four, u32 there) {
    if (WHOLE) {
        *(float4*)to = make_float4(four.of[0], four.of[1], four.of[2], four.of[3]);
    } else {
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k)
            if (k < there) to[k] = four.of[k];
    }
}

// Four rounded ones, in one access: 8 bytes, at a multiple of 8; all of them, so that zeros fill up a pixel's
// vector.
__device__ __forceinline__ void store_rounded_four(bf16* to, const Four& four) {
    *(uint2*)to = make_uint2(rounded_pair(four.of[0], four.of[1]), rounded_pair(four.of[2], four.of[3]));
}
