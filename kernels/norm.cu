// Batch norm over rows (image x pixel) of channels:
//   affine      scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale
//   statistics  mean, biased variance, inverse_std = 1 / sqrt(variance + epsilon), the affine map, and
//               the running statistics (unbiased variance), moved by `momentum`
//   dgrad       of relu(norm(x)): g = gradient * [scale x + shift > 0], or of norm(x), where scale and
//               shift are null: g = gradient; x^ = (x - mean) * inverse_std,
//               beta_gradient = sum g, gamma_gradient = sum g x^,
//               output = gamma inverse_std (g - sum g / rows - x^ sum g x^ / rows) + residual
//
// Tensors are (rows, channels). Sums are f64: parts of rows_per_part rows first, then the parts in
// order; both depend on sizes alone. The statistics sum differences from the first row, so that a
// large mean costs no digits of the variance; a tensor-core convolution (conv_bf16.cu) leaves plain sums of its
// tiles in f64, a tile a part. The parts of a channel are added by 16 lanes, each those in its turn, then the lanes
// in order: one thread that adds up a thousand would take longer than all the sums.
#include "common.cuh"

// Lanes of a block of the sums: channels x rows.
constexpr int CHANNELS = 32, LANES = 4;

KERNEL norm_affine(const float* gamma, const float* beta, const float* mean, const float* variance,
                   float* scale, float* shift, u32 channels, float epsilon) {
    u32 c = global_index();
    if (c >= channels) return;
    double factor = gamma[c] / sqrt((double)variance[c] + epsilon);
    scale[c] = (float)factor;
    shift[c] = (float)(beta[c] - mean[c] * factor);
}

// Adds the row lanes' sums of a channel and leaves them in `partial` (parts, 2, channels).
__device__ __forceinline__ void leave(double a, double b, double* partial, u32 c, u32 channels, u32 part) {
    __shared__ double sums[2][LANES][CHANNELS];
    u32 lane = threadIdx.x / CHANNELS, column = threadIdx.x % CHANNELS;
    sums[0][lane][column] = a;
    sums[1][lane][column] = b;
    __syncthreads();
    if (lane != 0 || c >= channels) return;
    for (u32 other = 1; other < LANES; ++other) {
        a += sums[0][other][column];
        b += sums[1][other][column];
    }
    partial[(part * 2) * channels + c] = a;
    partial[(part * 2 + 1) * channels + c] = b;
}

// Sums of d and d^2, d = x - first row. Grid: (channels / 32, parts).
KERNEL norm_sums(const float* x, double* partial, u32 rows, u32 channels, u32 rows_per_part) {
    u32 c = blockIdx.x * CHANNELS + threadIdx.x % CHANNELS;
    u32 first = blockIdx.y * rows_per_part, last = min(first + rows_per_part, rows);
    double sum = 0.0, squares = 0.0;
    if (c < channels) {
        float pivot = x[c];
        for (u32 row = first + threadIdx.x / CHANNELS; row < last; row += LANES) {
            float d = x[row * channels + c] - pivot;
            sum += d;
            squares += (double)d * d;
        }
    }
    leave(sum, squares, partial, c, channels, blockIdx.y);
}

// Channels of a block that adds up parts, and the lanes of each.
constexpr int TOTALS = 8, TURNS = 16;

// Sums of the two quantities of the thread's channel over all parts; right in the threads of lane 0, which come back
// true if they have a channel. All threads call this.
__device__ __forceinline__ bool total(const double* partial, u32 channels, u32 parts, u32& c, double& a, double& b) {
    __shared__ double sums[2][TURNS][TOTALS];
    u32 lane = threadIdx.x / TOTALS, column = threadIdx.x % TOTALS;
    c = blockIdx.x * TOTALS + column;
    a = b = 0.0;
    if (c < channels)
        for (u32 part = lane; part < parts; part += TURNS) {
            a += partial[(part * 2) * channels + c];
            b += partial[(part * 2 + 1) * channels + c];
        }
    sums[0][lane][column] = a;
    sums[1][lane][column] = b;
    __syncthreads();
    if (lane != 0 || c >= channels) return false;
    for (u32 other = 1; other < TURNS; ++other) {
        a += sums[0][other][column];
        b += sums[1][other][column];
    }
    return true;
}

// x, whose first row the sums' differences are from, or null. Blocks of 8 channels.
KERNEL norm_statistics(const double* partial, const float* x, const float* gamma, const float* beta,
                       float* running_mean, float* running_variance, float* mean, float* inverse_std,
                       float* scale, float* shift, u32 rows, u32 channels, u32 parts, float momentum,
                       float epsilon) {
    u32 c;
    double sum, squares;
    if (!total(partial, channels, parts, c, sum, squares)) return;
    double deviation = sum / rows, centre = (x ? x[c] : 0.0) + deviation;
    double variance = fmax(squares / rows - deviation * deviation, 0.0);
    double unbiased = variance * rows / (rows > 1 ? rows - 1.0 : 1.0);
    double inverse = 1.0 / sqrt(variance + epsilon), factor = gamma[c] * inverse;
    mean[c] = (float)centre;
    inverse_std[c] = (float)inverse;
    scale[c] = (float)factor;
    shift[c] = (float)(beta[c] - centre * factor);
    float keep = 1.0f - momentum;
    running_mean[c] = keep * running_mean[c] + momentum * (float)centre;
    running_variance[c] = keep * running_variance[c] + momentum * (float)unbiased;
}

// Sums of g (x - mean) and g. Grid: (channels / 32, parts).
KERNEL norm_dgrad_sums(const float* x, const float* gradient, const float* mean, const float* scale,
                       const float* shift, double* partial, u32 rows, u32 channels, u32 rows_per_part) {
    u32 c = blockIdx.x * CHANNELS + threadIdx.x % CHANNELS;
    u32 first = blockIdx.y * rows_per_part, last = min(first + rows_per_part, rows);
    double products = 0.0, sum = 0.0;
    if (c < channels) {
        float factor = scale ? scale[c] : 0.0f, offset = scale ? shift[c] : 1.0f;
        double centre = mean[c];
        for (u32 row = first + threadIdx.x / CHANNELS; row < last; row += LANES) {
            float value = x[row * channels + c];
            float g = affine(value, factor, offset) > 0.0f ? gradient[row * channels + c] : 0.0f;
            products += g * (value - centre);
            sum += g;
        }
    }
    leave(products, sum, partial, c, channels, blockIdx.y);
}

// Blocks of 8 channels.
KERNEL norm_dgrad_total(const double* partial, const float* inverse_std, float* gamma_gradient,
                        float* beta_gradient, u32 channels, u32 parts) {
    u32 c;
    double products, sum;
    if (!total(partial, channels, parts, c, products, sum)) return;
    gamma_gradient[c] = (float)(products * inverse_std[c]);
    beta_gradient[c] = (float)sum;
}

// `output` may be `gradient` or `residual`: an element is read by the thread that writes it. The result goes to
// `next` too, rounded for a convolution on tensor cores, `padded` channels a pixel; either may be null.
KERNEL norm_dgrad(const float* x, const float* gamma, const float* mean, const float* inverse_std,
                  const float* scale, const float* shift, const float* gamma_gradient,
                  const float* beta_gradient, const float* gradient, const float* residual, float* output,
                  u32 total, u32 channels, float rows, bf16* next, u32 padded) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % channels;
    float value = x[i], inverse = inverse_std[c];
    float g = !scale || affine(value, scale[c], shift[c]) > 0.0f ? gradient[i] : 0.0f;
    float normalised = (value - mean[c]) * inverse;
    float centred = g - beta_gradient[c] / rows - normalised * (gamma_gradient[c] / rows);
    float result = gamma[c] * inverse * centred;
    if (residual) result += residual[i];
    if (output) output[i] = result;
    if (!next) return;
    bf16* pixel = next + i / channels * padded;
    pixel[c] = to_bf16(result);
    if (c + 1 < channels) return;
    for (u32 k = channels; k < padded; ++k) pixel[k] = 0;
}
