// Loss and score of rows of `classes` logits, one thread an image; classifier.cu fuses them with the linear layer. In
// f64: rows are short, and 1 - p of a confident network keeps its digits.
//   p = softmax(logits)
//   loss = -log p[label] + w T^2 KL(softmax(teacher / T) || softmax(logits / T))
//   gradient = (p - [c = label] + w T (softmax(logits / T) - softmax(teacher / T))) / divisor
//   score = cosine of the angle between two rows, 0 where a norm is 0 (PBE Eq. 15)
#include "common.cuh"

// log softmax(logits / temperature) of one class, by the maximum and the logarithm of the sum.
struct LogSoftmax {
    double maximum, log_sum, temperature;

    __device__ LogSoftmax(const float* logits, u32 classes, double temperature) : temperature(temperature) {
        float largest = logits[0];
        for (u32 c = 1; c < classes; ++c) largest = fmaxf(largest, logits[c]);
        maximum = largest / temperature;
        double sum = 0.0;
        for (u32 c = 0; c < classes; ++c) sum += exp(logits[c] / temperature - maximum);
        log_sum = log(sum);
    }

    __device__ double at(float logit) const { return logit / temperature - maximum - log_sum; }
};

// logits, teacher (or null), gradient (or null): (N, classes); labels, loss: (N).
KERNEL cross_entropy(const float* logits, const u32* labels, const float* teacher, float* loss, float* gradient,
                     u32 images, u32 classes, float divisor, const Run* run) {
    u32 n = global_index();
    if (n >= images) return;
    const float* row = logits + n * classes;
    // The host refuses other labels; the bound keeps a wrong one from becoming an address.
    u32 label = min(labels[n], classes - 1);
    float* to = gradient ? gradient + n * classes : nullptr;
    LogSoftmax local(row, classes, 1.0);
    double total = -local.at(row[label]);
    if (to)
        for (u32 c = 0; c < classes; ++c) to[c] = (float)((exp(local.at(row[c])) - (c == label ? 1.0 : 0.0)) / divisor);
    if (teacher) {
        float temperature = run->temperature;
        const float* other = teacher + n * classes;
        LogSoftmax soft(row, classes, temperature), target(other, classes, temperature);
        double weight = run->distill_weight, divergence = 0.0;
        for (u32 c = 0; c < classes; ++c) {
            double p = soft.at(row[c]), q = target.at(other[c]), share = exp(q);
            divergence += share * (q - p);
            if (to) to[c] += (float)(weight * temperature * (exp(p) - share) / divisor);
        }
        total += weight * temperature * temperature * divergence;
    }
    loss[n] = (float)total;
}

// logits, reference: (N, classes); score: (N).
KERNEL cosine_similarity(const float* logits, const float* reference, float* score, u32 images, u32 classes) {
    u32 n = global_index();
    if (n >= images) return;
    const float *a = logits + n * classes, *b = reference + n * classes;
    double product = 0.0, left = 0.0, right = 0.0;
    for (u32 c = 0; c < classes; ++c) {
        product += (double)a[c] * b[c];
        left += (double)a[c] * a[c];
        right += (double)b[c] * b[c];
    }
    double norms = sqrt(left) * sqrt(right);
    score[n] = norms > 0.0 ? (float)(product / norms) : 0.0f;
}
