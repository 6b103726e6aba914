// Sum of two tensors (N, pixels, channels), each after its prologue:
//   add  output = max(0, scale[c] * left + shift[c]) + max(0, scale'[c] * right + shift'[c])
// A residual block adds its two branches so, with their batch norms and ReLUs still to apply.
// Memory-bound: a thread computes four consecutive elements, one 16-byte access a tensor.
#include "args.cuh"
#include "vec4.cuh"

// A tensor and its prologue; scale, shift (channels) or null. NaN stays NaN.
struct Branch {
    const float *x, *scale, *shift;
    u32 relu;

    // Adds four values after the prologue, from channel c on. Unaligned vectors may wrap around to the next pixel's
    // channel 0.
    template <bool ALIGNED> __device__ __forceinline__ void add_to(Vec4& sum, Vec4 value, u32 c, u32 channels) const {
        Vec4 factor, offset;
        if (scale && ALIGNED) {
            factor = load_vec4<ALIGNED>(scale + c, VEC4);
            offset = load_vec4<ALIGNED>(shift + c, VEC4);
        }
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k, ++c) {
            if (!ALIGNED && c == channels) c = 0;
            if (scale && !ALIGNED) factor.v[k] = scale[c], offset.v[k] = shift[c];
            if (scale) value.v[k] = affine(value.v[k], factor.v[k], offset.v[k]);
            sum.v[k] += relu && value.v[k] < 0.0f ? 0.0f : value.v[k];
        }
    }
};

template <bool ALIGNED> __device__ __forceinline__ void add_branches(const Branch& left, const Branch& right,
                                                                     float* output, u32 i, u32 channels, u32 valid) {
    // Both loads are in flight before either is used. The sum starts at -0, so that a sum of zeros keeps its sign.
    Vec4 left_branch = load_vec4<ALIGNED>(left.x + i, valid), right_branch = load_vec4<ALIGNED>(right.x + i, valid);
    Vec4 sum = {{-0.0f, -0.0f, -0.0f, -0.0f}};
    left.add_to<ALIGNED>(sum, left_branch, i % channels, channels);
    right.add_to<ALIGNED>(sum, right_branch, i % channels, channels);
    store_vec4<ALIGNED>(output + i, sum, valid);
}

// `output` may be `left` or `right`: an element is read by the thread that writes it.
KERNEL add(const AddArgs a) {
    u32 i = global_index() * VEC4;
    if (i >= a.total) return;
    Branch left_branch = {a.left, a.left_scale, a.left_shift, a.left_relu},
           right_branch = {a.right, a.right_scale, a.right_shift, a.right_relu};
    if (is_vec4_aligned(a.channels, a.left, a.right, a.output) &&
        is_vec4_aligned(a.channels, a.left_scale, a.left_shift, a.right_scale, a.right_shift))
        add_branches<true>(left_branch, right_branch, a.output, i, a.channels, VEC4);
    else add_branches<false>(left_branch, right_branch, a.output, i, a.channels, min(a.total - i, VEC4));
}
