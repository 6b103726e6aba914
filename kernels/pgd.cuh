// A step of projected gradient descent in an L-infinity ball, one element: its own kernel's (pgd.cu) and the
// epilogue's of the convolution that makes the gradient (conv_bf16.cu).
#pragma once
#include "common.cuh"

__device__ __forceinline__ float bounded(float value, u32 clamp) {
    return clamp ? fminf(fmaxf(value, 0.0f), 1.0f) : value;
}

__device__ __forceinline__ float linf_step(float adversarial, float clean, float gradient, float epsilon,
                                           float alpha, u32 clamp) {
    float direction = gradient > 0.0f ? 1.0f : gradient < 0.0f ? -1.0f : 0.0f;
    float offset = adversarial + alpha * direction - clean;
    offset = fminf(fmaxf(offset, -epsilon), epsilon);
    return bounded(clean + offset, clamp);
}

// The operands of a step whose gradient isn't stored; none where `adversarial` is null.
struct Step {
    const float* clean;
    const float* epsilons;
    const float* alphas;
    float* adversarial;
    const Run* run;

    // Element `at`, of image `image`.
    __device__ __forceinline__ void take(u32 at, u32 image, float gradient) const {
        adversarial[at] =
            linf_step(adversarial[at], clean[at], gradient, epsilons[image], alphas[image], run->clamp);
    }
};
