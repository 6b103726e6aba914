// Batch norm over rows (image x pixel) of channels:
//   affine      scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale
//   statistics  mean, biased variance, inverse_std = 1 / sqrt(variance + epsilon), the affine map, and
//               the running statistics (unbiased variance), moved by `momentum`
//   dgrad       of relu(norm(x)): g = gradient * [scale x + shift > 0], or of norm(x), where scale and
//               shift are null: g = gradient; x^ = (x - mean) * inverse_std,
//               beta_gradient = sum g, gamma_gradient = sum g x^,
//               output = gamma inverse_std (g - sum g / rows - x^ sum g x^ / rows) + residual
//
// Tensors are (rows, channels); gamma, beta, mean, ... (channels). A reduction over rows has two passes: partial sums
// (parts, 2, channels) in f64 over rows_per_part rows each (..._partial), then the sum of the parts. Both orders depend
// on sizes alone. The statistics sum differences from the first row, a pivot, so that a large mean costs no digits of
// the variance. A convolution (conv.cu) writes the partial sums itself, without a pivot, one part a
// tile.
//
// Memory-bound: a thread holds four channels' constants in registers and walks down the rows with several 16-byte loads
// in flight. dgrad's sums are f32 over the four rows that a thread loads together and f64 from there on. That is one
// more rounding of a term whose factors are f32 already. f64 for every term costs three conversions, at a quarter of the
// f32 rate on an H100 and a sixty-fourth on a consumer GPU. The statistics are f64 throughout, because the variance is a
// difference.
//
// The parts of a channel are added by 64 lanes, eight loads in flight each, then as a tree. Tried and lost: one thread a
// channel (longer than the partial sums themselves), 16 lanes with one load at a time (15 us).
#include "vec4.cuh"

// A block covers CHANNELS channels with THREADS_X x THREADS_Y threads. UNROLL and DGRAD_UNROLL: rows that a thread loads
// at once.
constexpr u32 CHANNELS = 32, THREADS_X = CHANNELS / VEC4, THREADS_Y = BLOCK / THREADS_X, UNROLL = 4, DGRAD_UNROLL = 2;

KERNEL norm_affine(const float* gamma, const float* beta, const float* mean, const float* variance, float* scale,
                   float* shift, u32 channels, float epsilon) {
    u32 c = global_index();
    if (c >= channels) return;
    double factor = gamma[c] / sqrt((double)variance[c] + epsilon);
    scale[c] = (float)factor;
    shift[c] = (float)(beta[c] - mean[c] * factor);
}

// The elements of a thread: channels c to c + 3, of which `valid` exist, in every THREADS_Y-th row from `row` to `last`.
struct ThreadRows {
    u32 c, valid, row, last;

    __device__ __forceinline__ ThreadRows(u32 rows, u32 channels, u32 rows_per_part) {
        c = blockIdx.x * CHANNELS + threadIdx.x % THREADS_X * VEC4;
        valid = c < channels ? min(channels - c, VEC4) : 0;
        row = blockIdx.y * rows_per_part + threadIdx.x / THREADS_X;
        last = min((blockIdx.y + 1) * rows_per_part, rows);
    }
};

// Two sums for each of four channels.
struct PartialSums {
    double a[VEC4] = {}, b[VEC4] = {};

    // Adds the block's threads in order and writes partial (parts, 2, channels). All threads call this.
    __device__ __forceinline__ void store(double* partial, u32 channels) const {
        __shared__ double sums[2][THREADS_Y][CHANNELS];
        u32 lane = threadIdx.x / THREADS_X, local = threadIdx.x % THREADS_X * VEC4;
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k) {
            sums[0][lane][local + k] = a[k];
            sums[1][lane][local + k] = b[k];
        }
        __syncthreads();
        u32 which = threadIdx.x / CHANNELS, column = threadIdx.x % CHANNELS, c = blockIdx.x * CHANNELS + column;
        if (which >= 2 || c >= channels) return;
        double sum = 0.0;
#pragma unroll
        for (u32 other = 0; other < THREADS_Y; ++other) sum += sums[which][other][column];
        partial[(blockIdx.y * 2 + which) * channels + c] = sum;
    }
};

template <bool ALIGNED> __device__ __forceinline__ void add_differences(const float* x, u32 channels,
                                                                        const ThreadRows& local, PartialSums& sums) {
    Vec4 pivot = load_vec4<ALIGNED>(x + local.c, local.valid);
#pragma unroll 1
    for (u32 row = local.row; row < local.last; row += THREADS_Y * UNROLL) {
        Vec4 d[UNROLL];
#pragma unroll
        for (u32 j = 0; j < UNROLL; ++j) {
            u32 at = row + j * THREADS_Y;
            d[j] = load_vec4<ALIGNED>(x + (at < local.last ? at : row) * channels + local.c, local.valid);
        }
#pragma unroll
        for (u32 j = 0; j < UNROLL; ++j)
#pragma unroll
            for (u32 k = 0; k < VEC4; ++k) {
                double value = row + j * THREADS_Y < local.last ? d[j].v[k] - pivot.v[k] : 0.0f;
                sums.a[k] += value;
                sums.b[k] += value * value;
            }
    }
}

// Partial sums of d and d^2, d = x - first row. Grid: (channels / 32 rounded up, parts).
KERNEL norm_stats_partial(const float* x, double* partial, u32 rows, u32 channels, u32 rows_per_part) {
    ThreadRows local(rows, channels, rows_per_part);
    PartialSums sums;
    if (local.valid) {
        if (is_vec4_aligned(channels, x)) add_differences<true>(x, channels, local, sums);
        else add_differences<false>(x, channels, local, sums);
    }
    sums.store(partial, channels);
}

// A block that adds parts: its channels, the lanes of each channel, and the parts that a lane loads at once.
constexpr u32 REDUCE_CHANNELS = 2, REDUCE_LANES = BLOCK / REDUCE_CHANNELS, REDUCE_UNROLL = 8;

// Adds the warp's lanes of a channel, as a tree.
__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
    for (u32 lanes = REDUCE_CHANNELS; lanes < 32; lanes *= 2) value += __shfl_xor_sync(~0u, value, lanes);
    return value;
}

// Adds both sums of channel c over all parts. Returns true in the one thread of each channel that has the result. All
// threads call this.
__device__ __forceinline__ bool sum_parts(const double* partial, u32 channels, u32 parts, u32& c, double& a,
                                          double& b) {
    __shared__ double sums[2][BLOCK / 32][REDUCE_CHANNELS];
    u32 lane = threadIdx.x / REDUCE_CHANNELS, column = threadIdx.x % REDUCE_CHANNELS;
    c = blockIdx.x * REDUCE_CHANNELS + column;
    a = b = 0.0;
    const double* from = partial + min(c, channels - 1);
#pragma unroll 1
    for (u32 first = 0; first < parts; first += REDUCE_LANES * REDUCE_UNROLL) {
        double one[REDUCE_UNROLL], other[REDUCE_UNROLL];
#pragma unroll
        for (u32 j = 0; j < REDUCE_UNROLL; ++j) {
            u32 part = min(first + j * REDUCE_LANES + lane, parts - 1);
            one[j] = from[part * 2 * channels];
            other[j] = from[(part * 2 + 1) * channels];
        }
#pragma unroll
        for (u32 j = 0; j < REDUCE_UNROLL; ++j) {
            bool valid = first + j * REDUCE_LANES + lane < parts;
            a += valid ? one[j] : 0.0;
            b += valid ? other[j] : 0.0;
        }
    }
    a = warp_sum(a);
    b = warp_sum(b);
    if (threadIdx.x % 32 < REDUCE_CHANNELS) {
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

// x: its first row is the pivot; null where the sums have none. A block has 2 channels.
KERNEL norm_stats(const double* partial, const float* x, const float* gamma, const float* beta, float* running_mean,
                  float* running_variance, float* mean, float* inverse_std, float* scale, float* shift, u32 rows,
                  u32 channels, u32 parts, float momentum, float epsilon) {
    u32 c;
    double sum, squares;
    if (!sum_parts(partial, channels, parts, c, sum, squares)) return;
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

template <bool ALIGNED> __device__ __forceinline__ void add_products(const float* x, const float* gradient,
                                                                     const float* mean, const float* scale,
                                                                     const float* shift, u32 channels,
                                                                     const ThreadRows& local, PartialSums& sums) {
    Vec4 centre = load_vec4<ALIGNED>(mean + local.c, local.valid), factor = {}, offset = {{1.0f, 1.0f, 1.0f, 1.0f}};
    if (scale) {
        factor = load_vec4<ALIGNED>(scale + local.c, local.valid);
        offset = load_vec4<ALIGNED>(shift + local.c, local.valid);
    }
#pragma unroll 1
    for (u32 row = local.row; row < local.last; row += THREADS_Y * UNROLL) {
        Vec4 value[UNROLL], g[UNROLL];
#pragma unroll
        for (u32 j = 0; j < UNROLL; ++j) {
            u32 at = row + j * THREADS_Y, from = (at < local.last ? at : row) * channels + local.c;
            value[j] = load_vec4<ALIGNED>(x + from, local.valid);
            g[j] = load_vec4<ALIGNED>(gradient + from, local.valid);
        }
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k) {
            float products = 0.0f, sum = 0.0f;
#pragma unroll
            for (u32 j = 0; j < UNROLL; ++j) {
                bool passes = affine(value[j].v[k], factor.v[k], offset.v[k]) > 0.0f;
                float own_g = passes && row + j * THREADS_Y < local.last ? g[j].v[k] : 0.0f;
                products = fmaf(own_g, value[j].v[k] - centre.v[k], products);
                sum += own_g;
            }
            sums.a[k] += products;
            sums.b[k] += sum;
        }
    }
}

// Partial sums of g (x - mean) and g. Grid: (channels / 32 rounded up, parts).
KERNEL norm_dgrad_partial(const float* x, const float* gradient, const float* mean, const float* scale,
                          const float* shift, double* partial, u32 rows, u32 channels, u32 rows_per_part) {
    ThreadRows local(rows, channels, rows_per_part);
    PartialSums sums;
    if (local.valid) {
        if (is_vec4_aligned(channels, x, gradient, mean, scale, shift))
            add_products<true>(x, gradient, mean, scale, shift, channels, local, sums);
        else add_products<false>(x, gradient, mean, scale, shift, channels, local, sums);
    }
    sums.store(partial, channels);
}

// A block has 2 channels.
KERNEL norm_dgrad_reduce(const double* partial, const float* inverse_std, float* gamma_gradient, float* beta_gradient,
                         u32 channels, u32 parts) {
    u32 c;
    double products, sum;
    if (!sum_parts(partial, channels, parts, c, products, sum)) return;
    gamma_gradient[c] = (float)(products * inverse_std[c]);
    beta_gradient[c] = (float)sum;
}

// The operands of dgrad.
struct Dgrad {
    const float *x, *gamma, *mean, *inverse_std, *scale, *shift;
    const float *gamma_gradient, *beta_gradient, *gradient, *residual;
    float* output;
    bf16* next;
    u32 channels, padded;
    float rows;

    template <bool ALIGNED> __device__ __forceinline__ void rows_of(const ThreadRows& local) const {
        Vec4 centre = load_vec4<ALIGNED>(mean + local.c, local.valid);
        Vec4 inverse = load_vec4<ALIGNED>(inverse_std + local.c, local.valid);
        Vec4 slope = load_vec4<ALIGNED>(gamma_gradient + local.c, local.valid);
        Vec4 level = load_vec4<ALIGNED>(beta_gradient + local.c, local.valid);
        Vec4 outer = load_vec4<ALIGNED>(gamma + local.c, local.valid), factor = {}, offset = {{1.0f, 1.0f, 1.0f, 1.0f}};
        if (scale) {
            factor = load_vec4<ALIGNED>(scale + local.c, local.valid);
            offset = load_vec4<ALIGNED>(shift + local.c, local.valid);
        }
#pragma unroll
        for (u32 k = 0; k < VEC4; ++k) {
            slope.v[k] = slope.v[k] / rows * inverse.v[k];
            level.v[k] /= rows;
            outer.v[k] *= inverse.v[k];
        }
#pragma unroll 1
        for (u32 row = local.row; row < local.last; row += THREADS_Y * DGRAD_UNROLL) {
            Vec4 value[DGRAD_UNROLL], g[DGRAD_UNROLL], more[DGRAD_UNROLL];
#pragma unroll
            for (u32 j = 0; j < DGRAD_UNROLL; ++j) {
                u32 at = row + j * THREADS_Y, from = (at < local.last ? at : row) * channels + local.c;
                value[j] = load_vec4<ALIGNED>(x + from, local.valid);
                g[j] = load_vec4<ALIGNED>(gradient + from, local.valid);
                more[j] = residual ? load_vec4<ALIGNED>(residual + from, local.valid) : Vec4{};
            }
#pragma unroll
            for (u32 j = 0; j < DGRAD_UNROLL; ++j) {
                u32 at = row + j * THREADS_Y;
                if (at >= local.last) break;
                Vec4 result;
#pragma unroll
                for (u32 k = 0; k < VEC4; ++k) {
                    float passed = affine(value[j].v[k], factor.v[k], offset.v[k]) > 0.0f ? g[j].v[k] : 0.0f;
                    float centred = passed - level.v[k] - (value[j].v[k] - centre.v[k]) * slope.v[k];
                    result.v[k] = k < local.valid ? outer.v[k] * centred + more[j].v[k] : 0.0f;
                }
                if (output) store_vec4<ALIGNED>(output + at * channels + local.c, result, local.valid);
                if (next) store_vec4_bf16(next + at * padded + local.c, result);
            }
        }
    }
};

// `output` may be `gradient` or `residual`: an element is read by the thread that writes it. `next` (rows, padded) is
// the same in bf16, the operand of a convolution on tensor cores; output or next may be null. Grid: (channels / 32
// rounded up, parts).
KERNEL norm_dgrad(const float* x, const float* gamma, const float* mean, const float* inverse_std, const float* scale,
                  const float* shift, const float* gamma_gradient, const float* beta_gradient, const float* gradient,
                  const float* residual, float* output, u32 rows, u32 channels, u32 rows_per_part, bf16* next,
                  u32 padded) {
    ThreadRows local(rows, channels, rows_per_part);
    // Threads past the last channel write the zeros that pad a bf16 vector.
    if (local.c >= (next ? padded : channels)) return;
    Dgrad all = {x,        gamma,    mean,   inverse_std, scale,    shift,  gamma_gradient, beta_gradient,
                 gradient, residual, output, next,        channels, padded, (float)rows};
    bool aligned = is_vec4_aligned(channels, x, gamma, mean, inverse_std, scale) &&
                   is_vec4_aligned(channels, shift, gamma_gradient, beta_gradient, gradient, residual) &&
                   is_vec4_aligned(channels, output);
    if (aligned && local.valid) all.rows_of<true>(local);
    else all.rows_of<false>(local);
}

// What the host counts on.
#include "host.cuh"
static_assert(CHANNELS == host::NORM_CHANNELS && REDUCE_CHANNELS == host::NORM_REDUCE_CHANNELS, "");
