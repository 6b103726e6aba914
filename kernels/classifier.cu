// Global average pooling, linear layer, loss or score, and the way back, in one launch, one block an image. The
// unfused kernels (pooling.cu, linear.cu, loss.cu) need five, three for a score.
//   features[c] = mean over pixels of input[pixel, c]
//   logits      = weight features + bias
// classifier_loss: loss and gradient with respect to the logits as in loss.cu, then
//   feature_gradient[c]     = sum over k of weight[k, c] gradient[k]
//   output[pixel, c]        = feature_gradient[c] / pixels
// classifier_forward: score = the cosine of logits and a reference, where there is one.
//
// Rows stay in shared memory between the phases. One block an SM waits for memory, so a thread keeps many 16-byte loads
// in flight, and a warp computes the dot products of four classes at once. Sums have a fixed order: a dot product is
// one warp's, its lanes added as a tree; a sum over classes is per thread, then a tree over threads. Tried and lost:
// every thread sums all classes for itself, 0.5 ms on an H100 with a thousand classes.
#include "args.cuh"
#include "mma.cuh"
#include "vec4.cuh"

// Limits of the fused kernels; the host uses the unfused ones beyond: `FEATURES`, `CLASSES` in src/device/cuda/plan/fuse.rs.
constexpr u32 FEATURES = 2048, CLASSES = 1024;

// Loads in flight: a warp computes CLASSES_PER_WARP dot products at once, CHUNKS vectors of each a lane; pooling and
// the way back load UNROLL pixels or classes at once.
constexpr u32 CLASSES_PER_WARP = 4, CHUNKS = 2, UNROLL = 8;

// The rows of one image, in shared memory.
struct Shared {
    float features[FEATURES], logits[CLASSES], gradient[CLASSES];
    double terms[BLOCK / 32];
};

// log softmax(logits / temperature) by the maximum and the logarithm of the sum.
struct LogSoftmax {
    double maximum, log_sum, temperature;

    __device__ __forceinline__ double at(float logit) const { return logit / temperature - maximum - log_sum; }
};

// Reduces all threads' values by `join`, as a tree. All threads call this, and all get the result.
template <class Join> __device__ __forceinline__ double block_reduce(Shared& shared, double value, Join join) {
#pragma unroll
    for (u32 lanes = 16; lanes > 0; lanes /= 2) value = join(value, __shfl_xor_sync(~0u, value, lanes));
    // The values of the previous call may still be read.
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared.terms[threadIdx.x / 32] = value;
    __syncthreads();
    return join(join(shared.terms[0], shared.terms[1]), join(shared.terms[2], shared.terms[3]));
}

// The sum of term(c) over the classes. All threads call this, and all get the result.
template <class Term> __device__ __forceinline__ double sum_over_classes(Shared& shared, u32 classes, Term term) {
    double sum = 0.0;
    for (u32 c = threadIdx.x; c < classes; c += BLOCK) sum += term(c);
    return block_reduce(shared, sum, [](double a, double b) { return a + b; });
}

__device__ __forceinline__ LogSoftmax log_softmax(Shared& shared, const float* logits, u32 classes,
                                                  double temperature) {
    float largest = logits[min(threadIdx.x, classes - 1)];
    for (u32 c = threadIdx.x + BLOCK; c < classes; c += BLOCK) largest = fmaxf(largest, logits[c]);
    double maximum = block_reduce(shared, largest, [](double a, double b) { return fmax(a, b); }) / temperature;
    double sum = sum_over_classes(shared, classes, [&](u32 c) { return exp(logits[c] / temperature - maximum); });
    return {maximum, log(sum), temperature};
}

// Average pooling: input (N, pixels, channels) -> shared.features and features (N, channels).
template <bool ALIGNED, class Args> __device__ __forceinline__ void pool(Shared& shared, const Args& a) {
    for (u32 c = threadIdx.x * VEC4; c < a.channels; c += BLOCK * VEC4) {
        const float* from = a.input + blockIdx.x * a.pixels * a.channels + c;
        u32 valid = min(a.channels - c, VEC4);
        Vec4 sum = {};
#pragma unroll 1
        for (u32 first = 0; first < a.pixels; first += UNROLL) {
            Vec4 value[UNROLL];
#pragma unroll
            for (u32 j = 0; j < UNROLL; ++j)
                value[j] = load_vec4<ALIGNED>(from + min(first + j, a.pixels - 1) * a.channels, valid);
#pragma unroll
            for (u32 j = 0; j < UNROLL; ++j)
#pragma unroll
                for (u32 k = 0; k < VEC4; ++k)
                    if (first + j < a.pixels) sum.v[k] += value[j].v[k];
        }
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k) sum.v[k] /= (float)a.pixels;
        store_vec4<ALIGNED>(shared.features + c, sum, valid);
        store_vec4<ALIGNED>(a.features + blockIdx.x * a.channels + c, sum, valid);
    }
}

// Linear layer: weight (classes, channels), bias (classes) -> shared.logits and logits (N, classes).
template <bool ALIGNED, class Args> __device__ __forceinline__ void linear(Shared& shared, const Args& a) {
#pragma unroll 1
    for (u32 k = threadIdx.x / 32; k < a.classes; k += BLOCK / 32 * CLASSES_PER_WARP) {
        float sum[CLASSES_PER_WARP] = {}, offset[CLASSES_PER_WARP];
#pragma unroll
        for (u32 j = 0; j < CLASSES_PER_WARP; ++j) offset[j] = a.bias[min(k + j * (BLOCK / 32), a.classes - 1)];
#pragma unroll 1
        for (u32 c = threadIdx.x % 32 * VEC4; c < a.channels; c += 32 * VEC4 * CHUNKS) {
            Vec4 row[CHUNKS][CLASSES_PER_WARP];
#pragma unroll
            for (u32 chunk = 0; chunk < CHUNKS; ++chunk)
#pragma unroll
                for (u32 j = 0; j < CLASSES_PER_WARP; ++j) {
                    u32 local = c + chunk * 32 * VEC4 < a.channels ? c + chunk * 32 * VEC4 : c;
                    const float* from = a.weight + min(k + j * (BLOCK / 32), a.classes - 1) * a.channels + local;
                    row[chunk][j] = load_vec4<ALIGNED>(from, a.channels - local);
                }
#pragma unroll
            for (u32 chunk = 0; chunk < CHUNKS; ++chunk) {
                // A select: after a branch the compiler would place the loads.
                bool valid = c + chunk * 32 * VEC4 < a.channels;
                u32 local = valid ? c + chunk * 32 * VEC4 : c;
                Vec4 feature = load_vec4<ALIGNED>(shared.features + local, a.channels - local);
#pragma unroll
                for (u32 j = 0; j < CLASSES_PER_WARP; ++j)
#pragma unroll
                    for (u32 i = 0; i < VEC4; ++i)
                        sum[j] = valid ? fmaf(row[chunk][j].v[i], feature.v[i], sum[j]) : sum[j];
            }
        }
#pragma unroll
        for (u32 j = 0; j < CLASSES_PER_WARP; ++j) {
#pragma unroll
            for (u32 lanes = 16; lanes > 0; lanes /= 2) sum[j] += __shfl_xor_sync(~0u, sum[j], lanes);
        }
        if (threadIdx.x % 32 != 0) continue;
#pragma unroll
        for (u32 j = 0; j < CLASSES_PER_WARP; ++j) {
            u32 local = k + j * (BLOCK / 32);
            if (local < a.classes) a.logits[blockIdx.x * a.classes + local] = shared.logits[local] = sum[j] + offset[j];
        }
    }
}

// Loss of loss.cu: loss (N), shared.gradient and gradient (N, classes) or null; teacher (N, classes) or null.
__device__ __forceinline__ void cross_entropy(Shared& shared, const ClassifierLossArgs& a) {
    // The host refuses other labels; the bound keeps a wrong one from becoming an address.
    u32 label = min(a.labels[blockIdx.x], a.classes - 1);
    LogSoftmax local = log_softmax(shared, shared.logits, a.classes, 1.0);
    double total = -local.at(shared.logits[label]);
    for (u32 c = threadIdx.x; c < a.classes; c += BLOCK)
        shared.gradient[c] = (float)((exp(local.at(shared.logits[c])) - (c == label ? 1.0 : 0.0)) / a.divisor);
    if (a.teacher) {
        double temperature = a.run->temperature, weight = a.run->distill_weight;
        const float* other = a.teacher + blockIdx.x * a.classes;
        LogSoftmax soft = log_softmax(shared, shared.logits, a.classes, temperature);
        LogSoftmax target = log_softmax(shared, other, a.classes, temperature);
        double divergence = sum_over_classes(shared, a.classes, [&](u32 c) {
            double p = soft.at(shared.logits[c]), q = target.at(other[c]), share = exp(q);
            shared.gradient[c] += (float)(weight * temperature * (exp(p) - share) / a.divisor);
            return share * (q - p);
        });
        total += weight * temperature * temperature * divergence;
    }
    if (a.gradient)
        for (u32 c = threadIdx.x; c < a.classes; c += BLOCK)
            a.gradient[blockIdx.x * a.classes + c] = shared.gradient[c];
    if (threadIdx.x == 0) a.loss[blockIdx.x] = (float)total;
}

// The way back: feature_gradient (N, channels), output (N, pixels, channels), next (N, pixels, C') in bf16, each or
// null.
template <bool ALIGNED> __device__ __forceinline__ void backward(Shared& shared, const ClassifierLossArgs& a) {
    u32 padded = round_up_to_vector(a.channels);
    for (u32 c = threadIdx.x * VEC4; c < padded; c += BLOCK * VEC4) {
        u32 valid = c < a.channels ? min(a.channels - c, VEC4) : 0;
        Vec4 sum = {};
#pragma unroll 1
        for (u32 first = 0; valid && first < a.classes; first += UNROLL) {
            Vec4 row[UNROLL];
#pragma unroll
            for (u32 j = 0; j < UNROLL; ++j)
                row[j] = load_vec4<ALIGNED>(a.weight + min(first + j, a.classes - 1) * a.channels + c, valid);
#pragma unroll
            for (u32 j = 0; j < UNROLL; ++j)
#pragma unroll
                for (u32 k = 0; k < VEC4; ++k)
                    if (first + j < a.classes) sum.v[k] = fmaf(row[j].v[k], shared.gradient[first + j], sum.v[k]);
        }
        if (a.feature_gradient && valid)
            store_vec4<ALIGNED>(a.feature_gradient + blockIdx.x * a.channels + c, sum, valid);
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k) sum.v[k] /= (float)a.pixels;
        for (u32 pixel = 0; pixel < a.pixels; ++pixel) {
            u32 at = blockIdx.x * a.pixels + pixel;
            if (a.output && valid) store_vec4<ALIGNED>(a.output + at * a.channels + c, sum, valid);
            if (a.next) store_vec4_bf16(a.next + at * padded + c, sum);
        }
    }
}

// Pooling and linear layer. All threads call this, and see both results afterwards.
template <bool ALIGNED, class Args> __device__ __forceinline__ void forward(Shared& shared, const Args& a) {
    pool<ALIGNED>(shared, a);
    __syncthreads();
    linear<ALIGNED>(shared, a);
    __syncthreads();
}

KERNEL classifier_forward(const ClassifierForwardArgs a) {
    __shared__ __align__(16) Shared shared;
    if (is_vec4_aligned(a.channels, a.input, a.weight, a.features)) forward<true>(shared, a);
    else forward<false>(shared, a);
    if (!a.reference) return;
    const float* other = a.reference + blockIdx.x * a.classes;
    double product = sum_over_classes(shared, a.classes, [&](u32 c) { return (double)shared.logits[c] * other[c]; });
    double left =
        sum_over_classes(shared, a.classes, [&](u32 c) { return (double)shared.logits[c] * shared.logits[c]; });
    double right = sum_over_classes(shared, a.classes, [&](u32 c) { return (double)other[c] * other[c]; });
    double norms = sqrt(left) * sqrt(right);
    if (threadIdx.x == 0) a.score[blockIdx.x] = norms > 0.0 ? (float)(product / norms) : 0.0f;
}

// output may be input: a block reads an image before it writes it.
KERNEL classifier_loss(const ClassifierLossArgs a) {
    __shared__ __align__(16) Shared shared;
    bool aligned = is_vec4_aligned(a.channels, a.input, a.weight, a.features, a.feature_gradient, a.output);
    if (aligned) forward<true>(shared, a);
    else forward<false>(shared, a);
    cross_entropy(shared, a);
    __syncthreads();
    if (aligned) backward<true>(shared, a);
    else backward<false>(shared, a);
}

// What the host counts on.
#include "host.cuh"
static_assert(FEATURES == host::FEATURES && CLASSES == host::CLASSES, "");
