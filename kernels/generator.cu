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
#include "args.cuh"

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
KERNEL upsample(const UpsampleArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    u32 c = i % a.channels, pixel = i / a.channels;
    u32 x = pixel % (2 * a.width), row = pixel / (2 * a.width);
    u32 y = row % (2 * a.height), first = row / (2 * a.height) * a.height;
    u32 left = x / 2, right = far_neighbor(x, a.width);
    const float* near = a.input + (first + y / 2) * a.width * a.channels;
    const float* far = a.input + (first + far_neighbor(y, a.height)) * a.width * a.channels;
    float near_left = apply_prologue(near[left * a.channels + c], a.scale, a.shift, a.relu, c);
    float near_right = apply_prologue(near[right * a.channels + c], a.scale, a.shift, a.relu, c);
    float far_left = apply_prologue(far[left * a.channels + c], a.scale, a.shift, a.relu, c);
    float far_right = apply_prologue(far[right * a.channels + c], a.scale, a.shift, a.relu, c);
    a.output[i] = 0.75f * (0.75f * near_left + 0.25f * near_right) + 0.25f * (0.75f * far_left + 0.25f * far_right);
}

// height and width of the output, which are those of the forward pass's input.
KERNEL upsample_dgrad(const UpsampleDgradArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    u32 c = i % a.channels, pixel = i / a.channels;
    u32 x = pixel % a.width, row = pixel / a.width;
    u32 y = row % a.height, first = row / a.height * 2 * a.height;
    float sum = 0.0f;
    for (u32 tap = 0; tap < 4; ++tap) {
        // 2y - 1 + tap, inside.
        u32 at = min(max(2 * y + tap, 1u) - 1, 2 * a.height - 1);
        const float* line = a.gradient + (first + at) * 2 * a.width * a.channels + c;
        float before = line[(x ? 2 * x - 1 : 0) * a.channels],
              after = line[min(2 * x + 2, 2 * a.width - 1) * a.channels];
        float local = line[2 * x * a.channels] + line[(2 * x + 1) * a.channels];
        sum += (tap % 3 ? 0.75f : 0.25f) * (0.25f * (before + after) + 0.75f * local);
    }
    a.output[i] = sum;
}

KERNEL scaled_tanh(const ScaledTanhArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    double z = apply_prologue(a.input[i], a.scale, a.shift, 0, i % a.channels), e = exp(-2.0 * fabs(z));
    a.output[i] = (float)(copysign((1.0 - e) / (1.0 + e), z) / DIVISOR + 0.5);
}

// `output` may be `gradient`. factor (channels) or null for 1.
KERNEL scaled_tanh_dgrad(const ScaledTanhDgradArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    u32 c = i % a.channels;
    double z = apply_prologue(a.input[i], a.scale, a.shift, 0, c), e = exp(-2.0 * fabs(z));
    double slope = 4.0 * e / ((1.0 + e) * (1.0 + e)) / DIVISOR;
    a.output[i] = (float)(a.gradient[i] * slope * (a.factor ? (double)a.factor[c] : 1.0));
}
