// Average pooling and linear layer, one kernel an op; classifier.cu fuses them with the loss. Images are rows; sums
// are short, so one thread computes one of them, in order:
//   global_avg_pool  output[n,c] = mean over pixels of input[n,pixel,c]
//   linear           output = weight input + bias, weight (outputs, inputs)
// and their gradients.
#include "args.cuh"

// input (N, pixels, channels) -> output (N, channels).
KERNEL global_avg_pool(const GlobalAvgPoolArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    const float* from = a.input + i / a.channels * a.pixels * a.channels + i % a.channels;
    float sum = 0.0f;
    for (u32 pixel = 0; pixel < a.pixels; ++pixel) sum += from[pixel * a.channels];
    a.output[i] = sum / (float)a.pixels;
}

// gradient (N, channels) / pixels -> every pixel of output (N, pixels, channels).
KERNEL global_avg_pool_dgrad(const GlobalAvgPoolDgradArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    a.output[i] = a.gradient[i / (a.pixels * a.channels) * a.channels + i % a.channels] / (float)a.pixels;
}

// input (N, inputs) -> output (N, outputs).
KERNEL linear(const LinearArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    u32 k = i % a.outputs;
    const float *row = a.weight + k * a.inputs, *image = a.input + i / a.outputs * a.inputs;
    float sum = 0.0f;
    for (u32 j = 0; j < a.inputs; ++j) sum = fmaf(row[j], image[j], sum);
    a.output[i] = sum + a.bias[k];
}

// gradient (N, outputs) -> output (N, inputs) = weight^T gradient.
KERNEL linear_dgrad(const LinearDgradArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    const float *column = a.weight + i % a.inputs, *row = a.gradient + i / a.inputs * a.outputs;
    float sum = 0.0f;
    for (u32 k = 0; k < a.outputs; ++k) sum = fmaf(column[k * a.inputs], row[k], sum);
    a.output[i] = sum;
}

// weight_gradient (outputs, inputs) = sum over images of gradient x input; bias_gradient (outputs) = sum of gradient.
// Items (output, input); input index `inputs` is the bias.
KERNEL linear_wgrad(const LinearWgradArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    u32 j = i % (a.inputs + 1), k = i / (a.inputs + 1);
    float sum = 0.0f;
    for (u32 n = 0; n < a.images; ++n) {
        float g = a.gradient[n * a.outputs + k];
        sum = j < a.inputs ? fmaf(g, a.input[n * a.inputs + j], sum) : sum + g;
    }
    if (j < a.inputs) a.weight_gradient[k * a.inputs + j] = sum;
    else a.bias_gradient[k] = sum;
}
