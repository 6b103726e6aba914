// Projected gradient descent in an epsilon-ball around each clean image (PBE Eq. 10-12):
//   start  r = epsilon (2u - 1) per element, shrunk into the ball; adversarial = clamp(clean + r)
//   step   r = project(adversarial + alpha d - clean), d = sign(g) for L-infinity, g / |g| for L2;
//          adversarial = clamp(clean + r); |g| of less than a normal number gives no direction
// u are Philox's draws for (seed, epoch, index, position); products and sums that the CPU rounds one
// by one are rounded so here (__fmul_rn, __fadd_rn): starts have the CPU's bits.
//
// Tensors are (N, elements); epsilon and alpha one per image. A block makes an image; the squares of
// L2 are summed in f64, per thread and then over the threads in order.
#include "pgd.cuh"

// Bits of a draw's counter left to the position inside an image.
constexpr int POSITION_BITS = 24;
// The smallest normal number: alpha divided by it is still one.
constexpr float SMALLEST = 1.17549435e-38f;

// The sum of every thread's value, to every thread.
__device__ __forceinline__ double block_sum(double value) {
    __shared__ double values[BLOCK];
    values[threadIdx.x] = value;
    __syncthreads();
    for (int width = BLOCK / 2; width > 0; width /= 2) {
        if (threadIdx.x < width) values[threadIdx.x] += values[threadIdx.x + width];
        __syncthreads();
    }
    double sum = values[0];
    // The next sum writes where this one is still being read.
    __syncthreads();
    return sum;
}

// The factor that brings an offset of this squared length into the ball.
__device__ __forceinline__ float shrink_into(float epsilon, double square) {
    double length = sqrt(square);
    return length > epsilon ? (float)(epsilon / length) : 1.0f;
}

// epsilon (2u - 1) for element i of an image.
__device__ __forceinline__ float start_offset(u32 index, u32 i, float epsilon, u64 seed, u32 epoch) {
    Words draw = philox((u64)index << POSITION_BITS | i / 4, epoch, PURPOSE_ATTACK_START, seed);
    // No array indexed by a variable: that would live in local memory.
    u32 low = i & 1 ? draw.word[1] : draw.word[0], high = i & 1 ? draw.word[3] : draw.word[2];
    return __fmul_rn(epsilon, 2.0f * unit(i & 2 ? high : low) - 1.0f);
}

KERNEL pgd_start(const float* clean, const u32* indices, const float* epsilons, float* adversarial, u32 elements,
                 u32 l2, const Run* run) {
    u32 image = blockIdx.x, index = indices[image], clamp = run->clamp, epoch = run->epoch;
    u64 seed = run->seed();
    float epsilon = epsilons[image];
    const float* from = clean + image * elements;
    float* to = adversarial + image * elements;
    if (!run->random_start) {
        for (u32 i = threadIdx.x; i < elements; i += BLOCK) to[i] = from[i];
        return;
    }
    float shrink = 1.0f;
    if (l2) {
        double square = 0.0;
        for (u32 i = threadIdx.x; i < elements; i += BLOCK) {
            double offset = start_offset(index, i, epsilon, seed, epoch);
            square += offset * offset;
        }
        shrink = shrink_into(epsilon, block_sum(square));
    }
    for (u32 i = threadIdx.x; i < elements; i += BLOCK) {
        float offset = start_offset(index, i, epsilon, seed, epoch);
        to[i] = bounded(__fadd_rn(from[i], __fmul_rn(shrink, offset)), clamp);
    }
}

KERNEL pgd_step_linf(const float* clean, const float* gradient, const float* epsilons, const float* alphas,
                     float* adversarial, u32 elements, const Run* run) {
    u32 image = blockIdx.x, clamp = run->clamp;
    float epsilon = epsilons[image], alpha = alphas[image];
    for (u32 i = threadIdx.x; i < elements; i += BLOCK) {
        u32 at = image * elements + i;
        adversarial[at] = linf_step(adversarial[at], clean[at], gradient[at], epsilon, alpha, clamp);
    }
}

KERNEL pgd_step_l2(const float* clean, const float* gradient, const float* epsilons, const float* alphas,
                   float* adversarial, u32 elements, const Run* run) {
    u32 image = blockIdx.x, clamp = run->clamp;
    float epsilon = epsilons[image], alpha = alphas[image];
    const float *x = clean + image * elements, *g = gradient + image * elements;
    float* value = adversarial + image * elements;
    double square = 0.0;
    for (u32 i = threadIdx.x; i < elements; i += BLOCK) square += (double)g[i] * g[i];
    float length = (float)sqrt(block_sum(square));
    float scale = length >= SMALLEST ? alpha / length : 0.0f;
    square = 0.0;
    for (u32 i = threadIdx.x; i < elements; i += BLOCK) {
        float offset = __fadd_rn(value[i], __fmul_rn(scale, g[i])) - x[i];
        square += (double)offset * offset;
    }
    float shrink = shrink_into(epsilon, block_sum(square));
    for (u32 i = threadIdx.x; i < elements; i += BLOCK) {
        float offset = __fadd_rn(value[i], __fmul_rn(scale, g[i])) - x[i];
        value[i] = bounded(__fadd_rn(x[i], __fmul_rn(shrink, offset)), clamp);
    }
}
