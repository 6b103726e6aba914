// Four neighbouring f32 channels, the unit of memory-bound kernels: one 16-byte access where rows are a multiple of
// four channels and 16-byte aligned. Tried and lost: 4 bytes a thread, a third of the bandwidth on an H100.
#pragma once
#include "common.cuh"

constexpr u32 VEC4 = 4;

struct Vec4 {
    float v[VEC4];
};

// Whether rows of `channels` floats at these addresses allow 16-byte accesses; null counts as aligned.
__device__ __forceinline__ bool is_vec4_aligned(u32 channels, const void* a, const void* b = nullptr,
                                                const void* c = nullptr, const void* d = nullptr,
                                                const void* e = nullptr) {
    return channels % VEC4 == 0 && (((u64)a | (u64)b | (u64)c | (u64)d | (u64)e) & 15) == 0;
}

// Loads four floats in one access where ALIGNED; otherwise `valid` of them, and zeros.
template <bool ALIGNED> __device__ __forceinline__ Vec4 load_vec4(const float* from, u32 valid) {
    Vec4 vec;
    if (ALIGNED) {
        float4 all = *(const float4*)from;
        vec.v[0] = all.x, vec.v[1] = all.y, vec.v[2] = all.z, vec.v[3] = all.w;
    } else {
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k) vec.v[k] = k < valid ? from[k] : 0.0f;
    }
    return vec;
}

template <bool ALIGNED> __device__ __forceinline__ void store_vec4(float* to, const Vec4& vec, u32 valid) {
    if (ALIGNED) {
        *(float4*)to = make_float4(vec.v[0], vec.v[1], vec.v[2], vec.v[3]);
    } else {
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k)
            if (k < valid) to[k] = vec.v[k];
    }
}

// Stores all four as bf16 in one 8-byte access, zeros past the last channel included.
__device__ __forceinline__ void store_vec4_bf16(bf16* to, const Vec4& vec) {
    *(uint2*)to = make_uint2(pack_bf16x2(vec.v[0], vec.v[1]), pack_bf16x2(vec.v[2], vec.v[3]));
}
