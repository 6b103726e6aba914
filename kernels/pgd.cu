// Projected gradient descent in an epsilon-ball around each clean image (PBE Eq. 10-12):
//   start  r = epsilon (2u - 1) per element, shrunk into the ball; adversarial = clamp(clean + r)
//   step   r = project(adversarial + alpha d - clean), d = sign(g) for L-infinity, g / |g| for L2;
//          adversarial = clamp(clean + r); |g| of less than a normal number gives no direction
// u is Philox's draw for (seed, epoch, index, position). __fmul_rn and __fadd_rn round each product and sum as the CPU
// does, so that starts have the CPU's bits.
//
// Tensors are (N, elements); epsilon and alpha (N). L-infinity: several blocks an image, four elements a thread, which
// share one draw. L2: one block an image; squares are summed in f64, per thread and then as a tree over threads.
#include "args.cuh"
#include "pgd.cuh"
#include "vec4.cuh"

// Bits of a draw's counter for the position inside an image.
constexpr int POSITION_BITS = 24;
// The smallest normal f32: alpha divided by it is finite.
constexpr float SMALLEST = 1.17549435e-38f;

// The sum of all threads' values, returned to all threads.
__device__ __forceinline__ double block_sum(double value) {
    __shared__ double values[BLOCK];
    values[threadIdx.x] = value;
    __syncthreads();
    for (int width = BLOCK / 2; width > 0; width /= 2) {
        if (threadIdx.x < width) values[threadIdx.x] += values[threadIdx.x + width];
        __syncthreads();
    }
    double sum = values[0];
    // The next call writes where this one still reads.
    __syncthreads();
    return sum;
}

// The factor that brings an offset of this squared length into the ball.
__device__ __forceinline__ float shrink_into(float epsilon, double square) {
    double length = sqrt(square);
    return length > epsilon ? (float)(epsilon / length) : 1.0f;
}

// epsilon (2u - 1) for elements i to i + 3 of an image, i a multiple of four.
__device__ __forceinline__ Vec4 start_offsets(u32 index, u32 i, float epsilon, u64 seed, u32 epoch) {
    Words draw = philox((u64)index << POSITION_BITS | i / VEC4, epoch, PURPOSE_ATTACK_START, seed);
    Vec4 offset;
#pragma unroll
    for (u32 k = 0; k < VEC4; ++k) offset.v[k] = __fmul_rn(epsilon, 2.0f * unit(draw.word[k]) - 1.0f);
    return offset;
}

template <bool ALIGNED> __device__ __forceinline__ void start(const float* clean, float* adversarial, u32 at, u32 valid,
                                                              float shrink, const Vec4& offset, u32 clamp) {
    Vec4 value = load_vec4<ALIGNED>(clean + at, valid);
#pragma unroll
    for (u32 k = 0; k < VEC4; ++k)
        value.v[k] = clamp_pixel(__fadd_rn(value.v[k], __fmul_rn(shrink, offset.v[k])), clamp);
    store_vec4<ALIGNED>(adversarial + at, value, valid);
}

// Grid: (N, elements / 4 / 128 rounded up); for L2 (N, 1).
KERNEL pgd_start(const PgdStartArgs a) {
    u32 image = blockIdx.x, index = a.indices[image], clamp = a.run->clamp, epoch = a.run->epoch;
    u64 seed = a.run->seed();
    float epsilon = a.epsilons[image];
    u32 first = (blockIdx.y * BLOCK + threadIdx.x) * VEC4, step = gridDim.y * BLOCK * VEC4;
    if (!a.run->random_start) {
        for (u32 i = first; i < a.elements; i += step)
            for (u32 k = i; k < min(i + VEC4, a.elements); ++k)
                a.adversarial[image * a.elements + k] = a.clean[image * a.elements + k];
        return;
    }
    float shrink = 1.0f;
    if (a.l2) {
        double square = 0.0;
        for (u32 i = first; i < a.elements; i += step) {
            Vec4 offset = start_offsets(index, i, epsilon, seed, epoch);
#pragma unroll
            for (u32 k = 0; k < VEC4; ++k)
                if (i + k < a.elements) square += (double)offset.v[k] * offset.v[k];
        }
        shrink = shrink_into(epsilon, block_sum(square));
    }
    bool aligned = is_vec4_aligned(a.elements, a.clean, a.adversarial);
    for (u32 i = first; i < a.elements; i += step) {
        Vec4 offset = start_offsets(index, i, epsilon, seed, epoch);
        u32 at = image * a.elements + i;
        if (aligned) start<true>(a.clean, a.adversarial, at, VEC4, shrink, offset, clamp);
        else start<false>(a.clean, a.adversarial, at, a.elements - i, shrink, offset, clamp);
    }
}

template <bool ALIGNED> __device__ __forceinline__ void step_vec4(const float* clean, const float* gradient,
                                                                  float* adversarial, u32 at, u32 valid, float epsilon,
                                                                  float alpha, u32 clamp) {
    Vec4 x = load_vec4<ALIGNED>(clean + at, valid), g = load_vec4<ALIGNED>(gradient + at, valid);
    Vec4 value = load_vec4<ALIGNED>(adversarial + at, valid);
#pragma unroll
    for (u32 k = 0; k < VEC4; ++k) value.v[k] = linf_step(value.v[k], x.v[k], g.v[k], epsilon, alpha, clamp);
    store_vec4<ALIGNED>(adversarial + at, value, valid);
}

// Grid: (N, elements / 4 / 128 rounded up).
KERNEL pgd_step_linf(const PgdStepArgs a) {
    u32 image = blockIdx.x, clamp = a.run->clamp, i = (blockIdx.y * BLOCK + threadIdx.x) * VEC4;
    if (i >= a.elements) return;
    float epsilon = a.epsilons[image], alpha = a.alphas[image];
    u32 at = image * a.elements + i;
    if (is_vec4_aligned(a.elements, a.clean, a.gradient, a.adversarial))
        step_vec4<true>(a.clean, a.gradient, a.adversarial, at, VEC4, epsilon, alpha, clamp);
    else step_vec4<false>(a.clean, a.gradient, a.adversarial, at, a.elements - i, epsilon, alpha, clamp);
}

KERNEL pgd_step_l2(const PgdStepArgs a) {
    u32 image = blockIdx.x, clamp = a.run->clamp;
    float epsilon = a.epsilons[image], alpha = a.alphas[image];
    const float *x = a.clean + image * a.elements, *g = a.gradient + image * a.elements;
    float* value = a.adversarial + image * a.elements;
    double square = 0.0;
    for (u32 i = threadIdx.x; i < a.elements; i += BLOCK) square += (double)g[i] * g[i];
    float length = (float)sqrt(block_sum(square));
    float scale = length >= SMALLEST ? alpha / length : 0.0f;
    square = 0.0;
    for (u32 i = threadIdx.x; i < a.elements; i += BLOCK) {
        float offset = __fadd_rn(value[i], __fmul_rn(scale, g[i])) - x[i];
        square += (double)offset * offset;
    }
    float shrink = shrink_into(epsilon, block_sum(square));
    for (u32 i = threadIdx.x; i < a.elements; i += BLOCK) {
        float offset = __fadd_rn(value[i], __fmul_rn(scale, g[i])) - x[i];
        value[i] = clamp_pixel(__fadd_rn(x[i], __fmul_rn(shrink, offset)), clamp);
    }
}
