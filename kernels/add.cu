// The sum of two tensors (N, pixels, channels), each behind its prologue:
//   sum  output = max(0, scale[c] * left + shift[c]) + the same of right
// as a block of a residual network adds its branches, neither of whose norms and ReLUs has been applied yet.
// A thread takes four elements of the row of all, 16 bytes a tensor: memory is all that counts here.
#include "vec4.cuh"

// A tensor and its prologue; scale, shift (channels) or null. NaN for NaN.
struct Term {
    const float *x, *scale, *shift;
    u32 relu;

    // Adds what the prologue makes of four values, of channels c on; those behind the last channel are the
    // first's.
    template <bool WHOLE>
    __device__ __forceinline__ void add_to(Four& sum, Four value, u32 c, u32 channels) const {
        Four factor, offset;
        if (scale && WHOLE) {
            factor = load_four<WHOLE>(scale + c, FOUR);
            offset = load_four<WHOLE>(shift + c, FOUR);
        }
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k, ++c) {
            if (!WHOLE && c == channels) c = 0;
            if (scale && !WHOLE) factor.of[k] = scale[c], offset.of[k] = shift[c];
            if (scale) value.of[k] = affine(value.of[k], factor.of[k], offset.of[k]);
            sum.of[k] += relu && value.of[k] < 0.0f ? 0.0f : value.of[k];
        }
    }
};

template <bool WHOLE>
__device__ __forceinline__ void add_terms(const Term& left, const Term& right, float* output, u32 i, u32 channels,
                                          u32 there) {
    // Both are on their way before either is used. -0, so that a sum of zeros keeps its sign.
    Four one = load_four<WHOLE>(left.x + i, there), other = load_four<WHOLE>(right.x + i, there);
    Four sum = {{-0.0f, -0.0f, -0.0f, -0.0f}};
    left.add_to<WHOLE>(sum, one, i % channels, channels);
    right.add_to<WHOLE>(sum, other, i % channels, channels);
    store_four<WHOLE>(output + i, sum, there);
}

// `output` may be `left` or `right`: an element is read by the thread that writes it.
KERNEL add(const float* left, const float* left_scale, const float* left_shift, const float* right,
           const float* right_scale, const float* right_shift, float* output, u32 total, u32 channels,
           u32 left_relu, u32 right_relu) {
    u32 i = global_index() * FOUR;
    if (i >= total) return;
    Term one = {left, left_scale, left_shift, left_relu}, other = {right, right_scale, right_shift, right_relu};
    if (fours(channels, left, right, output) && fours(channels, left_scale, left_shift, right_scale, right_shift))
        add_terms<true>(one, other, output, i, channels, FOUR);
    else
        add_terms<false>(one, other, output, i, channels, min(total - i, FOUR));
}
