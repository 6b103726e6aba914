// Gradient of a convolution's weights on tensor cores, the formula of conv.cu with the operands of conv_bf16.cu. An
// implicit GEMM with
//   M: (tap, in channel)   N: out channels   K: output pixels
// Both operands are MN-major; ldmatrix.trans turns them.
//
// Split-K: the pixels are split into parts whose sizes depend on the shape alone. Every part writes partial sums of its
// own, and conv_wgrad_reduce (conv.cu) adds them in order, so that a run repeats to the bit.
#include "args.cuh"
#include "epilogue.cuh"

typedef Tile<64, 64, 32, 32> Tile64x64;
typedef Tile<64, 16, 16, 16> Tile64x16;

// Iterator of the A tile over x (N, height, width, C'): a thread copies one vector of channels of one tap, for every
// ROWS_PER_PASS-th output pixel. Its pixel (n, p, q) is a mixed-radix counter: a stage adds BLOCK_K without a division.
template <u32 BLOCK_M> struct IteratorA {
    static constexpr u32 VECS = BLOCK_M / VECTOR, ROWS_PER_PASS = BLOCK / VECS,
                         ROWS_PER_THREAD = BLOCK_K / ROWS_PER_PASS;
    const bf16* tensor;
    u32 height, width, vectors, out_height, out_width, stride;
    u32 pixel, last, n[ROWS_PER_THREAD], p[ROWS_PER_THREAD], q[ROWS_PER_THREAD];
    u32 next_n, next_p, next_q;
    // The tap's offset from the output pixel: tap minus padding.
    int offset_y, offset_x;
    u32 vector;
    bool valid;

    __device__ __forceinline__ IteratorA(const bf16* tensor, u32 height, u32 width, u32 vectors, u32 out_height,
                                         u32 out_width, u32 stride, u32 first, u32 last)
        : tensor(tensor), height(height), width(width), vectors(vectors), out_height(out_height), out_width(out_width),
          stride(stride), pixel(first + threadIdx.x / VECS), last(last) {
#pragma unroll
        for (u32 i = 0; i < ROWS_PER_THREAD; ++i) {
            u32 at = pixel + i * ROWS_PER_PASS;
            q[i] = at % out_width;
            p[i] = at / out_width % out_height;
            n[i] = at / out_width / out_height;
        }
        next_q = BLOCK_K % out_width;
        next_p = BLOCK_K / out_width % out_height;
        next_n = BLOCK_K / out_width / out_height;
    }

    // Selects the tap and channels of rows `row` to `row` + 7 of the GEMM.
    __device__ __forceinline__ void select(u32 row, u32 kernel, u32 pad) {
        u32 at = row / VECTOR + threadIdx.x % VECS, tap = at / vectors;
        vector = at % vectors;
        valid = tap < kernel * kernel;
        offset_y = (int)(tap / kernel) - (int)pad;
        offset_x = (int)(tap % kernel) - (int)pad;
    }

    __device__ __forceinline__ void load(u32 to) {
#pragma unroll
        for (u32 i = 0; i < ROWS_PER_THREAD; ++i) {
            int row = (int)(p[i] * stride) + offset_y, column = (int)(q[i] * stride) + offset_x;
            bool inside = valid && pixel + i * ROWS_PER_PASS < last && (u32)row < height && (u32)column < width;
            u32 at = ((n[i] * height + row) * width + column) * vectors + vector;
            cp_async(to + swizzle<VECS>(threadIdx.x / VECS + i * ROWS_PER_PASS, threadIdx.x % VECS),
                     tensor + (inside ? at * VECTOR : 0), inside);
            q[i] += next_q;
            bool carry = q[i] >= out_width;
            q[i] -= carry ? out_width : 0;
            p[i] += next_p + carry;
            carry = p[i] >= out_height;
            p[i] -= carry ? out_height : 0;
            n[i] += next_n + carry;
        }
        pixel += BLOCK_K;
    }
};

// Iterator of the B tile over gradient (pixels, K'): one vector of channels for every ROWS_PER_PASS-th pixel.
template <u32 BLOCK_N> struct IteratorB {
    static constexpr u32 VECS = BLOCK_N / VECTOR, ROWS_PER_PASS = BLOCK / VECS;
    const bf16* tensor;
    u32 vectors, vector, pixel, last;

    __device__ __forceinline__ IteratorB(const bf16* tensor, u32 vectors, u32 column, u32 first, u32 last)
        : tensor(tensor), vectors(vectors), vector(column / VECTOR + threadIdx.x % VECS),
          pixel(first + threadIdx.x / VECS), last(last) {}

    __device__ __forceinline__ void load(u32 to) {
#pragma unroll
        for (u32 i = 0; i < (BLOCK_K + ROWS_PER_PASS - 1) / ROWS_PER_PASS; ++i) {
            if (BLOCK_K < ROWS_PER_PASS && threadIdx.x / VECS >= BLOCK_K) break;
            bool valid = pixel + i * ROWS_PER_PASS < last && vector < vectors;
            cp_async(to + swizzle<VECS>(threadIdx.x / VECS + i * ROWS_PER_PASS, threadIdx.x % VECS),
                     tensor + (valid ? ((pixel + i * ROWS_PER_PASS) * vectors + vector) * VECTOR : 0), valid);
        }
        pixel += BLOCK_K;
    }
};

// partial (parts, taps, C', K'), f32: the sums over each part of the pixels.
// x (N, height, width, C') and gradient (N, out_height, out_width, K'), bf16; C' = 8 * vectors, K' = 8 * out_vectors.
// blockIdx.y is the part, blockIdx.x the tile.
template <class T>
__device__ __forceinline__ void wgrad(const bf16* x, const bf16* gradient, float* partial, u32 column_tiles,
                                      u32 out_height, u32 out_width, u32 out_vectors, u32 height, u32 width,
                                      u32 vectors, u32 kernel, u32 stride, u32 pad, u32 pixels, u32 pixels_per_part) {
    __shared__ __align__(128) uint4 memory[T::BYTES / sizeof(uint4)];
    u32 first_row = blockIdx.x / column_tiles * T::BLOCK_M, first_column = blockIdx.x % column_tiles * T::BLOCK_N;
    u32 first = blockIdx.y * pixels_per_part, last = min(first + pixels_per_part, pixels);
    IteratorA<T::BLOCK_M> iterator_a(x, height, width, vectors, out_height, out_width, stride, first, last);
    iterator_a.select(first_row, kernel, pad);
    IteratorB<T::BLOCK_N> iterator_b(gradient, out_vectors, first_column, first, last);
    constexpr u32 A_VECS = T::BLOCK_M / VECTOR, B_VECS = T::BLOCK_N / VECTOR;
    typedef typename T::Mma Mma;
    u32 a = shared_address(memory), b = a + T::STAGES * T::A;
    u32 warp_a = a + Mma::template mn_major_a<A_VECS>(T::row()),
        warp_b = b + Mma::template mn_major_b<B_VECS>(T::column());
    Mma acc;
    acc.clear();
    pipeline<T::STAGES>(
        (last - first + BLOCK_K - 1) / BLOCK_K,
        [&](u32 stage) {
            iterator_a.load(a + stage * T::A);
            iterator_b.load(b + stage * T::B);
        },
        [&](u32 stage) { acc.template mma_mn_major<A_VECS, B_VECS>(warp_a + stage * T::A, warp_b + stage * T::B); });

    u32 rows = kernel * kernel * vectors * VECTOR, stats = out_vectors * VECTOR;
    for_each_vec8<T>(
        acc, memory, [](u32, u32) { return 0; },
        [&](u32 row, u32 column, const Vec8& vec, int) {
            row += first_row;
            column += first_column;
            store_vec8(partial + (blockIdx.y * rows + row) * stats, vec, true, column, stats, row < rows);
        });
}

#define WGRAD(T)                                                                                              \
    wgrad<T>(a.x, a.gradient, a.partial, a.column_tiles, a.out_height, a.out_width, a.out_vectors, a.height,  \
             a.width, a.vectors, a.kernel, a.stride, a.pad, a.pixels, a.pixels_per_part)

KERNEL conv_wgrad_bf16_64x64(const ConvWgradArgs a) { WGRAD(Tile64x64); }
KERNEL conv_wgrad_bf16_64x16(const ConvWgradArgs a) { WGRAD(Tile64x16); }
