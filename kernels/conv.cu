// Convolution, square kernel R = S, symmetric zero padding:
//   fprop  y[n,p,q,k] = sum over r,s,c  x[n, p*stride+r-pad, q*stride+s-pad, c] * w[k,r,s,c]
//   dgrad  the gradient of x from that of y
// (wgrad: conv_wgrad.cu), as an implicit GEMM of operands of type E, bf16 on tensor cores or f32, with f32 accumulators.
// No im2col matrix is stored; the iterators compute its addresses.
//
//   fprop  M: output pixels                 N: out channels  K: (tap, in channel)
//   dgrad  M: input pixels of one phase     N: in channels   K: (tap of the phase, out channel)
//
// A phase of dgrad is the set of input pixels with the same (y, x) modulo the stride. They use the same taps, every
// stride-th of a row and column, so dgrad never multiplies the zeros between the gradients of a strided convolution.
// Within a phase, dgrad reads gradients as fprop reads its input, backwards.
//
// Operands have channels rounded up to a multiple of 8, written C' and K', and no border: cp.async fills in
// zeros for pixels outside an image. conv_operands.cu makes them, or the op that makes the tensor (NextOperand).
//
// Tiles are 128 x 64 (bf16), 64 x 64 (f32, or few blocks), and 128 x 16 for few channels; the host chooses. A sum
// has the same order in every tile. Tried and lost on an H100: tiles of 128 x 128 (two blocks an SM are too few to
// hide each other's copies: a tenth faster with 128 channels, half as fast with 64), four stages (no difference),
// copies through L1 (up to a quarter slower).
//
// Fused epilogues:
//   NextOperand  writes what the next convolution reads, after its prologue, with the ReLU's mask. y or output is null
//                where nothing else reads it. One kernel for each of these jobs took twice as many launches and 14 bytes
//                an element more.
//   Stats        fprop before a batch norm also sums its output and the squares of it per channel: norm.cu would read
//                the tensor once more.
//   PgdStep      dgrad of the first convolution applies the PGD update with the gradient in registers
//                (conv_dgrad_pgd_..._128x16): the gradient of the image is never in memory.
//
// Residuals and gradients that only convolutions read are stored in bf16, with a pointer of their own beside the f32
// one: in f32 they were a third of an attack's bytes.
#include "args.cuh"
#include "epilogue.cuh"
#include "pgd.cuh"

template <class E> using Tile128x64 = Tile<E, 128, 64, 64, 32>;
template <class E> using Tile64x64 = Tile<E, 64, 64, 32, 32, 4>;
template <class E> using Tile128x16 = Tile<E, 128, 16, 32, 16>;

// Rows of a K-major tile that a block copies in one pass, a vector a thread.
constexpr u32 ROWS_PER_PASS = BLOCK / K_VECTORS;

// Bits 0 to 15, those below `n`.
__device__ __forceinline__ u32 bits_below(int n) { return n <= 0 ? 0 : n >= 16 ? 0xffff : (1u << n) - 1; }

// Iterator of the A tile: the im2col rows of a tensor (N, height, width, vectors). Row (y, x) of the GEMM reads pixel
// (y + sign * u, x + sign * v) for tap (u, v).
//
// (u, v, vector) is a mixed-radix counter of the thread's next vector: a stage adds four vectors without a division. All
// rows of a thread are at the same tap, so a stage adds one offset to each row's base, and tests two bits of each row:
// whether tap row u or tap column v lies outside the image. A kernel has at most 15 taps a side (`TAPS` in
// src/device/cuda/ops/conv.rs); bit 15 is always set. Tried and lost: bounds and addresses computed for each vector, 120
// instructions a stage beside 32 of mma.sync.
template <class E, u32 BLOCK_M> struct IteratorA {
    static constexpr u32 ROWS_PER_THREAD = BLOCK_M / ROWS_PER_PASS;
    const E* tensor;
    u32 height, width, vectors, taps_y, taps_x;
    int sign;
    // Base address of a row, in vectors; and its taps outside the image: bit u of tap rows, bit 16 + v of columns.
    int base[ROWS_PER_THREAD];
    u32 outside[ROWS_PER_THREAD];
    u32 vector, u, v;
    u32 next_vector, next_u, next_v;

    __device__ __forceinline__ IteratorA(const E* tensor, u32 height, u32 width, u32 vectors, u32 taps_y, u32 taps_x,
                                         int sign)
        : tensor(tensor), height(height), width(width), vectors(vectors), taps_y(taps_y), taps_x(taps_x), sign(sign) {
        u32 first = threadIdx.x % K_VECTORS, columns = max(taps_x, 1);
        vector = first % vectors;
        v = first / vectors % columns;
        u = first / vectors / columns;
        next_vector = K_VECTORS % vectors;
        next_v = K_VECTORS / vectors % columns;
        next_u = K_VECTORS / vectors / columns;
    }

    // Bits of the taps that lie outside `size` pixels, for the pixel at `position`.
    __device__ __forceinline__ u32 taps_outside(int position, int size, u32 taps) const {
        int from = sign > 0 ? -position : position - size + 1, to = sign > 0 ? size - position : position + 1;
        return ~(bits_below(min(to, (int)taps)) & ~bits_below(from)) & 0xffff;
    }

    // A row past the end of the GEMM reads nothing.
    __device__ __forceinline__ void set(u32 i, bool valid, u32 n, int row, int column) {
        base[i] = ((int)(n * height) + row) * (int)(width * vectors) + column * (int)vectors;
        outside[i] = taps_outside(row, height, taps_y) | taps_outside(column, width, taps_x) << 16;
        if (!valid) outside[i] = ~0u;
    }

    __device__ __forceinline__ void load(u32 to) {
        u32 bits = 1u << min(u, 15) | 0x10000u << v;
        int distance = sign * (int)((u * width + v) * vectors) + (int)vector;
        to += swizzle<K_VECTORS>(threadIdx.x / K_VECTORS, threadIdx.x % K_VECTORS);
#pragma unroll
        for (u32 i = 0; i < ROWS_PER_THREAD; ++i)
            // Rows ROWS_PER_PASS apart have the same swizzle.
            cp_async(to + i * ROWS_PER_PASS * K_BYTES, tensor + (long long)(base[i] + distance) * PER_VECTOR<E>,
                     !(outside[i] & bits));
        vector += next_vector;
        bool carry = vector >= vectors;
        vector -= carry ? vectors : 0;
        v += next_v + carry;
        carry = v >= taps_x;
        v -= carry ? taps_x : 0;
        u += next_u + carry;
    }
};

// Iterator of the B tile: rows of a filter, which are columns of the GEMM, from `first` on; `length` values of each.
template <class E, u32 BLOCK_N> struct IteratorB {
    const E* from;
    u32 k, length, pitch, row, rows;

    __device__ __forceinline__ IteratorB(const E* filter, u32 first, u32 rows, u32 pitch, u32 length)
        : k(threadIdx.x % K_VECTORS * PER_VECTOR<E>), length(length), pitch(pitch),
          row(first + threadIdx.x / K_VECTORS), rows(rows) {
        from = filter + row * pitch;
    }

    __device__ __forceinline__ void load(u32 to) {
        to += swizzle<K_VECTORS>(threadIdx.x / K_VECTORS, threadIdx.x % K_VECTORS);
#pragma unroll
        for (u32 i = 0; i < (BLOCK_N + ROWS_PER_PASS - 1) / ROWS_PER_PASS; ++i) {
            if (BLOCK_N < ROWS_PER_PASS && threadIdx.x / K_VECTORS >= BLOCK_N) break;
            cp_async(to + i * ROWS_PER_PASS * K_BYTES, from + (i * ROWS_PER_PASS * pitch + k),
                     k < length && row + i * ROWS_PER_PASS < rows);
        }
        k += BLOCK_K<E>;
    }
};

// Main loop of the GEMM over `length` values of k.
template <class T> __device__ __forceinline__ void multiply(typename T::Mma& acc, uint4* memory,
                                                            IteratorA<typename T::Element, T::BLOCK_M>& iterator_a,
                                                            IteratorB<typename T::Element, T::BLOCK_N>& iterator_b,
                                                            u32 length) {
    typedef typename T::Mma Mma;
    u32 a = shared_address(memory), b = a + T::STAGES * T::A;
    u32 warp_a = a + Mma::k_major_a(T::row()), warp_b = b + Mma::k_major_b(T::column());
    acc.clear();
    pipeline<T::STAGES>((length + BLOCK_K<typename T::Element> - 1) / BLOCK_K<typename T::Element>,
                        [&](u32 stage) {
                            iterator_a.load(a + stage * T::A);
                            iterator_b.load(b + stage * T::B);
                        },
                        [&](u32 stage) { acc.mma_k_major(warp_a + stage * T::A, warp_b + stage * T::B); });
}

// Per-channel sums of a tile and of its squares. A thread has the same eight columns in all its rows (for_each_vec8).
// They are f64: without a pivot to subtract, f32 would lose the variance next to a large mean.
template <class T> struct ChannelStats {
    // Distance in shared memory from one column to the next; a thread's sums are next to its neighbour's.
    static constexpr u32 PITCH = BLOCK + 2, WARPS_N = T::BLOCK_N / T::WARP_N, VECS = T::WARP_N / 8;
    static_assert(16 * PITCH * sizeof(double) <= T::BYTES, "the sums fit");
    double sum[8] = {}, squares[8] = {};

    __device__ __forceinline__ void add(const Vec8& vec) {
#pragma unroll
        for (u32 j = 0; j < 8; ++j) {
            sum[j] += vec.value[j];
            squares[j] += (double)vec.value[j] * vec.value[j];
        }
    }

    // Writes partial (tiles, 2, channels), the layout of norm.cu's parts. All threads call this.
    __device__ __forceinline__ void store(double* memory, double* partial, u32 tile, u32 first, u32 channels) {
        // All threads have finished reading the tile.
        __syncthreads();
#pragma unroll
        for (u32 j = 0; j < 8; ++j) {
            memory[j * PITCH + threadIdx.x] = sum[j];
            memory[(8 + j) * PITCH + threadIdx.x] = squares[j];
        }
        __syncthreads();
        for (u32 i = threadIdx.x; i < 2 * T::BLOCK_N; i += BLOCK) {
            u32 column = i % T::BLOCK_N, which = i / T::BLOCK_N, vec = column / 8, c = first + column;
            if (c >= channels) continue;
            const double* row = memory + (which * 8 + column % 8) * PITCH;
            double total = 0.0;
            for (u32 warp = vec / VECS; warp < BLOCK / 32; warp += WARPS_N)
                for (u32 lane = vec % VECS; lane < 32; lane += VECS) total += row[warp * 32 + lane];
            partial[(tile * 2 + which) * channels + c] = total;
        }
    }
};

// y = x * w + bias + residual.
// x (N, height, width, C'); w (K, R, S, C'); bias (K); residual and y (N, out_height, out_width, K) in f32, which may be
// the same, or (N, out_height, out_width, K') in bf16; next.to (N, out_height, out_width, K'); partial (M tiles, 2, K) or
// null. A block computes one tile; the blocks of one M tile follow each other.
template <class T, class Args> __device__ __forceinline__ void fprop(const Args& a, double* partial) {
    typedef typename T::Element E;
    u32 rows = a.rows, out_height = a.out_height, out_width = a.out_width, out_channels = a.out_channels;
    u32 column_tiles = a.column_tiles, kernel = a.kernel, stride = a.stride, pad = a.pad;
    const Addend residual{a.residual, a.residual_bf16};
    const NextOperand<E> next{a.next, a.next_scale, a.next_shift, a.next_mask, a.next_relu};
    __shared__ __align__(128) uint4 memory[T::BYTES / sizeof(uint4)];
    u32 first_row = blockIdx.x / column_tiles * T::BLOCK_M, first_column = blockIdx.x % column_tiles * T::BLOCK_N;
    IteratorA<typename T::Element, T::BLOCK_M> iterator_a(a.x, a.height, a.width, a.vectors, kernel, kernel, 1);
#pragma unroll
    for (u32 i = 0; i < IteratorA<typename T::Element, T::BLOCK_M>::ROWS_PER_THREAD; ++i) {
        u32 row = first_row + threadIdx.x / K_VECTORS + i * ROWS_PER_PASS;
        u32 q = row % out_width, rest = row / out_width;
        iterator_a.set(i, row < rows, rest / out_height, rest % out_height * stride - pad, q * stride - pad);
    }
    u32 length = kernel * kernel * a.vectors * PER_VECTOR<typename T::Element>;
    IteratorB<typename T::Element, T::BLOCK_N> iterator_b(a.w, first_column, out_channels, length, length);
    typename T::Mma acc;
    multiply<T>(acc, memory, iterator_a, iterator_b, length);

    bool aligned = is_vec8_aligned(out_channels, a.bias, residual.f32_data, a.y, next.scale, next.shift);
    ChannelStats<T> stats;
    for_each_vec8<T>(
        acc, memory,
        [&](u32 row, u32 column) {
            u32 pixel = first_row + row, k = first_column + column;
            return pixel < rows && k < out_channels ? residual.load(pixel, k, out_channels, aligned) : Vec8Bits{};
        },
        [&](u32 row, u32 column, Vec8& vec, const Vec8Bits& more) {
            u32 pixel = first_row + row, k = first_column + column;
            bool valid = pixel < rows && k < out_channels;
            if (valid && a.bias) add(vec, to_vec8(load_vec8(a.bias + k, aligned, out_channels - k)));
            if (valid) residual.add_to(vec, more);
            if (valid && partial) stats.add(vec);
            if (a.y) store_vec8(a.y + pixel * out_channels, vec, aligned, k, out_channels, pixel < rows);
            if (!valid) return;
            if (a.y_bf16) store_vec8_bf16(a.y_bf16 + pixel * round_up_to_vector(out_channels) + k, vec);
            if (next.to) store_next_operand(next, vec, pixel, k, out_channels, aligned);
        });
    if (partial) stats.store((double*)memory, partial, blockIdx.x / column_tiles, first_column, out_channels);
}

// What the epilogue of dgrad loads for eight channels: tensors to add and a byte of the mask.
struct DgradOperands {
    u32 pixel, bits;
    bool valid;
    Vec8Bits add, residual;
};

// output = (dgrad(gradient) + add) * mask * scale[c] + residual.
// gradient (N, out_height, out_width, K'); w (C, taps, K') in the order of dgrad_tap_index; mask (N, height, width,
// ceil(C / 32)); add, residual and output (N, height, width, C) in f32, which may be the same, or (N, height, width, C')
// in bf16, as next always is; the tensors of step (N, height, width, C), its epsilons and alphas (N).
// blockIdx.y is the phase, blockIdx.x the tile as in fprop. Phases differ in size by a row or column.
template <class T, class Args>
__device__ __forceinline__ void dgrad(const Args& a, typename T::Element* next, const PgdStep& step) {
    u32 height = a.height, width = a.width, channels = a.channels, column_tiles = a.column_tiles;
    u32 kernel = a.kernel, stride = a.stride, pad = a.pad;
    const Addend add{a.add, a.add_bf16}, residual{a.residual, a.residual_bf16};
    u32 phase_y = blockIdx.y / stride, phase_x = blockIdx.y % stride;
    // The size of the phase, and its taps.
    u32 phase_height = (height - phase_y + stride - 1) / stride, phase_width = (width - phase_x + stride - 1) / stride;
    u32 rows = a.count * phase_height * phase_width;
    __shared__ __align__(128) uint4 memory[T::BYTES / sizeof(uint4)];
    u32 first_row = blockIdx.x / column_tiles * T::BLOCK_M, first_column = blockIdx.x % column_tiles * T::BLOCK_N;
    if (first_row >= rows) return;
    u32 r = (phase_y + pad) % stride, s = (phase_x + pad) % stride;
    u32 before_y = taps_below(r, kernel, stride), before_x = taps_below(s, kernel, stride);
    u32 taps_y = taps_below(r + 1, kernel, stride) - before_y, taps_x = taps_below(s + 1, kernel, stride) - before_x;

    IteratorA<typename T::Element, T::BLOCK_M> iterator_a(a.gradient, a.out_height, a.out_width, a.vectors, taps_y,
                                                          taps_x, -1);
#pragma unroll
    for (u32 i = 0; i < IteratorA<typename T::Element, T::BLOCK_M>::ROWS_PER_THREAD; ++i) {
        u32 row = first_row + threadIdx.x / K_VECTORS + i * ROWS_PER_PASS;
        u32 q = row % phase_width, rest = row / phase_width;
        iterator_a.set(i, row < rows, rest / phase_height, rest % phase_height + (phase_y + pad) / stride,
                       q + (phase_x + pad) / stride);
    }
    u32 channels_out = a.vectors * PER_VECTOR<typename T::Element>, length = taps_y * taps_x * channels_out;
    u32 start = (before_y * kernel + taps_y * before_x) * channels_out;
    IteratorB<typename T::Element, T::BLOCK_N> iterator_b(a.w + start, first_column, channels,
                                                          kernel * kernel * channels_out, length);
    typename T::Mma acc;
    multiply<T>(acc, memory, iterator_a, iterator_b, length);

    bool aligned = is_vec8_aligned(channels, add.f32_data, a.scale, residual.f32_data, a.output, nullptr);
    for_each_vec8<T>(
        acc, memory,
        [&](u32 row, u32 column) {
            u32 pixel = first_row + row, c = first_column + column;
            DgradOperands operands = {pixel, 0xff, pixel < rows, {}, {}};
            if (pixel >= rows) return operands;
            if (stride > 1) {
                u32 rest = pixel / phase_width;
                u32 y = rest % phase_height * stride + phase_y, x = pixel % phase_width * stride + phase_x;
                operands.pixel = pixel = (rest / phase_height * height + y) * width + x;
            }
            if (c >= channels) return operands;
            operands.add = add.load(pixel, c, channels, aligned);
            operands.residual = residual.load(pixel, c, channels, aligned);
            if (a.mask) operands.bits = ((const u8*)(a.mask + pixel * ((channels + 31) / 32)))[c / 8];
            return operands;
        },
        [&](u32, u32 column, Vec8& vec, const DgradOperands& operands) {
            u32 pixel = operands.pixel, c = first_column + column;
            bool valid = operands.valid && c < channels;
            if (valid) {
                add.add_to(vec, operands.add);
#pragma unroll
                for (u32 j = 0; j < 8; ++j)
                    if (!(operands.bits >> j & 1)) vec.value[j] = 0.0f;
                if (a.scale) {
                    Vec8 factor = to_vec8(load_vec8(a.scale + c, aligned, channels - c));
#pragma unroll
                    for (u32 j = 0; j < 8; ++j) vec.value[j] *= factor.value[j];
                }
                residual.add_to(vec, operands.residual);
            }
            if (a.output) store_vec8(a.output + pixel * channels, vec, aligned, c, channels, operands.valid);
            if (!valid) return;
            if (step.adversarial)
#pragma unroll
                for (u32 j = 0; j < 8; ++j)
                    if (c + j < channels) step.apply(pixel * channels + c + j, pixel / (height * width), vec.value[j]);
            if (next) store_operand(next + pixel * round_up_to_vector(channels) + c, vec);
        });
}

// Four blocks fit on an SM of sm_80: 128 registers a thread.
constexpr int MIN_BLOCKS = 4;
#define CONV_KERNEL(name, Args, call) \
    extern "C" __global__ void __launch_bounds__(BLOCK, MIN_BLOCKS) name(const Args a) { call; }

// One kernel a line: tests/mutations deletes the lines of kernels that it doesn't need, to compile faster.
CONV_KERNEL(conv_fprop_bf16_128x64, ConvFpropBf16Args, fprop<Tile128x64<bf16>>(a, nullptr))
CONV_KERNEL(conv_fprop_stats_bf16_128x64, ConvFpropBf16Args, fprop<Tile128x64<bf16>>(a, a.partial))
CONV_KERNEL(conv_dgrad_bf16_128x64, ConvDgradBf16Args, dgrad<Tile128x64<bf16>>(a, a.next, PgdStep{}))
CONV_KERNEL(conv_fprop_bf16_64x64, ConvFpropBf16Args, fprop<Tile64x64<bf16>>(a, nullptr))
CONV_KERNEL(conv_fprop_stats_bf16_64x64, ConvFpropBf16Args, fprop<Tile64x64<bf16>>(a, a.partial))
CONV_KERNEL(conv_dgrad_bf16_64x64, ConvDgradBf16Args, dgrad<Tile64x64<bf16>>(a, a.next, PgdStep{}))
CONV_KERNEL(conv_fprop_bf16_128x16, ConvFpropBf16Args, fprop<Tile128x16<bf16>>(a, nullptr))
CONV_KERNEL(conv_fprop_stats_bf16_128x16, ConvFpropBf16Args, fprop<Tile128x16<bf16>>(a, a.partial))
CONV_KERNEL(conv_dgrad_bf16_128x16, ConvDgradBf16Args, dgrad<Tile128x16<bf16>>(a, a.next, PgdStep{}))
// Images have few channels: one tile is enough.
#define PGD_STEP PgdStep{a.clean, a.epsilons, a.alphas, a.adversarial, a.run}
CONV_KERNEL(conv_dgrad_pgd_bf16_128x16, ConvDgradBf16Args, dgrad<Tile128x16<bf16>>(a, nullptr, PGD_STEP))

CONV_KERNEL(conv_fprop_f32_64x64, ConvFpropF32Args, fprop<Tile64x64<float>>(a, nullptr))
CONV_KERNEL(conv_fprop_stats_f32_64x64, ConvFpropF32Args, fprop<Tile64x64<float>>(a, a.partial))
CONV_KERNEL(conv_dgrad_f32_64x64, ConvDgradF32Args, dgrad<Tile64x64<float>>(a, a.next, PgdStep{}))
CONV_KERNEL(conv_fprop_f32_128x16, ConvFpropF32Args, fprop<Tile128x16<float>>(a, nullptr))
CONV_KERNEL(conv_fprop_stats_f32_128x16, ConvFpropF32Args, fprop<Tile128x16<float>>(a, a.partial))
CONV_KERNEL(conv_dgrad_f32_128x16, ConvDgradF32Args, dgrad<Tile128x16<float>>(a, a.next, PgdStep{}))
CONV_KERNEL(conv_dgrad_pgd_f32_128x16, ConvDgradF32Args, dgrad<Tile128x16<float>>(a, nullptr, PGD_STEP))
