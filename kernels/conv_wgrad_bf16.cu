// wgrad on tensor cores (conv.cu's formula, conv_bf16.cu's operands): an implicit matrix product whose rows
// are (tap, in channel), whose columns are out channels, and whose k are output pixels. Both operands hold k
// across, which ldmatrix transposes.
//
// The pixels are cut into parts by sizes alone; every part gives sums of its own, and conv_wgrad_reduce adds them
// in order.
#include "epilogue.cuh"

typedef Tile<64, 64, 32, 32> Wide;
typedef Tile<64, 16, 16, 16> Narrow;

// x (N, height, width, C') as k of the product: a thread copies one vector of channels, of one tap, of every
// AT_ONCE-th output pixel. A pixel is digits (n, p, q) of one number, to which a stage adds DEPTH without a
// division.
template <u32 ROWS> struct Inputs {
    static constexpr u32 ACROSS = ROWS / VECTOR, AT_ONCE = BLOCK / ACROSS, EACH = DEPTH / AT_ONCE;
    const bf16* tensor;
    u32 height, width, vectors, out_height, out_width, stride;
    u32 pixel, last, n[EACH], p[EACH], q[EACH];
    u32 next_n, next_p, next_q;
    // Of the tap, less the padding.
    int down, across;
    u32 vector;
    bool there;

    __device__ __forceinline__ Inputs(const bf16* tensor, u32 height, u32 width, u32 vectors, u32 out_height,
                                      u32 out_width, u32 stride, u32 first, u32 last)
        : tensor(tensor), height(height), width(width), vectors(vectors), out_height(out_height),
          out_width(out_width), stride(stride), pixel(first + threadIdx.x / ACROSS), last(last) {
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) {
            u32 at = pixel + i * AT_ONCE;
            q[i] = at % out_width;
            p[i] = at / out_width % out_height;
            n[i] = at / out_width / out_height;
        }
        next_q = DEPTH % out_width;
        next_p = DEPTH / out_width % out_height;
        next_n = DEPTH / out_width / out_height;
    }

    // The tap and channels of row `row` of the product and the seven behind it.
    __device__ __forceinline__ void take(u32 row, u32 kernel, u32 pad) {
        u32 at = row / VECTOR + threadIdx.x % ACROSS, tap = at / vectors;
        vector = at % vectors;
        there = tap < kernel * kernel;
        down = (int)(tap / kernel) - (int)pad;
        across = (int)(tap % kernel) - (int)pad;
    }

    __device__ __forceinline__ void fill(u32 to) {
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) {
            int row = (int)(p[i] * stride) + down, column = (int)(q[i] * stride) + across;
            bool inside = there && pixel + i * AT_ONCE < last && (u32)row < height && (u32)column < width;
            u32 at = ((n[i] * height + row) * width + column) * vectors + vector;
            copy_vector(to + place<ACROSS>(threadIdx.x / ACROSS + i * AT_ONCE, threadIdx.x % ACROSS),
                        tensor + (inside ? at * VECTOR : 0), inside);
            q[i] += next_q;
            bool carry = q[i] >= out_width;
            q[i] -= carry ? out_width : 0;
            p[i] += next_p + carry;
            carry = p[i] >= out_height;
            p[i] -= carry ? out_height : 0;
            n[i] += next_n + carry;
        }
        pixel += DEPTH;
    }
};

// gradient (pixels, K') as k of the product: a vector of channels of every AT_ONCE-th pixel.
template <u32 COLUMNS> struct Gradients {
    static constexpr u32 ACROSS = COLUMNS / VECTOR, AT_ONCE = BLOCK / ACROSS;
    const bf16* tensor;
    u32 vectors, vector, pixel, last;

    __device__ __forceinline__ Gradients(const bf16* tensor, u32 vectors, u32 column, u32 first, u32 last)
        : tensor(tensor), vectors(vectors), vector(column / VECTOR + threadIdx.x % ACROSS),
          pixel(first + threadIdx.x / ACROSS), last(last) {}

    __device__ __forceinline__ void fill(u32 to) {
#pragma unroll
        for (u32 i = 0; i < (DEPTH + AT_ONCE - 1) / AT_ONCE; ++i) {
            if (DEPTH < AT_ONCE && threadIdx.x / ACROSS >= DEPTH) break;
            bool there = pixel + i * AT_ONCE < last && vector < vectors;
            copy_vector(to + place<ACROSS>(threadIdx.x / ACROSS + i * AT_ONCE, threadIdx.x % ACROSS),
                        tensor + (there ? ((pixel + i * AT_ONCE) * vectors + vector) * VECTOR : 0), there);
        }
        pixel += DEPTH;
    }
};

// partial (parts, taps, C', K') = the sums over one part of the pixels each.
// x (N, height, width, C'); gradient (N, out_height, out_width, K'), C' = 8 * vectors, K' = 8 * out_vectors.
// blockIdx.y is the part, blockIdx.x the tile.
template <class T>
__device__ __forceinline__ void wgrad(const bf16* x, const bf16* gradient, float* partial, u32 column_tiles,
                                      u32 out_height, u32 out_width, u32 out_vectors, u32 height, u32 width,
                                      u32 vectors, u32 kernel, u32 stride, u32 pad, u32 pixels,
                                      u32 pixels_per_part) {
    __shared__ __align__(128) uint4 memory[T::BYTES / sizeof(uint4)];
    u32 first_row = blockIdx.x / column_tiles * T::ROWS, first_column = blockIdx.x % column_tiles * T::COLUMNS;
    u32 first = blockIdx.y * pixels_per_part, last = min(first + pixels_per_part, pixels);
    Inputs<T::ROWS> inputs(x, height, width, vectors, out_height, out_width, stride, first, last);
    inputs.take(first_row, kernel, pad);
    Gradients<T::COLUMNS> gradients(gradient, out_vectors, first_column, first, last);
    constexpr u32 LEFT = T::ROWS / VECTOR, RIGHT = T::COLUMNS / VECTOR;
    typedef typename T::WarpSums Warp;
    u32 a = shared_address(memory), b = a + T::STAGES * T::A;
    u32 own_a = a + Warp::template across_a<LEFT>(T::row()), own_b = b + Warp::template across_b<RIGHT>(T::column());
    Warp sums;
    sums.clear();
    pipeline<T::STAGES>(
        (last - first + DEPTH - 1) / DEPTH,
        [&](u32 stage) {
            inputs.fill(a + stage * T::A);
            gradients.fill(b + stage * T::B);
        },
        [&](u32 stage) { sums.template add_across<LEFT, RIGHT>(own_a + stage * T::A, own_b + stage * T::B); });

    u32 rows = kernel * kernel * vectors * VECTOR, columns = out_vectors * VECTOR;
    each_octet<T>(
        sums, memory, [](u32, u32) { return 0; },
        [&](u32 row, u32 column, const Octet& octet, int) {
            row += first_row;
            column += first_column;
            store_floats(partial + (blockIdx.y * rows + row) * columns, octet, true, column, columns, row < rows);
        });
}

#define WGRAD(name, T)                                                                                        \
    KERNEL name(const bf16* x, const bf16* gradient, float* partial, u32 column_tiles, u32 out_height,        \
                u32 out_width, u32 out_vectors, u32 height, u32 width, u32 vectors, u32 kernel, u32 stride,   \
                u32 pad, u32 pixels, u32 pixels_per_part) {                                                   \
        wgrad<T>(x, gradient, partial, column_tiles, out_height, out_width, out_vectors, height, width,       \
                 vectors, kernel, stride, pad, pixels, pixels_per_part);                                      \
    }
WGRAD(conv_wgrad_bf16_64x64, Wide)
WGRAD(conv_wgrad_bf16_64x16, Narrow)
