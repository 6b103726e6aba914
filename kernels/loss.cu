// Loss and score of rows of `classes` logits, one thread an image; classifier.cu fuses them with the linear layer. In
// f64: rows are short, and 1 - p of a confident network keeps its digits.
//   p = softmax(logits)
//   loss = -log p[label] + w T^2 KL(softmax(teacher / T) || softmax(logits / T))
//   gradient = (p - [c = label] + w T (softmax(logits / T) - softmax(teacher / T))) / divisor
//   score = cosine of the angle between two rows, 0 where a norm is 0 (PBE Eq. 15)
#include "args.cuh"

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
KERNEL cross_entropy(const CrossEntropyArgs a) {
    u32 n = global_index();
    if (n >= a.images) return;
    const float* row = a.logits + n * a.classes;
    // The host refuses other labels; the bound keeps a wrong one from becoming an address.
    u32 label = min(a.labels[n], a.classes - 1);
    float* to = a.gradient ? a.gradient + n * a.classes : nullptr;
    LogSoftmax local(row, a.classes, 1.0);
    double total = -local.at(row[label]);
    if (to)
        for (u32 c = 0; c < a.classes; ++c)
            to[c] = (float)((exp(local.at(row[c])) - (c == label ? 1.0 : 0.0)) / a.divisor);
    if (a.teacher) {
        float temperature = a.run->temperature;
        const float* other = a.teacher + n * a.classes;
        LogSoftmax soft(row, a.classes, temperature), target(other, a.classes, temperature);
        double weight = a.run->distill_weight, divergence = 0.0;
        for (u32 c = 0; c < a.classes; ++c) {
            double p = soft.at(row[c]), q = target.at(other[c]), share = exp(q);
            divergence += share * (q - p);
            if (to) to[c] += (float)(weight * temperature * (exp(p) - share) / a.divisor);
        }
        total += weight * temperature * temperature * divergence;
    }
    a.loss[n] = (float)total;
}

// logits, reference: (N, classes); score: (N).
KERNEL cosine_similarity(const CosineArgs a) {
    u32 n = global_index();
    if (n >= a.images) return;
    const float *row = a.logits + n * a.classes, *other = a.reference + n * a.classes;
    double product = 0.0, left = 0.0, right = 0.0;
    for (u32 c = 0; c < a.classes; ++c) {
        product += (double)row[c] * other[c];
        left += (double)row[c] * row[c];
        right += (double)other[c] * other[c];
    }
    double norms = sqrt(left) * sqrt(right);
    a.score[n] = norms > 0.0 ? (float)(product / norms) : 0.0f;
}
