// Projected gradient descent in an epsilon-ball around each clean image (PBE Eq. 10-12):
//   start  r = epsilon (2u - 1) per element, shrunk into the ball; adversarial = clamp(clean + r)
//   step   r = project(adversarial + alpha d - clean), d = sign(g) for L-infinity, g / |g| for L2;
//          adversarial = clamp(clean + r); |g| of less than a normal number gives no direction
// u are Philox's draws for (seed, epoch, index, position); products and sums that the CPU rounds one
// by one are rounded so here (__fmul_rn, __fadd_rn): starts have the CPU's bits.
//
// Tensors are (N, elements); epsilon and alpha one per image. The squares of L2 are summed in f64, per thread
// and then over the threads in order: there a block makes an image. In L-infinity blocks share one, a thread
// taking four elements, which are a draw's.
#include "vec4.cuh"
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

// epsilon (2u - 1) for elements i to i + 3 of an image, i a multiple of four.
__device__ __forceinline__ Four start_offsets(u32 index, u32 i, float epsilon, u64 seed, u32 epoch) {
    Words draw = philox((u64)index << POSITION_BITS | i / FOUR, epoch, PURPOSE_ATTACK_START, seed);
    Four offset;
#pragma unroll
    for (u32 k = 0; k < FOUR; ++k) offset.of[k] = __fmul_rn(epsilon, 2.0f * unit(draw.word[k]) - 1.0f);
    return offset;
}

template <bool WHOLE>
__device__ __forceinline__ void start(const float* clean, float* adversarial, u32 at, u32 there, float shrink,
                                      const Four& offset, u32 clamp) {
    Four value = load_four<WHOLE>(clean + at, there);
#pragma unroll
    for (u32 k = 0; k < FOUR; ++k)
        value.of[k] = bounded(__fadd_rn(value.of[k], __fmul_rn(shrink, offset.of[k])), clamp);
    store_four<WHOLE>(adversarial + at, value, there);
}

// Grid: (N, an image's fours / 128); for L2 (N, 1).
KERNEL pgd_start(const float* clean, const u32* indices, const float* epsilons, float* adversarial, u32 elements,
                 u32 l2, const Run* run) {
    u32 image = blockIdx.x, index = indices[image], clamp = run->clamp, epoch = run->epoch;
    u64 seed = run->seed();
    float epsilon = epsilons[image];
    u32 first = (blockIdx.y * BLOCK + threadIdx.x) * FOUR, step = gridDim.y * BLOCK * FOUR;
    if (!run->random_start) {
        for (u32 i = first; i < elements; i += step)
            for (u32 k = i; k < min(i + FOUR, elements); ++k)
                adversarial[image * elements + k] = clean[image * elements + k];
        return;
    }
    float shrink = 1.0f;
    if (l2) {
        double square = 0.0;
        for (u32 i = first; i < elements; i += step) {
            Four offset = start_offsets(index, i, epsilon, seed, epoch);
#pragma unroll
            for (u32 k = 0; k < FOUR; ++k)
                if (i + k < elements) square += (double)offset.of[k] * offset.of[k];
        }
        shrink = shrink_into(epsilon, block_sum(square));
    }
    bool whole = fours(elements, clean, adversarial);
    for (u32 i = first; i < elements; i += step) {
        Four offset = start_offsets(index, i, epsilon, seed, epoch);
        u32 at = image * elements + i;
        if (whole) start<true>(clean, adversarial, at, FOUR, shrink, offset, clamp);
        else start<false>(clean, adversarial, at, elements - i, shrink, offset, clamp);
    }
}

template <bool WHOLE>
__device__ __forceinline__ void step_four(const float* clean, const float* gradient, float* adversarial, u32 at,
                                          u32 there, float epsilon, float alpha, u32 clamp) {
    Four x = load_four<WHOLE>(clean + at, there), g = load_four<WHOLE>(gradient + at, there);
    Four value = load_four<WHOLE>(adversarial + at, there);
#pragma unroll
    for (u32 k = 0; k < FOUR; ++k) value.of[k] = linf_step(value.of[k], x.of[k], g.of[k], epsilon, alpha, clamp);
    store_four<WHOLE>(adversarial + at, value, there);
}

// Grid: (N, an image's fours / 128).
KERNEL pgd_step_linf(const float* clean, const float* gradient, const float* epsilons, const float* alphas,
                     float* adversarial, u32 elements, const Run* run) {
    u32 image = blockIdx.x, clamp = run->clamp, i = (blockIdx.y * BLOCK + threadIdx.x) * FOUR;
    if (i >= elements) return;
    float epsilon = epsilons[image], alpha = alphas[image];
    u32 at = image * elements + i;
    if (fours(elements, clean, gradient, adversarial))
        step_four<true>(clean, gradient, adversarial, at, FOUR, epsilon, alpha, clamp);
    else
        step_four<false>(clean, gradient, adversarial, at, elements - i, epsilon, alpha, clamp);
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
