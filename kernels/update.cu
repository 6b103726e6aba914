// Updates of flat buffers, one thread an element. Each product and sum is rounded on its own, as the
// CPU does it: equal gradients give equal bits.
//   sgd      g = gradient + decay w; v = momentum v + g; w -= rate (nesterov ? g + momentum v : v)
//   adam     first = b1 first + (1 - b1) g; second = b2 second + (1 - b2) g^2;
//            w -= rate first / (correction sqrt(second) + 1e-8), the biases' corrections in rate and correction
//   average  average = d average + (1 - d) weights
#include "common.cuh"

KERNEL sgd(float* weights, const float* gradients, float* velocity, u32 total, const Run* run) {
    u32 i = global_index();
    if (i >= total) return;
    float momentum = run->momentum;
    float w = weights[i];
    float g = __fadd_rn(gradients[i], __fmul_rn(run->weight_decay, w));
    float v = __fadd_rn(__fmul_rn(momentum, velocity[i]), g);
    float step = run->nesterov ? __fadd_rn(g, __fmul_rn(momentum, v)) : v;
    velocity[i] = v;
    weights[i] = __fadd_rn(w, -__fmul_rn(run->learning_rate, step));
}

KERNEL adam(float* weights, const float* gradients, float* first, float* second, u32 total, const Run* run) {
    u32 i = global_index();
    if (i >= total) return;
    float g = gradients[i], b1 = run->beta1, b2 = run->beta2;
    float m = __fadd_rn(__fmul_rn(b1, first[i]), __fmul_rn(1.0f - b1, g));
    float v = __fadd_rn(__fmul_rn(b2, second[i]), __fmul_rn(__fmul_rn(1.0f - b2, g), g));
    first[i] = m;
    second[i] = v;
    // `ADAM_EPSILON` in src/device/mod.rs.
    float length = __fadd_rn(__fmul_rn(__fsqrt_rn(v), run->adam_correction), 1e-8f);
    weights[i] = __fadd_rn(weights[i], -__fdiv_rn(__fmul_rn(run->adam_rate, m), length));
}

KERNEL moving_average(const float* weights, float* average, u32 total, const Run* run) {
    u32 i = global_index();
    if (i >= total) return;
    float decay = run->average_decay;
    average[i] = __fadd_rn(__fmul_rn(decay, average[i]), __fmul_rn(1.0f - decay, weights[i]));
}

KERNEL copy(const float* input, float* output, u32 total) {
    u32 i = global_index();
    if (i < total) output[i] = input[i];
}
