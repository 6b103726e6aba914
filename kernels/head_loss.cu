// All of the classifier's end for an image in one launch, a block an image: what head.cu and loss.cu do in six.
//   features[c] = mean over pixels of input[pixel, c]
//   logits      = weight features + bias
// and where there are labels, loss and gradient as in loss.cu, and down to every pixel
//   back[c]        = sum over k of weight[k, c] gradient[k]
//   output[pixel, c] = back[c] / pixels
// and where there is a reference, the cosine of logits and reference.
//
// Between six launches every row was written and read again, and the exponentials of an image were one thread's,
// one after the other: here they are a class a thread's. A dot product is a warp's, its lanes' sums added as a
// tree; sums over classes are in order, by every thread for itself.
#include "tensor.cuh"

// At most so many, or the host takes the single kernels: `FEATURES`, `CLASSES` in src/device/cuda/fuse.rs.
constexpr u32 FEATURES = 2048, CLASSES = 1024;

// Rows of an image that all threads of its block see.
struct Rows {
    float features[FEATURES], logits[CLASSES], gradient[CLASSES];
    double terms[CLASSES];
};

// log softmax(logits / temperature) by the maximum and the logarithm of the sum.
struct LogSoftmax {
    double maximum, log_sum, temperature;

    __device__ __forceinline__ double at(float logit) const { return logit / temperature - maximum - log_sum; }
};

// The sum of a term for each class, in order; all threads call this, and all get it.
template <class Term> __device__ __forceinline__ double sum_of_terms(Rows& rows, u32 classes, Term term) {
    // Those of the sum before may still be read.
    __syncthreads();
    for (u32 c = threadIdx.x; c < classes; c += BLOCK) rows.terms[c] = term(c);
    __syncthreads();
    double sum = 0.0;
    for (u32 c = 0; c < classes; ++c) sum += rows.terms[c];
    return sum;
}

__device__ __forceinline__ LogSoftmax log_softmax(Rows& rows, const float* logits, u32 classes, double temperature) {
    float largest = logits[0];
    for (u32 c = 1; c < classes; ++c) largest = fmaxf(largest, logits[c]);
    double maximum = largest / temperature;
    double sum = sum_of_terms(rows, classes, [&](u32 c) { return exp(logits[c] / temperature - maximum); });
    return {maximum, log(sum), temperature};
}

// input (N, pixels, channels) -> rows.features and features (N, channels).
__device__ __forceinline__ void pool(Rows& rows, const float* input, float* features, u32 pixels, u32 channels) {
    const float* from = input + blockIdx.x * pixels * channels;
    for (u32 c = threadIdx.x; c < channels; c += BLOCK) {
        float sum = 0.0f;
        for (u32 pixel = 0; pixel < pixels; ++pixel) sum += from[pixel * channels + c];
        features[blockIdx.x * channels + c] = rows.features[c] = sum / (float)pixels;
    }
}

// weight (classes, channels), bias (classes) -> rows.logits and logits (N, classes).
__device__ __forceinline__ void linear(Rows& rows, const float* weight, const float* bias, float* logits,
                                       u32 channels, u32 classes) {
    for (u32 k = threadIdx.x / 32; k < classes; k += BLOCK / 32) {
        float sum = 0.0f;
        for (u32 c = threadIdx.x % 32; c < channels; c += 32) sum = fmaf(weight[k * channels + c], rows.features[c], sum);
#pragma unroll
        for (u32 lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
        if (threadIdx.x % 32 == 0) logits[blockIdx.x * classes + k] = rows.logits[k] = sum + bias[k];
    }
}

// The formulas of loss.cu: loss (N); rows.gradient and gradient (N, classes) or null, as teacher.
__device__ __forceinline__ void cross_entropy(Rows& rows, u32 label, const float* teacher, float* loss,
                                              float* gradient, u32 classes, float divisor, const Run* run) {
    LogSoftmax own = log_softmax(rows, rows.logits, classes, 1.0);
    double total = -own.at(rows.logits[label]);
    for (u32 c = threadIdx.x; c < classes; c += BLOCK)
        rows.gradient[c] = (float)((exp(own.at(rows.logits[c])) - (c == label ? 1.0 : 0.0)) / divisor);
    if (teacher) {
        double temperature = run->temperature, weight = run->distill_weight;
        const float* other = teacher + blockIdx.x * classes;
        LogSoftmax soft = log_softmax(rows, rows.logits, classes, temperature);
        LogSoftmax target = log_softmax(rows, other, classes, temperature);
        double divergence = sum_of_terms(rows, classes, [&](u32 c) {
            double p = soft.at(rows.logits[c]), q = target.at(other[c]), share = exp(q);
            rows.gradient[c] += (float)(weight * temperature * (exp(p) - share) / divisor);
            return share * (q - p);
        });
        total += weight * temperature * temperature * divergence;
    }
    if (gradient)
        for (u32 c = threadIdx.x; c < classes; c += BLOCK) gradient[blockIdx.x * classes + c] = rows.gradient[c];
    if (threadIdx.x == 0) loss[blockIdx.x] = (float)total;
}

// back (N, channels), output (N, pixels, channels), next (N, pixels, channels') in bf16, each or null.
__device__ __forceinline__ void backward(Rows& rows, const float* weight, float* back, float* output, bf16* next,
                                         u32 pixels, u32 channels, u32 classes) {
    u32 padded = whole_vectors(channels);
    for (u32 c = threadIdx.x; c < padded; c += BLOCK) {
        float sum = 0.0f;
        if (c < channels) {
            for (u32 k = 0; k < classes; ++k) sum = fmaf(weight[k * channels + c], rows.gradient[k], sum);
            if (back) back[blockIdx.x * channels + c] = sum;
        }
        float value = sum / (float)pixels;
        bf16 rounded = to_bf16(value);
        for (u32 pixel = 0; pixel < pixels; ++pixel) {
            u32 at = blockIdx.x * pixels + pixel;
            if (output && c < channels) output[at * channels + c] = value;
            if (next) next[at * padded + c] = rounded;
        }
    }
}

KERNEL head(const float* input, const float* weight, const float* bias, float* features, float* logits, u32 pixels,
            u32 channels, u32 classes, const float* reference, float* score) {
    __shared__ Rows rows;
    pool(rows, input, features, pixels, channels);
    __syncthreads();
    linear(rows, weight, bias, logits, channels, classes);
    __syncthreads();
    if (!reference) return;
    const float* other = reference + blockIdx.x * classes;
    double product = sum_of_terms(rows, classes, [&](u32 c) { return (double)rows.logits[c] * other[c]; });
    double left = sum_of_terms(rows, classes, [&](u32 c) { return (double)rows.logits[c] * rows.logits[c]; });
    double right = sum_of_terms(rows, classes, [&](u32 c) { return (double)other[c] * other[c]; });
    double norms = sqrt(left) * sqrt(right);
    if (threadIdx.x == 0) score[blockIdx.x] = norms > 0.0 ? (float)(product / norms) : 0.0f;
}

// output may be input: a block has read an image before it writes it.
KERNEL head_loss(const float* input, const float* weight, const float* bias, float* features, float* logits,
                 u32 pixels, u32 channels, u32 classes, const u32* labels, const float* teacher, float* loss,
                 float* gradient, float* back, float* output, bf16* next, float divisor, const Run* run) {
    __shared__ Rows rows;
    pool(rows, input, features, pixels, channels);
    __syncthreads();
    linear(rows, weight, bias, logits, channels, classes);
    __syncthreads();
    // The host has refused other labels; this keeps a wrong one from being an address.
    u32 label = min(labels[blockIdx.x], classes - 1);
    cross_entropy(rows, label, teacher, loss, gradient, classes, divisor, run);
    __syncthreads();
    backward(rows, weight, back, output, next, pixels, channels, classes);
}
