// Tensor cores (sm_80): tiles of bf16 in shared memory, the copies that fill them, the products.
//
// An operand's tile lies in shared memory as rows of 16-byte vectors, eight values each. A vector's place
// in its row is permuted (`place`), so that the eight vectors that one pass of ldmatrix reads, one column
// of eight rows, lie in different banks, as do the eight that a copy writes, a row or two.
//
// Products are mma.sync.m16n8k16: bf16 operands, exact products, sums in f32.
#pragma once
#include "common.cuh"

// Values of k in a stage.
constexpr u32 DEPTH = 32;

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// 16 bytes from global to shared memory, or zeros, without a look at `from`, where there are none.
__device__ __forceinline__ void copy_vector(u32 to, const bf16* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <u32 PENDING> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four 8 x 8 matrices; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrices(u32 (&to)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

__device__ __forceinline__ void load_transposed(u32 (&to)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// Two floats to shared memory, in one access, which the compiler doesn't always make of a float2.
__device__ __forceinline__ void store_two(u32 to, float first, float second) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(first), "f"(second) : "memory");
}

// sum (16 x 8) += a (16 x 16) b (16 x 8).
__device__ __forceinline__ void multiply_add(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Byte of a vector in a tile whose rows have VECTORS of them, a power of two: 128 bytes, all banks, hold
// GROUP rows, and what is added modulo two changes from one such line to the next.
template <u32 VECTORS> __device__ __forceinline__ u32 place(u32 row, u32 vector) {
    constexpr u32 GROUP = VECTORS < 8 ? 8 / VECTORS : 1, WIDTH = VECTORS < 8 ? VECTORS : 8;
    return (row * VECTORS + (vector ^ row / GROUP % WIDTH)) * 16;
}

// The sums of a warp, ROWS x COLUMNS of its block's tile. Of tile (i, j), 16 x 8, a lane holds two
// neighbouring columns, lane % 4 * 2, of rows lane / 4 and lane / 4 + 8.
template <u32 ROWS, u32 COLUMNS> struct Sums {
    static constexpr u32 DOWN = ROWS / 16, ACROSS = COLUMNS / 8;
    float sum[DOWN][ACROSS][4];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (u32 i = 0; i < DOWN; ++i)
#pragma unroll
            for (u32 j = 0; j < ACROSS; ++j)
#pragma unroll
                for (u32 at = 0; at < 4; ++at) sum[i][j][at] = 0.0f;
    }

    __device__ __forceinline__ void multiply(const u32 (&a)[DOWN][4], const u32 (&b)[ACROSS / 2][4]) {
#pragma unroll
        for (u32 i = 0; i < DOWN; ++i)
#pragma unroll
            for (u32 j = 0; j < ACROSS; ++j)
                multiply_add(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }

    // Where a lane's matrices begin in operands whose k lies along their rows: a (rows, k) from `row`, b (columns, k)
    // from `column` on.
    __device__ __forceinline__ static u32 along_a(u32 row) {
        u32 lane = threadIdx.x % 32;
        return place<DEPTH / VECTOR>(row + lane % 16, lane / 16);
    }
    __device__ __forceinline__ static u32 along_b(u32 column) {
        u32 lane = threadIdx.x % 32;
        return place<DEPTH / VECTOR>(column + lane / 16 * 8 + lane % 8, lane / 8 % 2);
    }

    // A stage of such operands, from the lane's addresses. The second half of k is two vectors on: a bit of the address,
    // for rows have four vectors and permutations keep pairs of them.
    __device__ __forceinline__ void add_along(u32 a, u32 b) {
        u32 left[DOWN][4], right[ACROSS / 2][4];
#pragma unroll
        for (u32 half = 0; half < DEPTH * 2; half += 32) {
#pragma unroll
            for (u32 i = 0; i < DOWN; ++i) load_matrices(left[i], (a ^ half) + i * 16 * DEPTH * 2);
#pragma unroll
            for (u32 j = 0; j < ACROSS / 2; ++j) load_matrices(right[j], (b ^ half) + j * 16 * DEPTH * 2);
            multiply(left, right);
        }
    }

    // The same of operands that hold k across: a (k, rows) with A vectors a row, b (k, columns) with B.
    template <u32 A> __device__ __forceinline__ static u32 across_a(u32 row) {
        u32 lane = threadIdx.x % 32;
        return place<A>(lane / 16 * 8 + lane % 8, row / VECTOR + lane / 8 % 2);
    }
    template <u32 B> __device__ __forceinline__ static u32 across_b(u32 column) {
        u32 lane = threadIdx.x % 32;
        return place<B>(lane % 16, column / VECTOR + lane / 16);
    }

    // A stage of such operands. The next 16 rows or columns are two vectors on, a bit or two of the address.
    template <u32 A, u32 B> __device__ __forceinline__ void add_across(u32 a, u32 b) {
        u32 left[DOWN][4], right[ACROSS / 2][4];
#pragma unroll
        for (u32 k = 0; k < DEPTH; k += 16) {
#pragma unroll
            for (u32 i = 0; i < DOWN; ++i) load_transposed(left[i], (a ^ i * 32) + k * A * 16);
#pragma unroll
            for (u32 j = 0; j < ACROSS / 2; ++j) load_transposed(right[j], (b ^ j * 32) + k * B * 16);
            multiply(left, right);
        }
    }

    // 16 * `tiles` of its rows, from the `first` tile on, to rows of PITCH floats in shared memory, at address `to`.
    template <u32 PITCH> __device__ __forceinline__ void store(u32 to, u32 first, u32 tiles) {
        u32 lane = threadIdx.x % 32;
#pragma unroll
        for (u32 i = 0; i < tiles * 2; ++i)
#pragma unroll
            for (u32 j = 0; j < ACROSS; ++j)
                store_two(to + ((i * 8 + lane / 4) * PITCH + j * 8 + lane % 4 * 2) * 4,
                          sum[first + i / 2][j][i % 2 * 2], sum[first + i / 2][j][i % 2 * 2 + 1]);
    }
};

// What a block makes, and each of its four warps; and how many stages there are: while one is used, the copies of the
// others are on their way.
template <u32 R, u32 C, u32 WARP_R, u32 WARP_C, u32 S = 3> struct Tile {
    static constexpr u32 ROWS = R, COLUMNS = C, WARP_ROWS = WARP_R, WARP_COLUMNS = WARP_C, STAGES = S;
    // Bytes of shared memory: the stages' operands, a and b. Afterwards each warp lays down some rows of its sums at a
    // time; these are 8 floats longer, so that lanes that store to four of them meet different banks.
    static constexpr u32 A = R * DEPTH * 2, B = C * DEPTH * 2, STAGED = STAGES * (A + B);
    static constexpr u32 SLAB = WARP_R < 32 ? WARP_R : 32, PITCH = WARP_C + 8, SLABS = BLOCK / 32 * SLAB * PITCH * 4;
    static constexpr u32 BYTES = STAGED > SLABS ? STAGED : SLABS;
    static_assert(R / WARP_R * (C / WARP_C) * 32 == BLOCK, "four warps");
    typedef Sums<WARP_R, WARP_C> WarpSums;

    __device__ __forceinline__ static u32 row() { return threadIdx.x / 32 / (C / WARP_C) * WARP_R; }
    __device__ __forceinline__ static u32 column() { return threadIdx.x / 32 % (C / WARP_C) * WARP_C; }
};

// `fill(stage)` starts the copies of the next step, `use(stage)` multiplies what an earlier one brought.
// One barrier a step does for both: behind it all copies of the stage have arrived, and the stage that
// is filled next has been used by every warp.
template <u32 STAGES, class Fill, class Use> __device__ __forceinline__ void pipeline(u32 steps, Fill fill, Use use) {
#pragma unroll
    for (u32 step = 0; step < STAGES - 1; ++step) {
        if (step < steps) fill(step);
        commit_copies();
    }
    u32 full = 0, empty = STAGES - 1;
    for (u32 step = 0; step < steps; ++step) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < steps) fill(empty);
        commit_copies();
        use(full);
        full = full + 1 == STAGES ? 0 : full + 1;
        empty = empty + 1 == STAGES ? 0 : empty + 1;
    }
}

__device__ __forceinline__ u32 whole_vectors(u32 channels) { return (channels + VECTOR - 1) / VECTOR * VECTOR; }

// Taps of a row or column of `kernel` whose place modulo `stride` is below `residue`.
__device__ __forceinline__ u32 taps_below(u32 residue, u32 kernel, u32 stride) {
    return kernel / stride * residue + min(residue, kernel % stride);
}

// The place of a tap among dgrad's, which are sorted by their rows modulo `stride`, then by their columns, so that those
// of a phase (conv_bf16.cu) follow each other; with stride 1 they stay as they are.
__device__ __forceinline__ u32 dgrad_place(u32 tap, u32 kernel, u32 stride) {
    u32 r = tap / kernel, s = tap % kernel;
    u32 before_y = taps_below(r % stride, kernel, stride), before_x = taps_below(s % stride, kernel, stride);
    u32 down = taps_below(r % stride + 1, kernel, stride) - before_y;
    u32 across = taps_below(s % stride + 1, kernel, stride) - before_x;
    return before_y * kernel + down * before_x + r / stride * across + s / stride;
}
