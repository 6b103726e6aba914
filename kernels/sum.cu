// The sum of two tensors (N, pixels, channels), each behind its prologue:
//   sum  output = max(0, scale[c] * left + shift[c]) + the same of right
// as a block of a residual network adds its branches, neither of whose norms and ReLUs has been applied yet.
#include "common.cuh"

// scale, shift (channels) or null. NaN for NaN.
__device__ __forceinline__ float term(const float* x, const float* scale, const float* shift, u32 relu, u32 i,
                                      u32 c) {
    float value = x[i];
    if (scale) value = affine(value, scale[c], shift[c]);
    return relu && value < 0.0f ? 0.0f : value;
}

// `output` may be `left` or `right`: an element is read by the thread that writes it.
KERNEL sum(const float* left, const float* left_scale, const float* left_shift, const float* right,
           const float* right_scale, const float* right_shift, float* output, u32 total, u32 channels,
           u32 left_relu, u32 right_relu) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % channels;
    float value = term(left, left_scale, left_shift, left_relu, i, c);
    output[i] = value + term(right, right_scale, right_shift, right_relu, i, c);
}
