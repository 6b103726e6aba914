// Average pooling and linear layer, one kernel an op; classifier.cu fuses them with the loss. Images are rows; sums
// are short, so one thread computes one of them, in order:
//   global_avg_pool  output[n,c] = mean over pixels of input[n,pixel,c]
//   linear           output = weight input + bias, weight (outputs, inputs)
// and their gradients.
#include "common.cuh"

// input (N, pixels, channels) -> output (N, channels).
KERNEL global_avg_pool(const float* input, float* output, u32 total, u32 pixels, u32 channels) {
    u32 i = global_index();
    if (i >= total) return;
    const float* from = input + i / channels * pixels * channels + i % channels;
    float sum = 0.0f;
    for (u32 pixel = 0; pixel < pixels; ++pixel) sum += from[pixel * channels];
    output[i] = sum / (float)pixels;
}

// gradient (N, channels) / pixels -> every pixel of output (N, pixels, channels).
KERNEL global_avg_pool_dgrad(const float* gradient, float* output, u32 total, u32 pixels, u32 channels) {
    u32 i = global_index();
    if (i >= total) return;
    output[i] = gradient[i / (pixels * channels) * channels + i % channels] / (float)pixels;
}

// input (N, inputs) -> output (N, outputs).
KERNEL linear(const float* weight, const float* bias, const float* input, float* output, u32 total, u32 inputs,
              u32 outputs) {
    u32 i = global_index();
    if (i >= total) return;
    u32 k = i % outputs;
    const float *row = weight + k * inputs, *image = input + i / outputs * inputs;
    float sum = 0.0f;
    for (u32 j = 0; j < inputs; ++j) sum = fmaf(row[j], image[j], sum);
    output[i] = sum + bias[k];
}

// gradient (N, outputs) -> output (N, inputs) = weight^T gradient.
KERNEL linear_dgrad(const float* weight, const float* gradient, float* output, u32 total, u32 inputs, u32 outputs) {
    u32 i = global_index();
    if (i >= total) return;
    const float *column = weight + i % inputs, *row = gradient + i / inputs * outputs;
    float sum = 0.0f;
    for (u32 k = 0; k < outputs; ++k) sum = fmaf(column[k * inputs], row[k], sum);
    output[i] = sum;
}

// weight_gradient (outputs, inputs) = sum over images of gradient x input; bias_gradient (outputs) = sum of gradient.
// Items (output, input); input index `inputs` is the bias.
KERNEL linear_wgrad(const float* input, const float* gradient, float* weight_gradient, float* bias_gradient, u32 total,
                    u32 images, u32 inputs, u32 outputs) {
    u32 i = global_index();
    if (i >= total) return;
    u32 j = i % (inputs + 1), k = i / (inputs + 1);
    float sum = 0.0f;
    for (u32 n = 0; n < images; ++n) {
        float g = gradient[n * outputs + k];
        sum = j < inputs ? fmaf(g, input[n * inputs + j], sum) : sum + g;
    }
    if (j < inputs) weight_gradient[k * inputs + j] = sum;
    else bias_gradient[k] = sum;
}
