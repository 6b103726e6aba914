// What image networks have beside a classifier's layers, one thread an element of the output.
//   upsample       output = bilinear(max(0, scale x + shift)), twice the size, corners not aligned: output 2i
//                  lies a quarter of a pixel before input i and output 2i + 1 a quarter behind it, the
//                  border repeated, so the nearer input counts 3/4 and the next 1/4 in each direction
//   upsample_dgrad its transpose: input i is read by outputs 2i - 1 to 2i + 2
//   scaled_tanh      output = tanh(z) / (2 + 1e-7) + 1/2, z = scale x + shift
//   scaled_tanh_dgrad output = gradient (1 - tanh(z)^2) / (2 + 1e-7) factor
//
// Tensors are (N, height, width, channels); scale and shift are null where z = x. tanh and its slope are
// made of e^(-2|z|), in f64, so that a slope next to zero keeps its digits.
#include "common.cuh"

// `UNIT_TANH_DIVISOR` in src/device/mod.rs.
constexpr double DIVISOR = 2.0 + 1e-7;

// What is upsampled: one element behind affine map and ReLU. NaN stays NaN.
__device__ __forceinline__ float before(float x, const float* scale, const float* shift, u32 relu, u32 c) {
    if (scale) x = affine(x, scale[c], shift[c]);
    return relu && x < 0.0f ? 0.0f : x;
}

// The farther of the two inputs that output `at` reads; the nearer is at / 2.
__device__ __forceinline__ u32 farther(u32 at, u32 len) {
    u32 near = at / 2;
    if (at % 2) return min(near + 1, len - 1);
    return near ? near - 1 : 0;
}

// height and width are the input's.
KERNEL upsample(const float* input, const float* scale, const float* shift, float* output, u32 total, u32 height,
                u32 width, u32 channels, u32 relu) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % channels, pixel = i / channels;
    u32 x = pixel % (2 * width), row = pixel / (2 * width);
    u32 y = row % (2 * height), first = row / (2 * height) * height;
    u32 left = x / 2, right = farther(x, width);
    const float* near = input + (first + y / 2) * width * channels;
    const float* far = input + (first + farther(y, height)) * width * channels;
    float a = before(near[left * channels + c], scale, shift, relu, c);
    float b = before(near[right * channels + c], scale, shift, relu, c);
    float d = before(far[left * channels + c], scale, shift, relu, c);
    float e = before(far[right * channels + c], scale, shift, relu, c);
    output[i] = 0.75f * (0.75f * a + 0.25f * b) + 0.25f * (0.75f * d + 0.25f * e);
}

// height and width are the output's, those of the forward pass's input.
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
        float before = line[(x ? 2 * x - 1 : 0) * channels], behind = line[min(2 * x + 2, 2 * width - 1) * channels];
        float own = line[2 * x * channels] + line[(2 * x + 1) * channels];
        sum += (tap % 3 ? 0.75f : 0.25f) * (0.25f * (before + behind) + 0.75f * own);
    }
    output[i] = sum;
}

KERNEL scaled_tanh(const float* input, const float* scale, const float* shift, float* output, u32 total,
                 u32 channels) {
    u32 i = global_index();
    if (i >= total) return;
    double z = before(input[i], scale, shift, 0, i % channels), e = exp(-2.0 * fabs(z));
    output[i] = (float)(copysign((1.0 - e) / (1.0 + e), z) / DIVISOR + 0.5);
}

// `output` may be `gradient`. factor is null for one.
KERNEL scaled_tanh_dgrad(const float* input, const float* scale, const float* shift, const float* gradient,
                       const float* factor, float* output, u32 total, u32 channels) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % channels;
    double z = before(input[i], scale, shift, 0, c), e = exp(-2.0 * fabs(z));
    double slope = 4.0 * e / ((1.0 + e) * (1.0 + e)) / DIVISOR;
    output[i] = (float)(gradient[i] * slope * (factor ? (double)factor[c] : 1.0));
}
