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
// Each comes with tiles of 64 columns, and for few channels of 16; and of half the rows, where there would be few
// blocks; the host chooses. Sums run in one fixed order, the same in all. Tried and lost on an H100: tiles of 128 x 128
// (2 blocks on a multiprocessor aren't enough to wait for each other's copies; a tenth faster with 128 channels, half as
// fast with 64), four stages (no difference), copies through L1 (up to a fourth slower).
//
// Sums and gradients that only convolutions read are in bf16 (src/device/cuda/relay/rounded.rs): in f32 they were a
// third of an attack's bytes. A summand, y or output then comes with a pointer of its own.
//
// Both hand on what the next convolution reads (`Next` in epilogue.cuh) where it follows soon: then nobody has to
// read the result again to round it, and if nobody else wants it, y or output is null. Before, a kernel of its own
// did that for every convolution, and another made the mask: twice as many launches, 14 bytes an element more.
//
// fprop in front of a batch norm sums up its result and the squares of it while they are in registers: norm.cu would
// read all of it once more for that.
//
// dgrad of a network's first convolution takes a step of the attack with the gradient in its registers
// (conv_dgrad_pgd_bf16_128x16): the image's gradient is never in memory.
#include "pgd.cuh"
#include "epilogue.cuh"

typedef Tile<128, 64, 64, 32> Wide;
typedef Tile<64, 64, 32, 32, 4> Low;
typedef Tile<128, 16, 32, 16> Narrow;

// Threads that copy one row of a tile with k along its rows, and rows copied at once.
constexpr u32 ALONG = DEPTH / VECTOR, AT_ONCE = BLOCK / ALONG;

// Bits 0 to 15, those below `n`.
__device__ __forceinline__ u32 bits_below(int n) { return n <= 0 ? 0 : n >= 16 ? 0xffff : (1u << n) - 1; }

// A tensor (N, height, width, vectors) of which row i of a product reads pixel (y + sign * u, x + sign * v)
// of its image for tap (u, v), and the place of the thread's next vector among the taps' channels: digits
// of one number, to which a stage adds its four vectors without a division. All rows of a thread are at the same tap, so
// that a stage adds one distance to what each row keeps, and asks each for two bits: which taps lie outside. There are
// 15 taps at most down and across (`TAPS` in src/device/cuda/tensor.rs), and bit 15 says no. Before, bounds and place were
// computed anew for each vector: 120 instructions a stage beside 32 products.
template <u32 ROWS> struct Window {
    static constexpr u32 EACH = ROWS / AT_ONCE;
    const bf16* tensor;
    u32 height, width, vectors, taps_down, taps_across;
    int sign;
    // Vectors up to tap (0, 0); bit u, if row y + sign * u isn't there, bit 16 + v of columns alike.
    int at[EACH];
    u32 outside[EACH];
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

    // Taps that lie outside `size` pixels from `place` on.
    __device__ __forceinline__ u32 taps_outside(int place, int size, u32 taps) const {
        int from = sign > 0 ? -place : place - size + 1, to = sign > 0 ? size - place : place + 1;
        return ~(bits_below(min(to, (int)taps)) & ~bits_below(from)) & 0xffff;
    }

    // A row outside the product reads nothing.
    __device__ __forceinline__ void set(u32 i, bool there, u32 n, int row, int column) {
        at[i] = ((int)(n * height) + row) * (int)(width * vectors) + column * (int)vectors;
        outside[i] = taps_outside(row, height, taps_down) | taps_outside(column, width, taps_across) << 16;
        if (!there) outside[i] = ~0u;
    }

    __device__ __forceinline__ void fill(u32 to) {
        u32 bits = 1u << min(u, 15) | 0x10000u << v;
        int distance = sign * (int)((u * width + v) * vectors) + (int)vector;
        to += place<ALONG>(threadIdx.x / ALONG, threadIdx.x % ALONG);
#pragma unroll
        for (u32 i = 0; i < EACH; ++i)
            // Rows that AT_ONCE lie between are permuted alike.
            copy_vector(to + i * AT_ONCE * DEPTH * 2, tensor + (long long)(at[i] + distance) * VECTOR,
                        !(outside[i] & bits));
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
        from = filter + row * pitch;
    }

    __device__ __forceinline__ void fill(u32 to) {
        to += place<ALONG>(threadIdx.x / ALONG, threadIdx.x % ALONG);
#pragma unroll
        for (u32 i = 0; i < (ROWS + AT_ONCE - 1) / AT_ONCE; ++i) {
            if (ROWS < AT_ONCE && threadIdx.x / ALONG >= ROWS) break;
            copy_vector(to + i * AT_ONCE * DEPTH * 2, from + (i * AT_ONCE * pitch + k),
                        k < length && row + i * AT_ONCE < rows);
        }
        k += DEPTH;
    }
};

// The product of a window's rows with a filter's, `length` values of k long.
template <class T>
__device__ __forceinline__ void multiply(typename T::WarpSums& sums, uint4* memory, Window<T::ROWS>& window,
                                         FilterRows<T::COLUMNS>& filter, u32 length) {
    typedef typename T::WarpSums Warp;
    u32 a = shared_address(memory), b = a + T::STAGES * T::A;
    u32 own_a = a + Warp::along_a(T::row()), own_b = b + Warp::along_b(T::column());
    sums.clear();
    pipeline<T::STAGES>(
        (length + DEPTH - 1) / DEPTH,
        [&](u32 stage) {
            window.fill(a + stage * T::A);
            filter.fill(b + stage * T::B);
        },
        [&](u32 stage) { sums.add_along(own_a + stage * T::A, own_b + stage * T::B); });
}

// Sums of a tile's columns and of their squares. A thread meets the same eight columns in all its rows (each_octet). f64:
// without a row to take differences from, f32 would lose the variance beside a large mean.
template <class T> struct ColumnSums {
    // What follows in memory from one thread to the next, from one column to the next.
    static constexpr u32 PITCH = BLOCK + 2, WARPS_ACROSS = T::COLUMNS / T::WARP_COLUMNS, ACROSS = T::WARP_COLUMNS / 8;
    static_assert(16 * PITCH * sizeof(double) <= T::BYTES, "room for them");
    double sum[8] = {}, squares[8] = {};

    __device__ __forceinline__ void add(const Octet& octet) {
#pragma unroll
        for (u32 j = 0; j < 8; ++j) {
            sum[j] += octet.value[j];
            squares[j] += (double)octet.value[j] * octet.value[j];
        }
    }

    // To `partial` (tiles, 2, channels), as norm.cu leaves parts; all threads call this.
    __device__ __forceinline__ void leave(double* memory, double* partial, u32 tile, u32 first, u32 channels) {
        // No thread reads the tile any more.
        __syncthreads();
#pragma unroll
        for (u32 j = 0; j < 8; ++j) {
            memory[j * PITCH + threadIdx.x] = sum[j];
            memory[(8 + j) * PITCH + threadIdx.x] = squares[j];
        }
        __syncthreads();
        for (u32 i = threadIdx.x; i < 2 * T::COLUMNS; i += BLOCK) {
            u32 column = i % T::COLUMNS, which = i / T::COLUMNS, octet = column / 8, c = first + column;
            if (c >= channels) continue;
            const double* row = memory + (which * 8 + column % 8) * PITCH;
            double total = 0.0;
            for (u32 warp = octet / ACROSS; warp < BLOCK / 32; warp += WARPS_ACROSS)
                for (u32 lane = octet % ACROSS; lane < 32; lane += ACROSS) total += row[warp * 32 + lane];
            partial[(tile * 2 + which) * channels + c] = total;
        }
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

    bool aligned = octets_aligned(out_channels, bias, residual.wide, y, next.scale, next.shift);
    ColumnSums<T> columns;
    each_octet<T>(
        sums, memory,
        [&](u32 row, u32 column) {
            u32 pixel = first_row + row, k = first_column + column;
            return pixel < rows && k < out_channels ? residual.load(pixel, k, out_channels, aligned) : Raw{};
        },
        [&](u32 row, u32 column, Octet& octet, const Raw& more) {
            u32 pixel = first_row + row, k = first_column + column;
            bool there = pixel < rows && k < out_channels;
            if (there && bias) add(octet, as_floats(load_floats(bias + k, aligned, out_channels - k)));
            if (there) residual.add_to(octet, more);
            if (there && partial) columns.add(octet);
            if (y) store_floats(y + pixel * out_channels, octet, aligned, k, out_channels, pixel < rows);
            if (!there) return;
            if (rounded_y) store_rounded(rounded_y + pixel * whole_vectors(out_channels) + k, octet);
            if (next.to) hand_on(next, octet, pixel, k, out_channels, aligned);
        });
    if (partial) columns.leave((double*)memory, partial, blockIdx.x / column_tiles, first_column, out_channels);
}

// What an octet of dgrad's needs: its pixel, or that there is none; its summands, and its byte of the mask.
struct DgradOperands {
    u32 pixel, bits;
    bool there;
    Raw add, residual;
};

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

    bool aligned = octets_aligned(channels, add.wide, scale, residual.wide, output, nullptr);
    each_octet<T>(
        sums, memory,
        [&](u32 row, u32 column) {
            u32 pixel = first_row + row, c = first_column + column;
            DgradOperands operands = {pixel, 0xff, pixel < rows, {}, {}};
            if (pixel >= rows) return operands;
            if (stride > 1) {
                u32 rest = pixel / across;
                u32 y = rest % down * stride + phase_y, x = pixel % across * stride + phase_x;
                operands.pixel = pixel = (rest / down * height + y) * width + x;
            }
            if (c >= channels) return operands;
            operands.add = add.load(pixel, c, channels, aligned);
            operands.residual = residual.load(pixel, c, channels, aligned);
            if (mask) operands.bits = ((const u8*)(mask + pixel * ((channels + 31) / 32)))[c / 8];
            return operands;
        },
        [&](u32, u32 column, Octet& octet, const DgradOperands& operands) {
            u32 pixel = operands.pixel, c = first_column + column;
            bool there = operands.there && c < channels;
            if (there) {
                add.add_to(octet, operands.add);
#pragma unroll
                for (u32 j = 0; j < 8; ++j)
                    if (!(operands.bits >> j & 1)) octet.value[j] = 0.0f;
                if (scale) {
                    Octet factor = as_floats(load_floats(scale + c, aligned, channels - c));
#pragma unroll
                    for (u32 j = 0; j < 8; ++j) octet.value[j] *= factor.value[j];
                }
                residual.add_to(octet, operands.residual);
            }
            if (output) store_floats(output + pixel * channels, octet, aligned, c, channels, operands.there);
            if (!there) return;
            if (step.adversarial)
#pragma unroll
                for (u32 j = 0; j < 8; ++j)
                    if (c + j < channels)
                        step.take(pixel * channels + c + j, pixel / (height * width), octet.value[j]);
            if (next) store_rounded(next + pixel * whole_vectors(channels) + c, octet);
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

FOUR_A_SM conv_fprop_bf16_128x64(FPROP_PARAMETERS) { FPROP(Wide, nullptr); }
FOUR_A_SM conv_fprop_bf16_64x64(FPROP_PARAMETERS) { FPROP(Low, nullptr); }
FOUR_A_SM conv_fprop_bf16_128x16(FPROP_PARAMETERS) { FPROP(Narrow, nullptr); }
FOUR_A_SM conv_fprop_stats_bf16_128x64(FPROP_PARAMETERS, double* partial) { FPROP(Wide, partial); }
FOUR_A_SM conv_fprop_stats_bf16_64x64(FPROP_PARAMETERS, double* partial) { FPROP(Low, partial); }
FOUR_A_SM conv_fprop_stats_bf16_128x16(FPROP_PARAMETERS, double* partial) { FPROP(Narrow, partial); }

#define DGRAD_PARAMETERS                                                                                      \
    const bf16 *gradient, const bf16 *w, const float *add, const bf16 *rounded_add, const u32 *mask,          \
        const float *scale, const float *residual, const bf16 *rounded_residual, float *output, u32 count,    \
        u32 height, u32 width, u32 channels, u32 column_tiles, u32 out_height, u32 out_width, u32 vectors,    \
        u32 kernel, u32 stride, u32 pad
#define DGRAD(T, next, step)                                                                                  \
    dgrad<T>(gradient, w, Summand{add, rounded_add}, mask, scale, Summand{residual, rounded_residual},        \
             output, count, height, width, channels, column_tiles, out_height, out_width, vectors, kernel,    \
             stride, pad, next, step)

FOUR_A_SM conv_dgrad_bf16_128x64(DGRAD_PARAMETERS, bf16* next) { DGRAD(Wide, next, Step{}); }
FOUR_A_SM conv_dgrad_bf16_64x64(DGRAD_PARAMETERS, bf16* next) { DGRAD(Low, next, Step{}); }
FOUR_A_SM conv_dgrad_bf16_128x16(DGRAD_PARAMETERS, bf16* next) { DGRAD(Narrow, next, Step{}); }

// Narrow: images have few channels.
FOUR_A_SM conv_dgrad_pgd_bf16_128x16(DGRAD_PARAMETERS, const float* clean, const float* epsilons, const float* alphas,
                               float* adversarial, const Run* run) {
    Step step{clean, epsilons, alphas, adversarial, run};
    DGRAD(Narrow, nullptr, step);
}
