// All of the classifier's end for an image in one launch, a block an image: what linear.cu and loss.cu do in six.
//   features[c] = mean over pixels of input[pixel, c]
//   logits      = weight features + bias
// and where there are labels, loss and gradient as in loss.cu, and down to every pixel
//   back[c]        = sum over k of weight[k, c] gradient[k]
//   output[pixel, c] = back[c] / pixels
// and where there is a reference, the cosine of logits and reference.
//
// Between six launches every row was written and read again, and the exponentials of an image were one thread's,
// one after the other: here they are a class a thread's. There is one block an SM, and it waits for memory: so
// a thread has many loads on their way, of four channels each, and a warp makes the dot products of four
// classes at once. A dot product is a warp's, its lanes' sums added as a tree; a sum over classes is the
// threads', each of those in its turn, added as a tree too. Tried and lost: sums over classes in order, by
// every thread for itself, 0.5 ms on an H100 where there are a thousand.
#include "vec4.cuh"
#include "mma.cuh"

// At most so many, or the host takes the single kernels: `FEATURES`, `CLASSES` in src/device/cuda/fuse.rs.
constexpr u32 FEATURES = 2048, CLASSES = 1024;

// Classes whose dot products a warp makes at once, fours of channels of each that a lane loads at once, and the
// pixels or classes of a four of channels.
constexpr u32 SIDE_BY_SIDE = 4, CHUNKS = 2, AHEAD = 8;

// Rows of an image that all threads of its block see.
struct Rows {
    float features[FEATURES], logits[CLASSES], gradient[CLASSES];
    double terms[BLOCK / 32];
};

// log softmax(logits / temperature) by the maximum and the logarithm of the sum.
struct LogSoftmax {
    double maximum, log_sum, temperature;

    __device__ __forceinline__ double at(float logit) const { return logit / temperature - maximum - log_sum; }
};

// What the threads have, two and two by `join`; all threads call this, and all get it.
template <class Join> __device__ __forceinline__ double of_block(Rows& rows, double value, Join join) {
#pragma unroll
    for (u32 lanes = 16; lanes > 0; lanes /= 2) value = join(value, __shfl_xor_sync(~0u, value, lanes));
    // Those of the call before may still be read.
    __syncthreads();
    if (threadIdx.x % 32 == 0) rows.terms[threadIdx.x / 32] = value;
    __syncthreads();
    return join(join(rows.terms[0], rows.terms[1]), join(rows.terms[2], rows.terms[3]));
}

// The sum of a term for each class; all threads call this, and all get it.
template <class Term> __device__ __forceinline__ double sum_of_terms(Rows& rows, u32 classes, Term term) {
    double sum = 0.0;
    for (u32 c = threadIdx.x; c < classes; c += BLOCK) sum += term(c);
    return of_block(rows, sum, [](double a, double b) { return a + b; });
}

__device__ __forceinline__ LogSoftmax log_softmax(Rows& rows, const float* logits, u32 classes,
                                                  double temperature) {
    float largest = logits[min(threadIdx.x, classes - 1)];
    for (u32 c = threadIdx.x + BLOCK; c < classes; c += BLOCK) largest = fmaxf(largest, logits[c]);
    double maximum = of_block(rows, largest, [](double a, double b) { return fmax(a, b); }) / temperature;
    double sum = sum_of_terms(rows, classes, [&](u32 c) { return exp(logits[c] / temperature - maximum); });
    return {maximum, log(sum), temperature};
}

// input (N, pixels, channels) -> rows.features and features (N, channels).
template <bool WHOLE>
__device__ __forceinline__ void pool(Rows& rows, const float* input, float* features, u32 pixels, u32 channels) {
    for (u32 c = threadIdx.x * FOUR; c < channels; c += BLOCK * FOUR) {
        const float* from = input + blockIdx.x * pixels * channels + c;
        u32 there = min(channels - c, FOUR);
        Four sum = {};
#pragma unroll 1
        for (u32 first = 0; first < pixels; first += AHEAD) {
            Four value[AHEAD];
#pragma unroll
            for (u32 j = 0; j < AHEAD; ++j)
                value[j] = load_four<WHOLE>(from + min(first + j, pixels - 1) * channels, there);
#pragma unroll
            for (u32 j = 0; j < AHEAD; ++j)
#pragma unroll
                for (u32 k = 0; k < FOUR; ++k)
                    if (first + j < pixels) sum.of[k] += value[j].of[k];
        }
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k) sum.of[k] /= (float)pixels;
        store_four<WHOLE>(rows.features + c, sum, there);
        store_four<WHOLE>(features + blockIdx.x * channels + c, sum, there);
    }
}

// weight (classes, channels), bias (classes) -> rows.logits and logits (N, classes).
template <bool WHOLE>
__device__ __forceinline__ void linear(Rows& rows, const float* weight, const float* bias, float* logits,
                                       u32 channels, u32 classes) {
#pragma unroll 1
    for (u32 k = threadIdx.x / 32; k < classes; k += BLOCK / 32 * SIDE_BY_SIDE) {
        float sum[SIDE_BY_SIDE] = {}, offset[SIDE_BY_SIDE];
#pragma unroll
        for (u32 j = 0; j < SIDE_BY_SIDE; ++j) offset[j] = bias[min(k + j * (BLOCK / 32), classes - 1)];
#pragma unroll 1
        for (u32 c = threadIdx.x % 32 * FOUR; c < channels; c += 32 * FOUR * CHUNKS) {
            Four row[CHUNKS][SIDE_BY_SIDE];
#pragma unroll
            for (u32 chunk = 0; chunk < CHUNKS; ++chunk)
#pragma unroll
                for (u32 j = 0; j < SIDE_BY_SIDE; ++j) {
                    u32 own = c + chunk * 32 * FOUR < channels ? c + chunk * 32 * FOUR : c;
                    const float* from = weight + min(k + j * (BLOCK / 32), classes - 1) * channels + own;
                    row[chunk][j] = load_four<WHOLE>(from, channels - own);
                }
#pragma unroll
            for (u32 chunk = 0; chunk < CHUNKS; ++chunk) {
                // A select and no branch, behind which the loads would go.
                bool there = c + chunk * 32 * FOUR < channels;
                u32 own = there ? c + chunk * 32 * FOUR : c;
                Four feature = load_four<WHOLE>(rows.features + own, channels - own);
#pragma unroll
                for (u32 j = 0; j < SIDE_BY_SIDE; ++j)
#pragma unroll
                    for (u32 i = 0; i < FOUR; ++i)
                        sum[j] = there ? fmaf(row[chunk][j].of[i], feature.of[i], sum[j]) : sum[j];
            }
        }
#pragma unroll
        for (u32 j = 0; j < SIDE_BY_SIDE; ++j) {
#pragma unroll
            for (u32 lanes = 16; lanes > 0; lanes /= 2) sum[j] += __shfl_xor_sync(~0u, sum[j], lanes);
        }
        if (threadIdx.x % 32 != 0) continue;
#pragma unroll
        for (u32 j = 0; j < SIDE_BY_SIDE; ++j) {
            u32 own = k + j * (BLOCK / 32);
            if (own < classes) logits[blockIdx.x * classes + own] = rows.logits[own] = sum[j] + offset[j];
        }
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
template <bool WHOLE>
__device__ __forceinline__ void backward(Rows& rows, const float* weight, float* back, float* output, bf16* next,
                                         u32 pixels, u32 channels, u32 classes) {
    u32 padded = whole_vectors(channels);
    for (u32 c = threadIdx.x * FOUR; c < padded; c += BLOCK * FOUR) {
        u32 there = c < channels ? min(channels - c, FOUR) : 0;
        Four sum = {};
#pragma unroll 1
        for (u32 first = 0; there && first < classes; first += AHEAD) {
            Four row[AHEAD];
#pragma unroll
            for (u32 j = 0; j < AHEAD; ++j)
                row[j] = load_four<WHOLE>(weight + min(first + j, classes - 1) * channels + c, there);
#pragma unroll
            for (u32 j = 0; j < AHEAD; ++j)
#pragma unroll
                for (u32 k = 0; k < FOUR; ++k)
                    if (first + j < classes) sum.of[k] = fmaf(row[j].of[k], rows.gradient[first + j], sum.of[k]);
        }
        if (back && there) store_four<WHOLE>(back + blockIdx.x * channels + c, sum, there);
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k) sum.of[k] /= (float)pixels;
        for (u32 pixel = 0; pixel < pixels; ++pixel) {
            u32 at = blockIdx.x * pixels + pixel;
            if (output && there) store_four<WHOLE>(output + at * channels + c, sum, there);
            if (next) store_rounded_four(next + at * padded + c, sum);
        }
    }
}

// Mean and logits. All threads call this, and see both.
template <bool WHOLE>
__device__ __forceinline__ void forward(Rows& rows, const float* input, const float* weight, const float* bias,
                                        float* features, float* logits, u32 pixels, u32 channels, u32 classes) {
    pool<WHOLE>(rows, input, features, pixels, channels);
    __syncthreads();
    linear<WHOLE>(rows, weight, bias, logits, channels, classes);
    __syncthreads();
}

KERNEL classifier_forward(const float* input, const float* weight, const float* bias, float* features, float* logits, u32 pixels,
            u32 channels, u32 classes, const float* reference, float* score) {
    __shared__ __align__(16) Rows rows;
    if (fours(channels, input, weight, features))
        forward<true>(rows, input, weight, bias, features, logits, pixels, channels, classes);
    else
        forward<false>(rows, input, weight, bias, features, logits, pixels, channels, classes);
    if (!reference) return;
    const float* other = reference + blockIdx.x * classes;
    double product = sum_of_terms(rows, classes, [&](u32 c) { return (double)rows.logits[c] * other[c]; });
    double left = sum_of_terms(rows, classes, [&](u32 c) { return (double)rows.logits[c] * rows.logits[c]; });
    double right = sum_of_terms(rows, classes, [&](u32 c) { return (double)other[c] * other[c]; });
    double norms = sqrt(left) * sqrt(right);
    if (threadIdx.x == 0) score[blockIdx.x] = norms > 0.0 ? (float)(product / norms) : 0.0f;
}

// output may be input: a block has read an image before it writes it.
KERNEL classifier_loss(const float* input, const float* weight, const float* bias, float* features, float* logits,
                 u32 pixels, u32 channels, u32 classes, const u32* labels, const float* teacher, float* loss,
                 float* gradient, float* back, float* output, bf16* next, float divisor, const Run* run) {
    __shared__ __align__(16) Rows rows;
    bool whole = fours(channels, input, weight, features, back, output);
    // The host has refused other labels; this keeps a wrong one from being an address.
    u32 label = min(labels[blockIdx.x], classes - 1);
    if (whole) forward<true>(rows, input, weight, bias, features, logits, pixels, channels, classes);
    else forward<false>(rows, input, weight, bias, features, logits, pixels, channels, classes);
    cross_entropy(rows, label, teacher, loss, gradient, classes, divisor, run);
    __syncthreads();
    if (whole) backward<true>(rows, weight, back, output, next, pixels, channels, classes);
    else backward<false>(rows, weight, back, output, next, pixels, channels, classes);
}
