// Convolution on tensor cores, the formulas of conv.cu: implicit matrix products of bf16 operands with f32
// sums. Operands come from conv_operands.cu: channels in whole vectors of 8, C' and K', no border; what
// lies outside an image is a copy of zeros.
//
//   fprop  rows: output pixels, columns: out channels, k: (tap, in channel)
//   dgrad  rows: input pixels of one phase, columns: in channels, k: (tap of the phase, out channel)
//
// A phase of dgrad is the input pixels with the same (y, x) modulo the stride. They meet the same taps,
// every stride-th of a row and column, so that nothing is multiplied by the zeros between the gradients of
// a strided convolution. Within a phase dgrad reads gradients as fprop reads its input, backwards.
//
// Each comes with tiles of 64 and of 16 columns, for many channels and for few; the host chooses. Sums run in
// one fixed order.
//
// Sums and gradients that only convolutions read are in bf16 (src/device/cuda/relay/rounded.rs): in f32 they were a
// third of an attack's bytes. A summand, y or output then comes with a pointer of its own.
//
// Both hand on what the next convolution reads (`Next` in tensor.cuh) where it follows soon: then nobody has to
// read the result again to round it, and if nobody else wants it, y or output is null. Before, a kernel of its own
// did that for every convolution, and another made the mask: twice as many launches, 14 bytes an element more.
//
// fprop in front of a batch norm sums up its result and the squares of it while they are in registers: norm.cu would
// read all of it once more for that.
//
// dgrad of a network's first convolution takes a step of the attack with the gradient in its registers
// (conv_dgrad_bf16_step): the image's gradient is never in memory.
#include "pgd.cuh"
#include "tensor.cuh"

typedef Tile<128, 64, 64, 32> Wide;
typedef Tile<128, 16, 32, 16> Narrow;

// Threads that copy one row of a tile with k along its rows, and rows copied at once.
constexpr u32 ALONG = DEPTH / VECTOR, AT_ONCE = BLOCK / ALONG;

// A tensor (N, height, width, vectors) of which row i of a product reads pixel (y + sign * u, x + sign * v)
// of its image for tap (u, v), and the place of the thread's next vector among the taps' channels: digits
// of one number, to which a stage adds its four vectors without a division.
template <u32 ROWS> struct Window {
    static constexpr u32 EACH = ROWS / AT_ONCE;
    const bf16* tensor;
    u32 height, width, vectors, taps_down, taps_across;
    int sign, y[EACH], x[EACH], image[EACH];
    u32 vector, u, v;
    u32 next_vector, next_u, next_v;

    __device__ __forceinline__ Window(const bf16* tensor, u32 height, u32 width, u32 vectors, u32 taps_down,
                                      u32 taps_across, int sign)
        : tensor(tensor), height(height), width(width), vectors(vectors), taps_down(taps_down),
          taps_across(taps_across), sign(sign) {
        u32 first = threadIdx.x % ALONG, across = max(taps_across, 1);
        vector = first % vectors;
        v = first / vectors % across;
        u = first / vectors / across;
        next_vector = ALONG % vectors;
        next_v = ALONG / vectors % across;
        next_u = ALONG / vectors / across;
    }

    // A row outside the product reads nothing: its y is far outside the tensor.
    __device__ __forceinline__ void set(u32 i, bool there, u32 n, int row, int column) {
        y[i] = there ? row : -(1 << 30);
        x[i] = column;
        image[i] = n * height;
    }

    __device__ __forceinline__ void fill(u32 to) {
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) {
            int row = y[i] + sign * (int)u, column = x[i] + sign * (int)v;
            bool there = u < taps_down && (u32)row < height && (u32)column < width;
            u32 at = ((image[i] + row) * width + column) * vectors + vector;
            copy_vector(to + place<ALONG>(threadIdx.x / ALONG + i * AT_ONCE, threadIdx.x % ALONG),
                        tensor + (there ? at * VECTOR : 0), there);
        }
        vector += next_vector;
        bool carry = vector >= vectors;
        vector -= carry ? vectors : 0;
        v += next_v + carry;
        carry = v >= taps_across;
        v -= carry ? taps_across : 0;
        u += next_u + carry;
    }
};

// Rows of a filter (columns of the product) from `first`, `length` values each from `from` on.
template <u32 ROWS> struct FilterRows {
    const bf16* from;
    u32 k, length, pitch, row, rows;

    __device__ __forceinline__ FilterRows(const bf16* filter, u32 first, u32 rows, u32 pitch, u32 length)
        : k(threadIdx.x % ALONG * VECTOR), length(length), pitch(pitch), row(first + threadIdx.x / ALONG),
          rows(rows) {
        from = filter;
    }

    __device__ __forceinline__ void fill(u32 to) {
#pragma unroll
        for (u32 i = 0; i < (ROWS + AT_ONCE - 1) / AT_ONCE; ++i) {
            if (ROWS < AT_ONCE && threadIdx.x / ALONG >= ROWS) break;
            bool there = k < length && row + i * AT_ONCE < rows;
            copy_vector(to + place<ALONG>(threadIdx.x / ALONG + i * AT_ONCE, threadIdx.x % ALONG),
                        from + (there ? (row + i * AT_ONCE) * pitch + k : 0), there);
        }
        k += DEPTH;
    }
};

// The product of a window's rows with a filter's, `length` values of k long.
template <class T>
__device__ __forceinline__ void multiply(typename T::WarpSums& sums, uint4* memory, Window<T::ROWS>& window,
                                         FilterRows<T::COLUMNS>& filter, u32 length) {
    u32 a = shared_address(memory), b = a + STAGES * T::A;
    sums.clear();
    pipeline(
        (length + DEPTH - 1) / DEPTH,
        [&](u32 stage) {
            window.fill(a + stage * T::A);
            filter.fill(b + stage * T::B);
        },
        [&](u32 stage) { sums.add_along(a + stage * T::A, b + stage * T::B, T::row(), T::column()); });
}

// Sums of a tile's columns and of their squares. Every thread of a block meets one pair of columns (each_pair). f64:
// without a row to take differences from, f32 would lose the variance beside a large mean.
template <class T> struct ColumnSums {
    static constexpr u32 PAIRS = T::COLUMNS / 2;
    double sum[2] = {0.0, 0.0}, squares[2] = {0.0, 0.0};

    __device__ __forceinline__ void add(float2 value, bool both) {
        sum[0] += value.x;
        squares[0] += (double)value.x * value.x;
        if (!both) return;
        sum[1] += value.y;
        squares[1] += (double)value.y * value.y;
    }

    // To `partial` (tiles, 2, channels), as norm.cu leaves parts; all threads call this.
    __device__ __forceinline__ void leave(double* memory, double* partial, u32 tile, u32 first, u32 channels) {
        // No thread reads the tile any more.
        __syncthreads();
        double* own = memory + threadIdx.x * 4;
        own[0] = sum[0];
        own[1] = sum[1];
        own[2] = squares[0];
        own[3] = squares[1];
        __syncthreads();
        u32 column = threadIdx.x % T::COLUMNS, which = threadIdx.x / T::COLUMNS, c = first + column;
        if (which > 1 || c >= channels) return;
        double total = 0.0;
        for (u32 thread = column / 2; thread < BLOCK; thread += PAIRS)
            total += memory[thread * 4 + which * 2 + column % 2];
        partial[(tile * 2 + which) * channels + c] = total;
    }
};

// y = x * w + bias + residual.
// x (N, height, width, C'); w (K, R, S, C'); bias (K); residual and y (N, out_height, out_width, K), which
// may be the same, or (N, out_height, out_width, K') where they are rounded; next.to (N, out_height, out_width,
// K'); partial (tiles of rows, 2, K) or null. A block makes one tile; blocks of one tile of pixels follow each
// other.
template <class T>
__device__ __forceinline__ void fprop(const bf16* x, const bf16* w, const float* bias, const Summand& residual,
                                      float* y, bf16* rounded_y, u32 rows, u32 out_height, u32 out_width, u32 out_channels,
                                      u32 column_tiles, u32 height, u32 width, u32 vectors, u32 kernel,
                                      u32 stride, u32 pad, const Next& next, double* partial) {
    __shared__ __align__(128) uint4 memory[T::BYTES / sizeof(uint4)];
    u32 first_row = blockIdx.x / column_tiles * T::ROWS, first_column = blockIdx.x % column_tiles * T::COLUMNS;
    Window<T::ROWS> window(x, height, width, vectors, kernel, kernel, 1);
#pragma unroll
    for (u32 i = 0; i < Window<T::ROWS>::EACH; ++i) {
        u32 row = first_row + threadIdx.x / ALONG + i * AT_ONCE;
        u32 q = row % out_width, rest = row / out_width;
        window.set(i, row < rows, rest / out_height, rest % out_height * stride - pad, q * stride - pad);
    }
    u32 length = kernel * kernel * vectors * VECTOR;
    FilterRows<T::COLUMNS> filter(w, first_column, out_channels, length, length);
    typename T::WarpSums sums;
    multiply<T>(sums, memory, window, filter, length);

    bool aligned = pairs_aligned(out_channels, residual.wide, y, nullptr);
    ColumnSums<T> columns;
    each_pair<T>(sums, memory, [&](u32 row, u32 column, float2 value) {
        u32 pixel = first_row + row, k = first_column + column;
        bool there = pixel < rows;
        if (there && k < out_channels) {
            bool both = k + 1 < out_channels;
            u32 at = pixel * out_channels + k;
            if (bias) add_pair(value, bias + k, false, both);
            residual.add_to(value, pixel, k, out_channels, aligned, both);
            if (y) store_pair(y + at, value, aligned, both);
            if (partial) columns.add(value, both);
        }
        if (rounded_y && there) store_rounded(rounded_y, value, pixel, k, out_channels);
        if (next.to) hand_on(next, value, pixel, k, out_channels, there);
    });
    if (partial) columns.leave((double*)memory, partial, blockIdx.x / column_tiles, first_column, out_channels);
}

// output = (dgrad(gradient) + add) * mask * scale[c] + residual.
// gradient (N, out_height, out_width, K'); w (C, taps, K'), taps by phase, see load_filter_bf16; mask (N,
// height, width, ceil(C / 32)); add, residual and output (N, height, width, C), which may be the same, or (N, height,
// width, C') where they are rounded, as next always is; step's tensors (N, height, width, C), its radii (N).
// blockIdx.y is the phase, blockIdx.x the tile as in fprop; phases differ in size by a row or column.
template <class T>
__device__ __forceinline__ void dgrad(const bf16* gradient, const bf16* w, const Summand& add, const u32* mask,
                                      const float* scale, const Summand& residual, float* output, u32 count,
                                      u32 height, u32 width, u32 channels, u32 column_tiles, u32 out_height,
                                      u32 out_width, u32 vectors, u32 kernel, u32 stride, u32 pad, bf16* next,
                                      const Step& step) {
    u32 phase_y = blockIdx.y / stride, phase_x = blockIdx.y % stride;
    // Pixels of the phase, and the classes of taps they meet.
    u32 down = (height - phase_y + stride - 1) / stride, across = (width - phase_x + stride - 1) / stride;
    u32 rows = count * down * across;
    __shared__ __align__(128) uint4 memory[T::BYTES / sizeof(uint4)];
    u32 first_row = blockIdx.x / column_tiles * T::ROWS, first_column = blockIdx.x % column_tiles * T::COLUMNS;
    if (first_row >= rows) return;
    u32 r = (phase_y + pad) % stride, s = (phase_x + pad) % stride;
    u32 before_y = taps_below(r, kernel, stride), before_x = taps_below(s, kernel, stride);
    u32 taps_y = taps_below(r + 1, kernel, stride) - before_y, taps_x = taps_below(s + 1, kernel, stride) - before_x;

    Window<T::ROWS> window(gradient, out_height, out_width, vectors, taps_y, taps_x, -1);
#pragma unroll
    for (u32 i = 0; i < Window<T::ROWS>::EACH; ++i) {
        u32 row = first_row + threadIdx.x / ALONG + i * AT_ONCE;
        u32 q = row % across, rest = row / across;
        window.set(i, row < rows, rest / down, rest % down + (phase_y + pad) / stride, q + (phase_x + pad) / stride);
    }
    u32 channels_out = vectors * VECTOR, length = taps_y * taps_x * channels_out;
    u32 start = (before_y * kernel + taps_y * before_x) * channels_out;
    FilterRows<T::COLUMNS> filter(w + start, first_column, channels, kernel * kernel * channels_out, length);
    typename T::WarpSums sums;
    multiply<T>(sums, memory, window, filter, length);

    bool aligned = pairs_aligned(channels, add.wide, residual.wide, output);
    each_pair<T>(sums, memory, [&](u32 row, u32 column, float2 value) {
        u32 pixel = first_row + row, c = first_column + column;
        bool there = pixel < rows;
        if (there && stride > 1) {
            u32 rest = pixel / across;
            u32 y = rest % down * stride + phase_y, x = pixel % across * stride + phase_x;
            pixel = (rest / down * height + y) * width + x;
        }
        if (there && c < channels) {
            bool both = c + 1 < channels;
            u32 at = pixel * channels + c;
            add.add_to(value, pixel, c, channels, aligned, both);
            if (mask) {
                u32 bits = mask[pixel * ((channels + 31) / 32) + c / 32] >> c % 32;
                if (!(bits & 1)) value.x = 0.0f;
                if (!(bits & 2)) value.y = 0.0f;
            }
            if (scale) {
                value.x *= scale[c];
                if (both) value.y *= scale[c + 1];
            }
            residual.add_to(value, pixel, c, channels, aligned, both);
            if (output) store_pair(output + at, value, aligned, both);
            if (step.adversarial) {
                u32 image = pixel / (height * width);
                step.take(at, image, value.x);
                if (both) step.take(at + 1, image, value.y);
            }
        }
        if (next) hand_on(Next{next, nullptr, nullptr, nullptr, 0}, value, pixel, c, channels, there);
    });
}

// Registers for four blocks on an SM of sm_80: 128 each.
#define FOUR_A_SM extern "C" __global__ void __launch_bounds__(BLOCK, 4)

#define FPROP_PARAMETERS                                                                                      \
    const bf16 *x, const bf16 *w, const float *bias, const float *residual, const bf16 *rounded_residual,     \
        float *y, bf16 *rounded_y, u32 rows, u32 out_height, u32 out_width, u32 out_channels,                 \
        u32 column_tiles, u32 height, u32 width, u32 vectors, u32 kernel, u32 stride, u32 pad, bf16 *next,    \
        const float *next_scale, const float *next_shift, u32 *next_mask, u32 next_relu
#define FPROP(T, partial)                                                                                     \
    fprop<T>(x, w, bias, Summand{residual, rounded_residual}, y, rounded_y, rows, out_height, out_width,      \
             out_channels, column_tiles, height, width, vectors, kernel, stride, pad,                         \
             Next{next, next_scale, next_shift, next_mask, next_relu}, partial)

FOUR_A_SM conv_fprop_bf16(FPROP_PARAMETERS) { FPROP(Wide, nullptr); }
FOUR_A_SM conv_fprop_bf16_narrow(FPROP_PARAMETERS) { FPROP(Narrow, nullptr); }
FOUR_A_SM conv_fprop_bf16_sums(FPROP_PARAMETERS, double* partial) { FPROP(Wide, partial); }
FOUR_A_SM conv_fprop_bf16_sums_narrow(FPROP_PARAMETERS, double* partial) { FPROP(Narrow, partial); }

#define DGRAD_PARAMETERS                                                                                      \
    const bf16 *gradient, const bf16 *w, const float *add, const bf16 *rounded_add, const u32 *mask,          \
        const float *scale, const float *residual, const bf16 *rounded_residual, float *output, u32 count,    \
        u32 height, u32 width, u32 channels, u32 column_tiles, u32 out_height, u32 out_width, u32 vectors,    \
        u32 kernel, u32 stride, u32 pad
#define DGRAD(T, next, step)                                                                                  \
    dgrad<T>(gradient, w, Summand{add, rounded_add}, mask, scale, Summand{residual, rounded_residual},        \
             output, count, height, width, channels, column_tiles, out_height, out_width, vectors, kernel,    \
             stride, pad, next, step)

FOUR_A_SM conv_dgrad_bf16(DGRAD_PARAMETERS, bf16* next) { DGRAD(Wide, next, Step{}); }
FOUR_A_SM conv_dgrad_bf16_narrow(DGRAD_PARAMETERS, bf16* next) { DGRAD(Narrow, next, Step{}); }

// Narrow: images have few channels.
FOUR_A_SM conv_dgrad_bf16_step(DGRAD_PARAMETERS, const float* clean, const float* epsilons, const float* alphas,
                               float* adversarial, const Run* run) {
    Step step{clean, epsilons, alphas, adversarial, run};
    DGRAD(Narrow, nullptr, step);
}
