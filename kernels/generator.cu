// Layers of generator networks, one thread an element of the output.
//   upsample       output = bilinear(max(0, scale x + shift)), twice the size, align_corners = false: output 2i
//                  is a quarter of a pixel before input i and output 2i + 1 a quarter after it, with the border
//                  repeated; the nearer input weighs 3/4 and the next 1/4 in each direction
//   upsample_dgrad its transpose: input i is read by outputs 2i - 1 to 2i + 2
//   scaled_tanh      output = tanh(z) / (2 + 1e-7) + 1/2, z = scale x + shift
//   scaled_tanh_dgrad output = gradient (1 - tanh(z)^2) / (2 + 1e-7) factor
//
// Tensors are (N, height, width, channels), scale and shift (channels) or null. tanh and its slope are computed from
// e^(-2|z|) in f64, so that a slope near zero keeps its digits.
#include "common.cuh"

// `UNIT_TANH_DIVISOR` in src/device/mod.rs.
constexpr double DIVISOR = 2.0 + 1e-7;

// One element after its prologue. NaN stays NaN.
__device__ __forceinline__ float apply_prologue(float x, const float* scale, const float* shift, u32 relu, u32 c) {
    if (scale) x = affine(x, scale[c], shift[c]);
    return relu && x < 0.0f ? 0.0f : x;
}

// The farther of the two inputs that output `at` reads; the nearer one is at / 2.
__device__ __forceinline__ u32 far_neighbor(u32 at, u32 len) {
    u32 near = at / 2;
    if (at % 2) return min(near + 1, len - 1);
    return near ? near - 1 : 0;
}

// height and width of the input.
KERNEL upsample(const float* input, const float* scale, const float* shift, float* output, u32 total, u32 height,
                u32 width, u32 channels, u32 relu) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % channels, pixel = i / channels;
    u32 x = pixel % (2 * width), row = pixel / (2 * width);
    u32 y = row % (2 * height), first = row / (2 * height) * height;
    u32 left = x / 2, right = far_neighbor(x, width);
    const float* near = input + (first + y / 2) * width * channels;
    const float* far = input + (first + far_neighbor(y, height)) * width * channels;
    float a = apply_prologue(near[left * channels + c], scale, shift, relu, c);
    float b = apply_prologue(near[right * channels + c], scale, shift, relu, c);
    float d = apply_prologue(far[left * channels + c], scale, shift, relu, c);
    float e = apply_prologue(far[right * channels + c], scale, shift, relu, c);
    output[i] = 0.75f * (0.75f * a + 0.25f * b) + 0.25f * (0.75f * d + 0.25f * e);
}

// height and width of the output, which are those of the forward pass's input.
KERNEL upsample_dgrad(const float* gradient, float* output, u32 total, u32 height, u32 width, u32 channels) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % channels, pixel = i / channels;
    u32 x = pixel % width, row = pixel / width;
    u32 y = row % height, first = row / height * 2 * height;
    float sum = 0.0f;
    for (u32 tap = 0; tap < 4; ++tap) {
        // 2y - 1 + tap, inside.
        u32 at = min(max(2 * y + tap, 1u) - 1, 2 * height - 1);
        const float* line = gradient + (first + at) * 2 * width * channels + c;
        float apply_prologue = line[(x ? 2 * x - 1 : 0) * channels],
              behind = line[min(2 * x + 2, 2 * width - 1) * channels];
        float local = line[2 * x * channels] + line[(2 * x + 1) * channels];
        sum += (tap % 3 ? 0.75f : 0.25f) * (0.25f * (apply_prologue + behind) + 0.75f * local);
    }
    output[i] = sum;
}

KERNEL scaled_tanh(const float* input, const float* scale, const float* shift, float* output, u32 total, u32 channels) {
    u32 i = global_index();
    if (i >= total) return;
    double z = apply_prologue(input[i], scale, shift, 0, i % channels), e = exp(-2.0 * fabs(z));
    output[i] = (float)(copysign((1.0 - e) / (1.0 + e), z) / DIVISOR + 0.5);
}

// `output` may be `gradient`. factor (channels) or null for 1.
KERNEL scaled_tanh_dgrad(const float* input, const float* scale, const float* shift, const float* gradient,
                         const float* factor, float* output, u32 total, u32 channels) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % channels;
    double z = apply_prologue(input[i], scale, shift, 0, c), e = exp(-2.0 * fabs(z));
    double slope = 4.0 * e / ((1.0 + e) * (1.0 + e)) / DIVISOR;
    output[i] = (float)(gradient[i] * slope * (factor ? (double)factor[c] : 1.0));
}
