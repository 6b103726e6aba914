// One element of an L-infinity PGD step. Used by the step's own kernel (pgd.cu) and by the epilogue of the convolution
// that computes the image's gradient (conv.cu).
#pragma once
#include "common.cuh"

__device__ __forceinline__ float clamp_pixel(float value, u32 clamp) {
    return clamp ? fminf(fmaxf(value, 0.0f), 1.0f) : value;
}

__device__ __forceinline__ float linf_step(float adversarial, float clean, float gradient, float epsilon, float alpha,
                                           u32 clamp) {
    float direction = gradient > 0.0f ? 1.0f : gradient < 0.0f ? -1.0f : 0.0f;
    float offset = adversarial + alpha * direction - clean;
    offset = fminf(fmaxf(offset, -epsilon), epsilon);
    return clamp_pixel(clean + offset, clamp);
}

// A PGD step fused into a convolution: tensors (N, elements), epsilon and alpha per image. `adversarial` is null where
// there is none.
struct PgdStep {
    const float* clean;
    const float* epsilons;
    const float* alphas;
    float* adversarial;
    const Run* run;

    // Element `at`, of image `image`.
    __device__ __forceinline__ void apply(u32 at, u32 image, float gradient) const {
        adversarial[at] = linf_step(adversarial[at], clean[at], gradient, epsilons[image], alphas[image], run->clamp);
    }
};
