// Shared by all kernel files.
//
// Conventions: activations are NHWC, f32, without padding. A null pointer is an operand that an op does not have. Sizes
// and indices are 32-bit: the host refuses a tensor of 2^31 elements. A grid is one-dimensional, of blocks of BLOCK
// threads, unless the kernel's comment says otherwise; thread i of `total` computes item i.
#pragma once

typedef unsigned char u8;
typedef unsigned short bf16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr int BLOCK = 128;
// Channels and pixels that one thread of an f32 convolution holds in registers.
constexpr int TILE = 4;
// bf16 values in 16 bytes: a bf16 tensor's channels are rounded up to a multiple of this.
constexpr u32 VECTOR = 8;

#define KERNEL extern "C" __global__ void __launch_bounds__(BLOCK)

// Scalars of a run, `RunScalars` in src/device/cuda/scalars.rs. They are in memory, so that a recorded CUDA graph
// reads their current values.
struct Run {
    float learning_rate, momentum, weight_decay;
    // Adam's step size and the factor of the second moment's root, bias-corrected.
    float adam_rate, adam_correction, beta1, beta2;
    float average_decay, distill_weight, temperature, patches;
    u32 nesterov, random_start, clamp, epoch, seed_low, seed_high;

    __device__ u64 seed() const { return (u64)seed_high << 32 | seed_low; }
};

__device__ __forceinline__ u32 global_index() { return blockIdx.x * blockDim.x + threadIdx.x; }

// scale * x + shift, the same instruction in every kernel: forward pass, masks and the backward pass of batch norm
// agree to the bit on which elements a ReLU lets pass.
__device__ __forceinline__ float affine(float x, float scale, float shift) { return fmaf(scale, x, shift); }

// Rounds to nearest, ties to even. NaN stays NaN.
__device__ __forceinline__ bf16 to_bf16(float value) {
    bf16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result) : "f"(value));
    return result;
}

// Two bf16 values in one word, the first in the low half.
__device__ __forceinline__ u32 pack_bf16x2(float first, float second) {
    return to_bf16(first) | (u32)to_bf16(second) << 16;
}

// Philox4x32-10 (Salmon et al., SC'11), as in src/rng.rs.
struct Words {
    u32 word[4];
};

__device__ __forceinline__ Words philox(u64 element, u32 epoch, u32 purpose, u64 seed) {
    u32 c0 = (u32)element, c1 = (u32)(element >> 32), c2 = epoch, c3 = purpose;
    u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        u64 a = (u64)0xD2511F53u * c0, b = (u64)0xCD9E8D57u * c2;
        u32 next0 = (u32)(b >> 32) ^ c1 ^ k0, next2 = (u32)(a >> 32) ^ c3 ^ k1;
        c1 = (u32)b;
        c3 = (u32)a;
        c0 = next0;
        c2 = next2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// `Purpose` in src/rng.rs.
constexpr u32 PURPOSE_AUGMENT = 3, PURPOSE_ATTACK_START = 4, PURPOSE_PATCH = 11;

// A random word as an integer in 0..n.
__device__ __forceinline__ u32 below(u32 word, u32 n) { return __umulhi(word, n); }

// A random word as a float in [0, 1).
__device__ __forceinline__ float unit(u32 word) { return (float)(word >> 8) * (1.0f / 16777216.0f); }
