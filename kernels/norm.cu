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
// tiles in f64, a tile a part.
//
// Memory bounds all of this: a thread keeps four channels, 16 bytes, with what there is to know of them in
// registers, and goes down the rows, several loads on their way at once. dgrad's sums are f32 over the four
// rows that a thread loads together and f64 from there on: one rounding more of a term whose factors are
// themselves rounded to f32, and roundings of many rows cancel, while f64 for every term took three
// conversions, a quarter of f32's rate on an H100 and a sixty-fourth on a consumer's GPU. The statistics stay
// f64 throughout, as the variance is a difference. The parts of a channel are added by 64 lanes, each those in
// its turn, eight loads at once, then the lanes: one thread that adds up a thousand took longer than all the
// sums, and 16 lanes with a load at a time 15 us.
#include "vec4.cuh"

// A block's channels and lanes of rows, and the rows that a thread of the sums, and of dgrad, loads at once.
constexpr u32 CHANNELS = 32, COLUMNS = CHANNELS / FOUR, LANES = BLOCK / COLUMNS, ROWS = 4, DGRAD_ROWS = 2;

KERNEL norm_affine(const float* gamma, const float* beta, const float* mean, const float* variance,
                   float* scale, float* shift, u32 channels, float epsilon) {
    u32 c = global_index();
    if (c >= channels) return;
    double factor = gamma[c] / sqrt((double)variance[c] + epsilon);
    scale[c] = (float)factor;
    shift[c] = (float)(beta[c] - mean[c] * factor);
}

// What a thread takes of a block's rows: four channels from c on, `there` of them, every LANES-th row from
// `row` on.
struct Place {
    u32 c, there, row, last;

    __device__ __forceinline__ Place(u32 rows, u32 channels, u32 rows_per_part) {
        c = blockIdx.x * CHANNELS + threadIdx.x % COLUMNS * FOUR;
        there = c < channels ? min(channels - c, FOUR) : 0;
        row = blockIdx.y * rows_per_part + threadIdx.x / COLUMNS;
        last = min((blockIdx.y + 1) * rows_per_part, rows);
    }
};

// Two sums of each of four channels.
struct Pair {
    double a[FOUR] = {}, b[FOUR] = {};

    // Adds the block's, lanes in order, and leaves them in `partial` (parts, 2, channels). All threads call this.
    __device__ __forceinline__ void leave(double* partial, u32 channels) const {
        __shared__ double sums[2][LANES][CHANNELS];
        u32 lane = threadIdx.x / COLUMNS, own = threadIdx.x % COLUMNS * FOUR;
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k) {
            sums[0][lane][own + k] = a[k];
            sums[1][lane][own + k] = b[k];
        }
        __syncthreads();
        u32 which = threadIdx.x / CHANNELS, column = threadIdx.x % CHANNELS, c = blockIdx.x * CHANNELS + column;
        if (which >= 2 || c >= channels) return;
        double sum = 0.0;
#pragma unroll
        for (u32 other = 0; other < LANES; ++other) sum += sums[which][other][column];
        partial[(blockIdx.y * 2 + which) * channels + c] = sum;
    }
};

template <bool WHOLE>
__device__ __forceinline__ void add_differences(const float* x, u32 channels, const Place& own, Pair& sums) {
    Four pivot = load_four<WHOLE>(x + own.c, own.there);
#pragma unroll 1
    for (u32 row = own.row; row < own.last; row += LANES * ROWS) {
        Four d[ROWS];
#pragma unroll
        for (u32 j = 0; j < ROWS; ++j) {
            u32 at = row + j * LANES;
            d[j] = load_four<WHOLE>(x + (at < own.last ? at : row) * channels + own.c, own.there);
        }
#pragma unroll
        for (u32 j = 0; j < ROWS; ++j)
#pragma unroll
            for (u32 k = 0; k < FOUR; ++k) {
                double value = row + j * LANES < own.last ? d[j].of[k] - pivot.of[k] : 0.0f;
                sums.a[k] += value;
                sums.b[k] += value * value;
            }
    }
}

// Sums of d and d^2, d = x - first row. Grid: (channels / 32, parts).
KERNEL norm_stats_partial(const float* x, double* partial, u32 rows, u32 channels, u32 rows_per_part) {
    Place own(rows, channels, rows_per_part);
    Pair sums;
    if (own.there) {
        if (fours(channels, x)) add_differences<true>(x, channels, own, sums);
        else add_differences<false>(x, channels, own, sums);
    }
    sums.leave(partial, channels);
}

// Channels of a block that adds up parts, the lanes of each, and the parts that a lane loads at once.
constexpr u32 TOTALS = 2, TURNS = BLOCK / TOTALS, AT_ONCE = 8;

// Adds up the warp's lanes of a channel, the nearest first.
__device__ __forceinline__ double turns_sum(double value) {
#pragma unroll
    for (u32 lanes = TOTALS; lanes < 32; lanes *= 2) value += __shfl_xor_sync(~0u, value, lanes);
    return value;
}

// Sums of the two quantities of the thread's channel over all parts; right in the first threads, which come back
// true if they have a channel. All threads call this.
__device__ __forceinline__ bool total(const double* partial, u32 channels, u32 parts, u32& c, double& a,
                                      double& b) {
    __shared__ double sums[2][BLOCK / 32][TOTALS];
    u32 lane = threadIdx.x / TOTALS, column = threadIdx.x % TOTALS;
    c = blockIdx.x * TOTALS + column;
    a = b = 0.0;
    const double* from = partial + min(c, channels - 1);
#pragma unroll 1
    for (u32 first = 0; first < parts; first += TURNS * AT_ONCE) {
        double one[AT_ONCE], other[AT_ONCE];
#pragma unroll
        for (u32 j = 0; j < AT_ONCE; ++j) {
            u32 part = min(first + j * TURNS + lane, parts - 1);
            one[j] = from[part * 2 * channels];
            other[j] = from[(part * 2 + 1) * channels];
        }
#pragma unroll
        for (u32 j = 0; j < AT_ONCE; ++j) {
            bool there = first + j * TURNS + lane < parts;
            a += there ? one[j] : 0.0;
            b += there ? other[j] : 0.0;
        }
    }
    a = turns_sum(a);
    b = turns_sum(b);
    if (threadIdx.x % 32 < TOTALS) {
        sums[0][threadIdx.x / 32][column] = a;
        sums[1][threadIdx.x / 32][column] = b;
    }
    __syncthreads();
    if (lane != 0 || c >= channels) return false;
#pragma unroll
    for (u32 warp = 1; warp < BLOCK / 32; ++warp) {
        a += sums[0][warp][column];
        b += sums[1][warp][column];
    }
    return true;
}

// x, whose first row the sums' differences are from, or null. Blocks of 2 channels.
KERNEL norm_stats(const double* partial, const float* x, const float* gamma, const float* beta,
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

template <bool WHOLE>
__device__ __forceinline__ void add_products(const float* x, const float* gradient, const float* mean,
                                             const float* scale, const float* shift, u32 channels,
                                             const Place& own, Pair& sums) {
    Four centre = load_four<WHOLE>(mean + own.c, own.there), factor = {}, offset = {{1.0f, 1.0f, 1.0f, 1.0f}};
    if (scale) {
        factor = load_four<WHOLE>(scale + own.c, own.there);
        offset = load_four<WHOLE>(shift + own.c, own.there);
    }
#pragma unroll 1
    for (u32 row = own.row; row < own.last; row += LANES * ROWS) {
        Four value[ROWS], g[ROWS];
#pragma unroll
        for (u32 j = 0; j < ROWS; ++j) {
            u32 at = row + j * LANES, from = (at < own.last ? at : row) * channels + own.c;
            value[j] = load_four<WHOLE>(x + from, own.there);
            g[j] = load_four<WHOLE>(gradient + from, own.there);
        }
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k) {
            float products = 0.0f, sum = 0.0f;
#pragma unroll
            for (u32 j = 0; j < ROWS; ++j) {
                bool passes = affine(value[j].of[k], factor.of[k], offset.of[k]) > 0.0f;
                float own_g = passes && row + j * LANES < own.last ? g[j].of[k] : 0.0f;
                products = fmaf(own_g, value[j].of[k] - centre.of[k], products);
                sum += own_g;
            }
            sums.a[k] += products;
            sums.b[k] += sum;
        }
    }
}

// Sums of g (x - mean) and g. Grid: (channels / 32, parts).
KERNEL norm_dgrad_partial(const float* x, const float* gradient, const float* mean, const float* scale,
                       const float* shift, double* partial, u32 rows, u32 channels, u32 rows_per_part) {
    Place own(rows, channels, rows_per_part);
    Pair sums;
    if (own.there) {
        if (fours(channels, x, gradient, mean, scale, shift))
            add_products<true>(x, gradient, mean, scale, shift, channels, own, sums);
        else
            add_products<false>(x, gradient, mean, scale, shift, channels, own, sums);
    }
    sums.leave(partial, channels);
}

// Blocks of 2 channels.
KERNEL norm_dgrad_reduce(const double* partial, const float* inverse_std, float* gamma_gradient,
                        float* beta_gradient, u32 channels, u32 parts) {
    u32 c;
    double products, sum;
    if (!total(partial, channels, parts, c, products, sum)) return;
    gamma_gradient[c] = (float)(products * inverse_std[c]);
    beta_gradient[c] = (float)sum;
}

// The operands of dgrad, a pointer to each.
struct Dgrad {
    const float *x, *gamma, *mean, *inverse_std, *scale, *shift;
    const float *gamma_gradient, *beta_gradient, *gradient, *residual;
    float* output;
    bf16* next;
    u32 channels, padded;
    float rows;

    template <bool WHOLE> __device__ __forceinline__ void rows_of(const Place& own) const {
        Four centre = load_four<WHOLE>(mean + own.c, own.there);
        Four inverse = load_four<WHOLE>(inverse_std + own.c, own.there);
        Four slope = load_four<WHOLE>(gamma_gradient + own.c, own.there);
        Four level = load_four<WHOLE>(beta_gradient + own.c, own.there);
        Four outer = load_four<WHOLE>(gamma + own.c, own.there), factor = {}, offset = {{1.0f, 1.0f, 1.0f, 1.0f}};
        if (scale) {
            factor = load_four<WHOLE>(scale + own.c, own.there);
            offset = load_four<WHOLE>(shift + own.c, own.there);
        }
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k) {
            slope.of[k] = slope.of[k] / rows * inverse.of[k];
            level.of[k] /= rows;
            outer.of[k] *= inverse.of[k];
        }
#pragma unroll 1
        for (u32 row = own.row; row < own.last; row += LANES * DGRAD_ROWS) {
            Four value[DGRAD_ROWS], g[DGRAD_ROWS], more[DGRAD_ROWS];
#pragma unroll
            for (u32 j = 0; j < DGRAD_ROWS; ++j) {
                u32 at = row + j * LANES, from = (at < own.last ? at : row) * channels + own.c;
                value[j] = load_four<WHOLE>(x + from, own.there);
                g[j] = load_four<WHOLE>(gradient + from, own.there);
                more[j] = residual ? load_four<WHOLE>(residual + from, own.there) : Four{};
            }
#pragma unroll
            for (u32 j = 0; j < DGRAD_ROWS; ++j) {
                u32 at = row + j * LANES;
                if (at >= own.last) break;
                Four result;
#pragma unroll
                for (u32 k = 0; k < FOUR; ++k) {
                    float passed = affine(value[j].of[k], factor.of[k], offset.of[k]) > 0.0f ? g[j].of[k] : 0.0f;
                    float centred = passed - level.of[k] - (value[j].of[k] - centre.of[k]) * slope.of[k];
                    result.of[k] = k < own.there ? outer.of[k] * centred + more[j].of[k] : 0.0f;
                }
                if (output) store_four<WHOLE>(output + at * channels + own.c, result, own.there);
                if (next) store_rounded_four(next + at * padded + own.c, result);
            }
        }
    }
};

// `output` may be `gradient` or `residual`: an element is read by the thread that writes it. The result goes to
// `next` too, rounded for a convolution on tensor cores, `padded` channels a pixel; either may be null. Grid:
// (channels / 32, parts).
KERNEL norm_dgrad(const float* x, const float* gamma, const float* mean, const float* inverse_std,
                  const float* scale, const float* shift, const float* gamma_gradient,
                  const float* beta_gradient, const float* gradient, const float* residual, float* output,
                  u32 rows, u32 channels, u32 rows_per_part, bf16* next, u32 padded) {
    Place own(rows, channels, rows_per_part);
    // Threads behind the channels write the zeros that fill up a vector.
    if (own.c >= (next ? padded : channels)) return;
    Dgrad all = {x, gamma, mean, inverse_std, scale, shift, gamma_gradient, beta_gradient, gradient, residual,
                 output, next, channels, padded, (float)rows};
    bool whole = fours(channels, x, gamma, mean, inverse_std, scale) &&
                 fours(channels, shift, gamma_gradient, beta_gradient, gradient, residual) &&
                 fours(channels, output);
    if (whole && own.there) all.rows_of<true>(own);
    else all.rows_of<false>(own);
}
