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
// Stages: while one is used, the copies of the next two are on their way.
constexpr u32 STAGES = 3;

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

    // A stage whose operands hold k along their rows: a (rows, k) at address `a`, b (columns, k).
    __device__ __forceinline__ void add_along(u32 a, u32 b, u32 row, u32 column) {
        u32 lane = threadIdx.x % 32, left[DOWN][4], right[ACROSS / 2][4];
#pragma unroll
        for (u32 k = 0; k < DEPTH / VECTOR; k += 2) {
#pragma unroll
            for (u32 i = 0; i < DOWN; ++i)
                load_matrices(left[i], a + place<DEPTH / VECTOR>(row + i * 16 + lane % 16, k + lane / 16));
#pragma unroll
            for (u32 j = 0; j < ACROSS / 2; ++j)
                load_matrices(right[j], b + place<DEPTH / VECTOR>(column + j * 16 + lane / 16 * 8 + lane % 8,
                                                                  k + lane / 8 % 2));
            multiply(left, right);
        }
    }

    // A stage whose operands hold k across: a (k, rows) with A vectors a row, b (k, columns) with B.
    template <u32 A, u32 B> __device__ __forceinline__ void add_across(u32 a, u32 b, u32 row, u32 column) {
        u32 lane = threadIdx.x % 32, left[DOWN][4], right[ACROSS / 2][4];
#pragma unroll
        for (u32 k = 0; k < DEPTH; k += 16) {
#pragma unroll
            for (u32 i = 0; i < DOWN; ++i)
                load_transposed(left[i], a + place<A>(k + lane / 16 * 8 + lane % 8,
                                                      row / VECTOR + i * 2 + lane / 8 % 2));
#pragma unroll
            for (u32 j = 0; j < ACROSS / 2; ++j)
                load_transposed(right[j],
                                b + place<B>(k + lane % 16, column / VECTOR + j * 2 + lane / 16));
            multiply(left, right);
        }
    }

    // To rows of PITCH floats in shared memory, at address `to`.
    template <u32 PITCH> __device__ __forceinline__ void store(u32 to, u32 row, u32 column) {
        u32 lane = threadIdx.x % 32;
#pragma unroll
        for (u32 i = 0; i < DOWN * 2; ++i)
#pragma unroll
            for (u32 j = 0; j < ACROSS; ++j)
                store_two(to + ((row + i * 8 + lane / 4) * PITCH + column + j * 8 + lane % 4 * 2) * 4,
                          sum[i / 2][j][i % 2 * 2], sum[i / 2][j][i % 2 * 2 + 1]);
    }
};

// What a block makes, and each of its four warps.
template <u32 R, u32 C, u32 WARP_R, u32 WARP_C> struct Tile {
    static constexpr u32 ROWS = R, COLUMNS = C;
    // Shared memory: the stages' operands, a and b, and afterwards the sums; their rows are 8 floats longer,
    // so that lanes that store to four of them meet different banks.
    static constexpr u32 A = R * DEPTH * 2, B = C * DEPTH * 2, PITCH = C + 8;
    static constexpr u32 STAGED = STAGES * (A + B), SUMMED = R * PITCH * 4;
    static constexpr u32 BYTES = STAGED > SUMMED ? STAGED : SUMMED;
    static_assert(R / WARP_R * (C / WARP_C) * 32 == BLOCK, "four warps");
    typedef Sums<WARP_R, WARP_C> WarpSums;

    __device__ __forceinline__ static u32 row() { return threadIdx.x / 32 / (C / WARP_C) * WARP_R; }
    __device__ __forceinline__ static u32 column() { return threadIdx.x / 32 % (C / WARP_C) * WARP_C; }
};

// `fill(stage)` starts the copies of the next step, `use(stage)` multiplies what an earlier one brought.
// One barrier a step does for both: behind it all copies of the stage have arrived, and the stage that
// is filled next has been used by every warp.
template <class Fill, class Use> __device__ __forceinline__ void pipeline(u32 steps, Fill fill, Use use) {
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

// Hands the sums of a block, all of whose warps call this, to `each(row, column, two neighbouring sums)`: a warp
// sees whole rows, and what is written for each sum is written once.
template <class T, class Each>
__device__ __forceinline__ void each_pair(typename T::WarpSums& sums, uint4* memory, Each each) {
    const float* values = (const float*)memory;
    // No warp reads operands any more.
    __syncthreads();
    sums.template store<T::PITCH>(shared_address(memory), T::row(), T::column());
    __syncthreads();
    // Counted in steps that all threads take, so that the compiler sees a warp stay together.
#pragma unroll 1
    for (u32 step = 0; step < T::ROWS * T::COLUMNS / 2 / BLOCK; ++step) {
        u32 i = step * BLOCK + threadIdx.x;
        u32 row = i / (T::COLUMNS / 2), column = i % (T::COLUMNS / 2) * 2;
        // Of four rows the middle ones change places: half a warp with two rows then meets all banks.
        row = row / 4 * 4 + row % 2 * 2 + row / 2 % 2;
        each(row, column, *(const float2*)(values + row * T::PITCH + column));
    }
}

__device__ __forceinline__ u32 whole_vectors(u32 channels) { return (channels + VECTOR - 1) / VECTOR * VECTOR; }

// Two neighbouring channels of an f32 tensor, in one access where `aligned`; the second only if `both`.
__device__ __forceinline__ void add_pair(float2& value, const float* from, bool aligned, bool both) {
    float2 more = aligned ? *(const float2*)from : make_float2(from[0], both ? from[1] : 0.0f);
    value.x += more.x;
    value.y += more.y;
}

__device__ __forceinline__ void store_pair(float* to, float2 value, bool aligned, bool both) {
    if (aligned) {
        *(float2*)to = value;
        return;
    }
    to[0] = value.x;
    if (both) to[1] = value.y;
}

// The same of a rounded tensor, whose pixels are whole vectors of channels, zeros where there are none.
__device__ __forceinline__ void add_rounded(float2& value, const bf16* from) {
    u32 two = *(const u32*)from;
    value.x += __uint_as_float(two << 16);
    value.y += __uint_as_float(two & 0xffff0000u);
}

// A summand, in f32 or rounded; both null where there is none.
struct Summand {
    const float* wide;
    const bf16* rounded;

    // Its channels k and k + 1 of a pixel; the second only if `both`.
    __device__ __forceinline__ void add_to(float2& value, u32 pixel, u32 k, u32 channels, bool aligned,
                                           bool both) const {
        if (wide) add_pair(value, wide + pixel * channels + k, aligned, both);
        if (rounded) add_rounded(value, rounded + pixel * whole_vectors(channels) + k);
    }
};

// Channels k and k + 1 of a pixel of a rounded tensor.
__device__ __forceinline__ void store_rounded(bf16* to, float2 value, u32 pixel, u32 k, u32 channels) {
    u32 padded = whole_vectors(channels);
    if (k >= padded) return;
    u32 low = k < channels ? to_bf16(value.x) : 0, high = k + 1 < channels ? to_bf16(value.y) : 0;
    *(u32*)(to + pixel * padded + k) = low | high << 16;
}

// What a convolution hands on to the one that reads its result: bf16 behind that one's prologue, max(0, scale[k] *
// value + shift[k]), channels in whole vectors, and the mask of the prologue's ReLU. Nulls where it hands on nothing.
struct Next {
    bf16* to;
    const float* scale;
    const float* shift;
    u32* mask;
    u32 relu;
};

// Channels k and k + 1 of a pixel, `there` or not. All lanes of a warp call this; eight neighbours have the same
// pixel and 16 channels, half a word of the mask.
__device__ __forceinline__ void hand_on(const Next& next, float2 value, u32 pixel, u32 k, u32 channels, bool there) {
    bool first = there && k < channels, second = there && k + 1 < channels;
    if (next.scale) {
        if (first) value.x = affine(value.x, next.scale[k], next.shift[k]);
        if (second) value.y = affine(value.y, next.scale[k + 1], next.shift[k + 1]);
    }
    if (next.mask) {
        u32 bits = ((first && value.x > 0.0f) | (u32)(second && value.y > 0.0f) << 1) << threadIdx.x % 8 * 2;
#pragma unroll
        for (u32 lane = 1; lane < 8; lane *= 2) bits |= __shfl_xor_sync(~0u, bits, lane);
        if (first && threadIdx.x % 8 == 0) {
            unsigned short* half = (unsigned short*)next.mask + pixel * ((channels + 31) / 32 * 2) + k / 16;
            half[0] = (unsigned short)bits;
            // The last word's other half has no channels, and no one else to write it.
            if (k / 16 % 2 == 0 && k + 16 >= channels) half[1] = 0;
        }
    }
    if (next.relu && value.x < 0.0f) value.x = 0.0f;
    if (next.relu && value.y < 0.0f) value.y = 0.0f;
    if (there) store_rounded(next.to, value, pixel, k, channels);
}

// Whether all pairs of rows of `channels` can be accessed as one; null counts as aligned.
__device__ __forceinline__ bool pairs_aligned(u32 channels, const float* a, const float* b, const float* c) {
    return channels % 2 == 0 && (((u64)a | (u64)b | (u64)c) & 7) == 0;
}

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
