// Gradient of a convolution's weights, w_gradient[k,tap,c] = the sum over output pixels of x * gradient, with the
// operands of conv.cu. An implicit GEMM with
//   M: (tap, in channel)   N: out channels   K: output pixels
// Both operands are MN-major; in bf16 ldmatrix.trans turns them.
//
// Split-K: the pixels are split into parts whose sizes depend on the shape alone. Every part writes partial sums of its
// own, and conv_wgrad_reduce adds them in order, so that a run repeats to the bit.
#include "args.cuh"
#include "epilogue.cuh"

template <class E> using Tile64x64 = Tile<E, 64, 64, 32, 32>;
template <class E> using Tile64x16 = Tile<E, 64, 16, 16, 16>;

// Iterator of the A tile over x (N, height, width, C'): a thread copies one vector of channels of one tap, for every
// ROWS_PER_PASS-th output pixel. Its pixel (n, p, q) is a mixed-radix counter: a stage adds BLOCK_K without a division.
template <class E, u32 BLOCK_M> struct IteratorA {
    static constexpr u32 VECS = BLOCK_M / PER_VECTOR<E>, ROWS_PER_PASS = BLOCK / VECS,
                         ROWS_PER_THREAD = BLOCK_K<E> / ROWS_PER_PASS;
    const E* tensor;
    u32 height, width, vectors, out_height, out_width, stride;
    u32 pixel, last, n[ROWS_PER_THREAD], p[ROWS_PER_THREAD], q[ROWS_PER_THREAD];
    u32 next_n, next_p, next_q;
    // The tap's offset from the output pixel: tap minus padding.
    int offset_y, offset_x;
    u32 vector;
    bool valid;

    __device__ __forceinline__ IteratorA(const E* tensor, u32 height, u32 width, u32 vectors, u32 out_height,
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
        next_q = BLOCK_K<E> % out_width;
        next_p = BLOCK_K<E> / out_width % out_height;
        next_n = BLOCK_K<E> / out_width / out_height;
    }

    // Selects the tap and channels of this thread's vector, in the tile from row `row` of the GEMM on.
    __device__ __forceinline__ void select(u32 row, u32 kernel, u32 pad) {
        u32 at = row / PER_VECTOR<E> + threadIdx.x % VECS, tap = at / vectors;
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
                     tensor + (inside ? at * PER_VECTOR<E> : 0), inside);
            q[i] += next_q;
            bool carry = q[i] >= out_width;
            q[i] -= carry ? out_width : 0;
            p[i] += next_p + carry;
            carry = p[i] >= out_height;
            p[i] -= carry ? out_height : 0;
            n[i] += next_n + carry;
        }
        pixel += BLOCK_K<E>;
    }
};

// Iterator of the B tile over gradient (pixels, K'): one vector of channels for every ROWS_PER_PASS-th pixel.
template <class E, u32 BLOCK_N> struct IteratorB {
    static constexpr u32 VECS = BLOCK_N / PER_VECTOR<E>, ROWS_PER_PASS = BLOCK / VECS;
    const E* tensor;
    u32 vectors, vector, pixel, last;

    __device__ __forceinline__ IteratorB(const E* tensor, u32 vectors, u32 column, u32 first, u32 last)
        : tensor(tensor), vectors(vectors), vector(column / PER_VECTOR<E> + threadIdx.x % VECS),
          pixel(first + threadIdx.x / VECS), last(last) {}

    __device__ __forceinline__ void load(u32 to) {
#pragma unroll
        for (u32 i = 0; i < (BLOCK_K<E> + ROWS_PER_PASS - 1) / ROWS_PER_PASS; ++i) {
            if (BLOCK_K<E> < ROWS_PER_PASS && threadIdx.x / VECS >= BLOCK_K<E>) break;
            bool valid = pixel + i * ROWS_PER_PASS < last && vector < vectors;
            cp_async(to + swizzle<VECS>(threadIdx.x / VECS + i * ROWS_PER_PASS, threadIdx.x % VECS),
                     tensor + (valid ? ((pixel + i * ROWS_PER_PASS) * vectors + vector) * PER_VECTOR<E> : 0), valid);
        }
        pixel += BLOCK_K<E>;
    }
};

// partial (parts, taps, C', K'), f32: the sums over each part of the pixels.
// x (N, height, width, C') and gradient (N, out_height, out_width, K') of E; C' and K' are vectors and out_vectors of
// 16 bytes.
// blockIdx.y is the part, blockIdx.x the tile.
template <class T, class Args> __device__ __forceinline__ void wgrad(const Args& a) {
    typedef typename T::Element E;
    u32 vectors = a.vectors, kernel = a.kernel, column_tiles = a.column_tiles;
    __shared__ __align__(128) uint4 memory[T::BYTES / sizeof(uint4)];
    u32 first_row = blockIdx.x / column_tiles * T::BLOCK_M, first_column = blockIdx.x % column_tiles * T::BLOCK_N;
    u32 first = blockIdx.y * a.pixels_per_part, last = min(first + a.pixels_per_part, a.pixels);
    IteratorA<E, T::BLOCK_M> iterator_a(a.x, a.height, a.width, vectors, a.out_height, a.out_width, a.stride, first,
                                        last);
    iterator_a.select(first_row, kernel, a.pad);
    IteratorB<E, T::BLOCK_N> iterator_b(a.gradient, a.out_vectors, first_column, first, last);
    constexpr u32 A_VECS = T::BLOCK_M / PER_VECTOR<E>, B_VECS = T::BLOCK_N / PER_VECTOR<E>;
    typedef typename T::Mma Mma;
    u32 tile_a = shared_address(memory), tile_b = tile_a + T::STAGES * T::A;
    u32 warp_a = tile_a + Mma::template mn_major_a<A_VECS>(T::row()),
        warp_b = tile_b + Mma::template mn_major_b<B_VECS>(T::column());
    Mma acc;
    acc.clear();
    pipeline<T::STAGES>(
        (last - first + BLOCK_K<E> - 1) / BLOCK_K<E>,
        [&](u32 stage) {
            iterator_a.load(tile_a + stage * T::A);
            iterator_b.load(tile_b + stage * T::B);
        },
        [&](u32 stage) { acc.template mma_mn_major<A_VECS, B_VECS>(warp_a + stage * T::A, warp_b + stage * T::B); });

    u32 rows = kernel * kernel * vectors * PER_VECTOR<E>, columns = a.out_vectors * PER_VECTOR<E>;
    for_each_vec8<T>(
        acc, memory, [](u32, u32) { return 0; },
        [&](u32 row, u32 column, const Vec8& vec, int) {
            row += first_row;
            column += first_column;
            store_vec8(a.partial + (blockIdx.y * rows + row) * columns, vec, true, column, columns, row < rows);
        });
}

KERNEL conv_wgrad_bf16_64x64(const ConvWgradBf16Args a) { wgrad<Tile64x64<bf16>>(a); }
KERNEL conv_wgrad_bf16_64x16(const ConvWgradBf16Args a) { wgrad<Tile64x16<bf16>>(a); }
KERNEL conv_wgrad_f32_64x64(const ConvWgradF32Args a) { wgrad<Tile64x64<float>>(a); }
KERNEL conv_wgrad_f32_64x16(const ConvWgradF32Args a) { wgrad<Tile64x16<float>>(a); }

// Parts that a thread loads at once.
constexpr u32 PARTS_AT_ONCE = 8;

// weight_gradient (K, C, taps) = the sum of partial (parts, taps, C', K') over the parts, in order.
// Items: (tap, c, k), the last fastest, as the partial sums lie.
KERNEL conv_wgrad_reduce(const ConvWgradReduceArgs a) {
    u32 item = global_index();
    if (item >= a.total) return;
    u32 k = item % a.out_channels, rest = item / a.out_channels;
    u32 c = rest % a.in_channels, tap = rest / a.in_channels;
    const float* from = a.partial + (tap * a.padded_in + c) * a.padded_out + k;
    u32 size = a.taps * a.padded_in * a.padded_out;
    float sum = 0.0f;
    // Latency-bound: what counts is the number of loads in flight.
#pragma unroll 1
    for (u32 first = 0; first < a.parts; first += PARTS_AT_ONCE) {
        float one[PARTS_AT_ONCE];
#pragma unroll
        for (u32 j = 0; j < PARTS_AT_ONCE; ++j) one[j] = first + j < a.parts ? from[(first + j) * size] : -0.0f;
#pragma unroll
        for (u32 j = 0; j < PARTS_AT_ONCE; ++j) sum += one[j];
    }
    a.weight_gradient[(k * a.in_channels + c) * a.taps + tap] = sum;
}
