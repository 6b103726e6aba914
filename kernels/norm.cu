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
#include "args.cuh"
#include "vec4.cuh"

// A block covers CHANNELS channels with THREADS_X x THREADS_Y threads. UNROLL and DGRAD_UNROLL: rows that a thread loads
// at once.
constexpr u32 CHANNELS = 32, THREADS_X = CHANNELS / VEC4, THREADS_Y = BLOCK / THREADS_X, UNROLL = 4, DGRAD_UNROLL = 2;

KERNEL norm_affine(const NormAffineArgs a) {
    u32 c = global_index();
    if (c >= a.channels) return;
    double factor = a.gamma[c] / sqrt((double)a.variance[c] + a.epsilon);
    a.scale[c] = (float)factor;
    a.shift[c] = (float)(a.beta[c] - a.mean[c] * factor);
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

template <bool ALIGNED> __device__ __forceinline__ void add_differences(const NormStatsPartialArgs& a,
                                                                        const ThreadRows& local, PartialSums& sums) {
    Vec4 pivot = load_vec4<ALIGNED>(a.x + local.c, local.valid);
#pragma unroll 1
    for (u32 row = local.row; row < local.last; row += THREADS_Y * UNROLL) {
        Vec4 d[UNROLL];
#pragma unroll
        for (u32 j = 0; j < UNROLL; ++j) {
            u32 at = row + j * THREADS_Y;
            d[j] = load_vec4<ALIGNED>(a.x + (at < local.last ? at : row) * a.channels + local.c, local.valid);
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
KERNEL norm_stats_partial(const NormStatsPartialArgs a) {
    ThreadRows local(a.rows, a.channels, a.rows_per_part);
    PartialSums sums;
    if (local.valid) {
        if (is_vec4_aligned(a.channels, a.x)) add_differences<true>(a, local, sums);
        else add_differences<false>(a, local, sums);
    }
    sums.store(a.partial, a.channels);
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
KERNEL norm_stats(const NormStatsArgs a) {
    u32 c;
    double sum, squares;
    if (!sum_parts(a.partial, a.channels, a.parts, c, sum, squares)) return;
    double deviation = sum / a.rows, centre = (a.x ? a.x[c] : 0.0) + deviation;
    double variance = fmax(squares / a.rows - deviation * deviation, 0.0);
    double unbiased = variance * a.rows / (a.rows > 1 ? a.rows - 1.0 : 1.0);
    double inverse = 1.0 / sqrt(variance + a.epsilon), factor = a.gamma[c] * inverse;
    a.mean[c] = (float)centre;
    a.inverse_std[c] = (float)inverse;
    a.scale[c] = (float)factor;
    a.shift[c] = (float)(a.beta[c] - centre * factor);
    float keep = 1.0f - a.momentum;
    a.running_mean[c] = keep * a.running_mean[c] + a.momentum * (float)centre;
    a.running_variance[c] = keep * a.running_variance[c] + a.momentum * (float)unbiased;
}

template <bool ALIGNED> __device__ __forceinline__ void add_products(const NormDgradPartialArgs& a,
                                                                     const ThreadRows& local, PartialSums& sums) {
    Vec4 centre = load_vec4<ALIGNED>(a.mean + local.c, local.valid), factor = {}, offset = {{1.0f, 1.0f, 1.0f, 1.0f}};
    if (a.scale) {
        factor = load_vec4<ALIGNED>(a.scale + local.c, local.valid);
        offset = load_vec4<ALIGNED>(a.shift + local.c, local.valid);
    }
#pragma unroll 1
    for (u32 row = local.row; row < local.last; row += THREADS_Y * UNROLL) {
        Vec4 value[UNROLL], g[UNROLL];
#pragma unroll
        for (u32 j = 0; j < UNROLL; ++j) {
            u32 at = row + j * THREADS_Y, from = (at < local.last ? at : row) * a.channels + local.c;
            value[j] = load_vec4<ALIGNED>(a.x + from, local.valid);
            g[j] = load_vec4<ALIGNED>(a.gradient + from, local.valid);
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
KERNEL norm_dgrad_partial(const NormDgradPartialArgs a) {
    ThreadRows local(a.rows, a.channels, a.rows_per_part);
    PartialSums sums;
    if (local.valid) {
        if (is_vec4_aligned(a.channels, a.x, a.gradient, a.mean, a.scale, a.shift)) add_products<true>(a, local, sums);
        else add_products<false>(a, local, sums);
    }
    sums.store(a.partial, a.channels);
}

// A block has 2 channels.
KERNEL norm_dgrad_reduce(const NormDgradReduceArgs a) {
    u32 c;
    double products, sum;
    if (!sum_parts(a.partial, a.channels, a.parts, c, products, sum)) return;
    a.gamma_gradient[c] = (float)(products * a.inverse_std[c]);
    a.beta_gradient[c] = (float)sum;
}

template <bool ALIGNED> __device__ __forceinline__ void dgrad_rows(const NormDgradArgs& a, const ThreadRows& local) {
    float rows = a.rows;
    Vec4 centre = load_vec4<ALIGNED>(a.mean + local.c, local.valid);
    Vec4 inverse = load_vec4<ALIGNED>(a.inverse_std + local.c, local.valid);
    Vec4 slope = load_vec4<ALIGNED>(a.gamma_gradient + local.c, local.valid);
    Vec4 level = load_vec4<ALIGNED>(a.beta_gradient + local.c, local.valid);
    Vec4 outer = load_vec4<ALIGNED>(a.gamma + local.c, local.valid), factor = {}, offset = {{1.0f, 1.0f, 1.0f, 1.0f}};
    if (a.scale) {
        factor = load_vec4<ALIGNED>(a.scale + local.c, local.valid);
        offset = load_vec4<ALIGNED>(a.shift + local.c, local.valid);
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
            u32 at = row + j * THREADS_Y, from = (at < local.last ? at : row) * a.channels + local.c;
            value[j] = load_vec4<ALIGNED>(a.x + from, local.valid);
            g[j] = load_vec4<ALIGNED>(a.gradient + from, local.valid);
            more[j] = a.residual ? load_vec4<ALIGNED>(a.residual + from, local.valid) : Vec4{};
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
            if (a.output) store_vec4<ALIGNED>(a.output + at * a.channels + local.c, result, local.valid);
            if (a.next) store_vec4_bf16(a.next + at * a.padded + local.c, result);
        }
    }
}

// `output` may be `gradient` or `residual`: an element is read by the thread that writes it. `next` (rows, padded) is
// the same in bf16, the operand of a convolution on tensor cores; output or next may be null. Grid: (channels / 32
// rounded up, parts).
KERNEL norm_dgrad(const NormDgradArgs a) {
    ThreadRows local(a.rows, a.channels, a.rows_per_part);
    // Threads past the last channel write the zeros that pad a bf16 vector.
    if (local.c >= (a.next ? a.padded : a.channels)) return;
    bool aligned = is_vec4_aligned(a.channels, a.x, a.gamma, a.mean, a.inverse_std, a.scale) &&
                   is_vec4_aligned(a.channels, a.shift, a.gamma_gradient, a.beta_gradient, a.gradient, a.residual) &&
                   is_vec4_aligned(a.channels, a.output);
    if (aligned && local.valid) dgrad_rows<true>(a, local);
    else dgrad_rows<false>(a, local);
}

// What the host counts on.
#include "host.cuh"
static_assert(CHANNELS == host::NORM_CHANNELS && REDUCE_CHANNELS == host::NORM_REDUCE_CHANNELS, "");
