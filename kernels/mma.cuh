// Main loop of a GEMM (sm_80) with operands of type E: tiles in shared memory, filled by cp.async, multiplied into f32
// accumulators. bf16 uses tensor cores (mma.sync.m16n8k16), f32 uses fma. Both keep the accumulators where mma.sync
// leaves them, so that everything after the main loop is the same.
//
// An operand tile is stored in shared memory as rows of 16-byte vectors. `swizzle` permutes the vectors of a row. The
// eight vectors that ldmatrix reads at once (one column of eight rows) then lie in different banks, and so do the eight
// that one cp.async of a quarter warp writes, and the rows that the lanes of an fma read.
#pragma once
#include "common.cuh"

// Values of a 16-byte vector, and depth of a stage: 64 bytes of k, so that stages of both types have one size.
template <class E> constexpr u32 PER_VECTOR = 16 / sizeof(E);
constexpr u32 K_BYTES = 64;
template <class E> constexpr u32 BLOCK_K = K_BYTES / sizeof(E);
// Vectors of a row of a K-major tile.
constexpr u32 K_VECTORS = K_BYTES / 16;

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// Copies 16 bytes from global to shared memory. Writes zeros and does not read `from` where not `valid`.
__device__ __forceinline__ void cp_async(u32 to, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <u32 PENDING> __device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Loads four 8 x 8 matrices. Lane i passes the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void ldmatrix_x4(u32 (&to)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(u32 (&to)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// Stores two floats in one access; the compiler does not always emit one for a float2.
__device__ __forceinline__ void store_shared_x2(u32 to, float first, float second) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(first), "f"(second) : "memory");
}

__device__ __forceinline__ float load_shared(u32 from) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(from) : "memory");
    return value;
}

__device__ __forceinline__ float2 load_shared_x2(u32 from) {
    float2 value;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "r"(from) : "memory");
    return value;
}

__device__ __forceinline__ float4 load_shared_x4(u32 from) {
    float4 value;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "r"(from)
                 : "memory");
    return value;
}

// acc (16 x 8) += a (16 x 16) b (16 x 8).
__device__ __forceinline__ void mma_m16n8k16(float (&acc)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The XOR pattern of a row of VECTORS vectors, a power of two. 128 bytes, one access to all banks, hold GROUP rows; the
// pattern changes with every such line.
template <u32 VECTORS> __device__ __forceinline__ u32 pattern(u32 row) {
    constexpr u32 GROUP = VECTORS < 8 ? 8 / VECTORS : 1, WIDTH = VECTORS < 8 ? VECTORS : 8;
    return row / GROUP % WIDTH;
}

// Byte offset of a vector in a tile of such rows.
template <u32 VECTORS> __device__ __forceinline__ u32 swizzle(u32 row, u32 vector) {
    return (row * VECTORS + (vector ^ pattern<VECTORS>(row))) * 16;
}

// The accumulators of one warp, WARP_M x WARP_N of its block's tile. In fragment (i, j), 16 x 8, a lane holds
// columns lane % 4 * 2 and the next one, of rows lane / 4 and lane / 4 + 8.
template <u32 WARP_M, u32 WARP_N> struct Accumulators {
    static constexpr u32 FRAGMENTS_M = WARP_M / 16, FRAGMENTS_N = WARP_N / 8;
    float acc[FRAGMENTS_M][FRAGMENTS_N][4];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (u32 i = 0; i < FRAGMENTS_M; ++i)
#pragma unroll
            for (u32 j = 0; j < FRAGMENTS_N; ++j)
#pragma unroll
                for (u32 at = 0; at < 4; ++at) acc[i][j][at] = 0.0f;
    }

    // Stores 16 * `tiles` rows, from row tile `first` on, to shared memory at `to`, PITCH floats a row.
    template <u32 PITCH> __device__ __forceinline__ void store(u32 to, u32 first, u32 tiles) {
        u32 lane = threadIdx.x % 32;
#pragma unroll
        for (u32 i = 0; i < tiles * 2; ++i)
#pragma unroll
            for (u32 j = 0; j < FRAGMENTS_N; ++j)
                store_shared_x2(to + ((i * 8 + lane / 4) * PITCH + j * 8 + lane % 4 * 2) * 4,
                                acc[first + i / 2][j][i % 2 * 2], acc[first + i / 2][j][i % 2 * 2 + 1]);
    }
};

// The products of one warp.
template <class E, u32 WARP_M, u32 WARP_N> struct WarpMma;

// bf16 on tensor cores. `a` and `b` are a lane's addresses in the first stage, from the functions for their layout.
template <u32 WARP_M, u32 WARP_N> struct WarpMma<bf16, WARP_M, WARP_N> : Accumulators<WARP_M, WARP_N> {
    using Accumulators<WARP_M, WARP_N>::acc;
    static constexpr u32 FRAGMENTS_M = WARP_M / 16, FRAGMENTS_N = WARP_N / 8, DEPTH = BLOCK_K<bf16>;

    __device__ __forceinline__ void multiply(const u32 (&a)[FRAGMENTS_M][4], const u32 (&b)[FRAGMENTS_N / 2][4]) {
#pragma unroll
        for (u32 i = 0; i < FRAGMENTS_M; ++i)
#pragma unroll
            for (u32 j = 0; j < FRAGMENTS_N; ++j)
                mma_m16n8k16(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }

    // K-major operands: a (M, K) from `row`, b (N, K) from `column`.
    __device__ __forceinline__ static u32 k_major_a(u32 row) {
        u32 lane = threadIdx.x % 32;
        return swizzle<K_VECTORS>(row + lane % 16, lane / 16);
    }
    __device__ __forceinline__ static u32 k_major_b(u32 column) {
        u32 lane = threadIdx.x % 32;
        return swizzle<K_VECTORS>(column + lane / 16 * 8 + lane % 8, lane / 8 % 2);
    }

    // Multiplies one stage. The second half of k is two vectors further. Rows have four vectors and the swizzle keeps
    // pairs together, so that is one bit of the address.
    __device__ __forceinline__ void mma_k_major(u32 a, u32 b) {
        u32 left[FRAGMENTS_M][4], right[FRAGMENTS_N / 2][4];
#pragma unroll
        for (u32 half = 0; half < K_BYTES; half += 32) {
#pragma unroll
            for (u32 i = 0; i < FRAGMENTS_M; ++i) ldmatrix_x4(left[i], (a ^ half) + i * 16 * K_BYTES);
#pragma unroll
            for (u32 j = 0; j < FRAGMENTS_N / 2; ++j) ldmatrix_x4(right[j], (b ^ half) + j * 16 * K_BYTES);
            multiply(left, right);
        }
    }

    // MN-major operands: a (K, M) with A vectors a row, b (K, N) with B.
    template <u32 A> __device__ __forceinline__ static u32 mn_major_a(u32 row) {
        u32 lane = threadIdx.x % 32;
        return swizzle<A>(lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2);
    }
    template <u32 B> __device__ __forceinline__ static u32 mn_major_b(u32 column) {
        u32 lane = threadIdx.x % 32;
        return swizzle<B>(lane % 16, column / 8 + lane / 16);
    }

    // Multiplies one stage. The next 16 rows or columns are two vectors further: an XOR too.
    template <u32 A, u32 B> __device__ __forceinline__ void mma_mn_major(u32 a, u32 b) {
        u32 left[FRAGMENTS_M][4], right[FRAGMENTS_N / 2][4];
#pragma unroll
        for (u32 k = 0; k < DEPTH; k += 16) {
#pragma unroll
            for (u32 i = 0; i < FRAGMENTS_M; ++i) ldmatrix_x4_trans(left[i], (a ^ i * 32) + k * A * 16);
#pragma unroll
            for (u32 j = 0; j < FRAGMENTS_N / 2; ++j) ldmatrix_x4_trans(right[j], (b ^ j * 32) + k * B * 16);
            multiply(left, right);
        }
    }
};

// f32 with fma, every sum in the order of k.
template <u32 WARP_M, u32 WARP_N> struct WarpMma<float, WARP_M, WARP_N> : Accumulators<WARP_M, WARP_N> {
    using Accumulators<WARP_M, WARP_N>::acc;
    static constexpr u32 FRAGMENTS_M = WARP_M / 16, FRAGMENTS_N = WARP_N / 8, DEPTH = BLOCK_K<float>;

    // K-major operands: the lane's first row of a and first column of b. The swizzle repeats every eight rows, and a
    // lane's two columns share it.
    __device__ __forceinline__ static u32 k_major_a(u32 row) {
        return swizzle<K_VECTORS>(row + threadIdx.x % 32 / 4, 0);
    }
    __device__ __forceinline__ static u32 k_major_b(u32 column) {
        return swizzle<K_VECTORS>(column + threadIdx.x % 4 * 2, 0);
    }

    // Multiplies one stage, four values of k at a time.
    __device__ __forceinline__ void mma_k_major(u32 a, u32 b) {
#pragma unroll
        for (u32 vector = 0; vector < K_BYTES; vector += 16) {
            float4 right[FRAGMENTS_N][2];
#pragma unroll
            for (u32 j = 0; j < FRAGMENTS_N; ++j)
#pragma unroll
                for (u32 e = 0; e < 2; ++e) right[j][e] = load_shared_x4((b ^ vector) + (j * 8 + e) * K_BYTES);
#pragma unroll
            for (u32 i = 0; i < FRAGMENTS_M * 2; ++i) {
                float4 left = load_shared_x4((a ^ vector) + i * 8 * K_BYTES);
#pragma unroll
                for (u32 j = 0; j < FRAGMENTS_N; ++j)
#pragma unroll
                    for (u32 e = 0; e < 2; ++e) {
                        float& sum = acc[i / 2][j][i % 2 * 2 + e];
                        sum = fmaf(left.x, right[j][e].x, sum);
                        sum = fmaf(left.y, right[j][e].y, sum);
                        sum = fmaf(left.z, right[j][e].z, sum);
                        sum = fmaf(left.w, right[j][e].w, sum);
                    }
            }
        }
    }

    // MN-major operands, at k = 0, where the swizzle changes nothing.
    template <u32 A> __device__ __forceinline__ static u32 mn_major_a(u32 row) {
        return (row + threadIdx.x % 32 / 4) * 4;
    }
    template <u32 B> __device__ __forceinline__ static u32 mn_major_b(u32 column) {
        return (column + threadIdx.x % 4 * 2) * 4;
    }

    // Multiplies one stage. The next eight rows or columns are two vectors further: an XOR, as the swizzle.
    template <u32 A, u32 B> __device__ __forceinline__ void mma_mn_major(u32 a, u32 b) {
#pragma unroll
        for (u32 k = 0; k < DEPTH; ++k) {
            float2 right[FRAGMENTS_N];
#pragma unroll
            for (u32 j = 0; j < FRAGMENTS_N; ++j)
                right[j] = load_shared_x2((b ^ (j * 2 ^ pattern<B>(k)) * 16) + k * B * 16);
#pragma unroll
            for (u32 i = 0; i < FRAGMENTS_M * 2; ++i) {
                float left = load_shared((a ^ (i * 2 ^ pattern<A>(k)) * 16) + k * A * 16);
#pragma unroll
                for (u32 j = 0; j < FRAGMENTS_N; ++j) {
                    acc[i / 2][j][i % 2 * 2] = fmaf(left, right[j].x, acc[i / 2][j][i % 2 * 2]);
                    acc[i / 2][j][i % 2 * 2 + 1] = fmaf(left, right[j].y, acc[i / 2][j][i % 2 * 2 + 1]);
                }
            }
        }
    }
};

// The operands' type E, the tile of a block (M, N), the tile of each of its four warps (WM, WN), and the number of
// pipeline stages S.
template <class E, u32 M, u32 N, u32 WM, u32 WN, u32 S = 3> struct Tile {
    static constexpr u32 BLOCK_M = M, BLOCK_N = N, WARP_M = WM, WARP_N = WN, STAGES = S;
    // Bytes of shared memory of a stage's operands. The epilogue uses the same memory: each warp stores SLAB rows of
    // accumulators at a time, in rows 8 floats longer than needed, so that lanes storing to four rows hit different
    // banks.
    static constexpr u32 A = M * K_BYTES, B = N * K_BYTES, STAGE_BYTES = STAGES * (A + B);
    static constexpr u32 SLAB = WM < 32 ? WM : 32, PITCH = WN + 8, SLAB_BYTES = BLOCK / 32 * SLAB * PITCH * 4;
    static constexpr u32 BYTES = STAGE_BYTES > SLAB_BYTES ? STAGE_BYTES : SLAB_BYTES;
    static_assert(M / WM * (N / WN) * 32 == BLOCK, "four warps");
    typedef WarpMma<E, WM, WN> Mma;
    typedef E Element;

    __device__ __forceinline__ static u32 row() { return threadIdx.x / 32 / (N / WN) * WM; }
    __device__ __forceinline__ static u32 column() { return threadIdx.x / 32 % (N / WN) * WN; }
};

// Software pipeline: `load(stage)` starts the copies of a later step while `compute(stage)` multiplies what has
// arrived. One barrier a step serves both: after it, all copies of the current stage have arrived, and every warp
// has finished with the stage that is filled next.
template <u32 STAGES, class Load, class Compute>
__device__ __forceinline__ void pipeline(u32 steps, Load load, Compute compute) {
#pragma unroll
    for (u32 step = 0; step < STAGES - 1; ++step) {
        if (step < steps) load(step);
        cp_async_commit();
    }
    u32 full = 0, empty = STAGES - 1;
    for (u32 step = 0; step < steps; ++step) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < steps) load(empty);
        cp_async_commit();
        compute(full);
        full = full + 1 == STAGES ? 0 : full + 1;
        empty = empty + 1 == STAGES ? 0 : empty + 1;
    }
}

__device__ __forceinline__ u32 round_up_to_vector(u32 channels) { return (channels + VECTOR - 1) / VECTOR * VECTOR; }

// Number of taps in a row or column of `kernel` whose index modulo `stride` is below `residue`.
__device__ __forceinline__ u32 taps_below(u32 residue, u32 kernel, u32 stride) {
    return kernel / stride * residue + min(residue, kernel % stride);
}

// The position of a tap in a dgrad filter. Its taps are sorted by (row % stride, column % stride), so that the taps of
// one phase (conv.cu) are contiguous. With stride 1 the order is unchanged.
__device__ __forceinline__ u32 dgrad_tap_index(u32 tap, u32 kernel, u32 stride) {
    u32 r = tap / kernel, s = tap % kernel;
    u32 before_y = taps_below(r % stride, kernel, stride), before_x = taps_below(s % stride, kernel, stride);
    u32 taps_y = taps_below(r % stride + 1, kernel, stride) - before_y;
    u32 taps_x = taps_below(s % stride + 1, kernel, stride) - before_x;
    return before_y * kernel + taps_y * before_x + r / stride * taps_x + s / stride;
}
