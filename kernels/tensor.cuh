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

// Eight neighbouring channels of a pixel: what a thread finishes at once, for in memory they are one access of 16 bytes
// rounded, and two in f32. Pairs took four times the instructions, and left too few bytes on their way: on an H100 the
// ends of blocks took longer than their products.
struct Octet {
    float value[8];
};

// Hands the sums of a block, all of whose warps call this, to `use(row, column, octet, operands)`, where operands is
// what `load(row, column)` has returned: loads of several octets are on their way before the first is used. Each warp
// does so with its own rows, and waits for no other.
template <class T, class Load, class Use>
__device__ __forceinline__ void each_octet(typename T::WarpSums& sums, uint4* memory, Load load, Use use) {
    constexpr u32 ACROSS = T::WARP_COLUMNS / 8, DOWN = 32 / ACROSS, PASSES = T::SLAB / DOWN;
    constexpr u32 TOGETHER = PASSES < 2 ? 1 : 2;
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = T::column() + lane % ACROSS * 8;
    float* slab = (float*)memory + warp * (T::SLAB * T::PITCH);
    const float* own = slab + lane / ACROSS * T::PITCH + lane % ACROSS * 8;
    // Which half of its octet a lane reads first: eight lanes then meet all banks.
    u32 swap = ACROSS == 2 ? lane % 2 : lane / 4 % 2;
    auto read = [&](u32 pass) {
        float4 one = *(const float4*)(own + pass * (DOWN * T::PITCH) + swap * 4);
        float4 two = *(const float4*)(own + pass * (DOWN * T::PITCH) + (1 - swap) * 4);
        float4 low = swap ? two : one, high = swap ? one : two;
        return Octet{{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
    };
    // No warp reads operands any more.
    __syncthreads();
#pragma unroll
    for (u32 first = 0; first < T::WARP_ROWS; first += T::SLAB) {
        // Nor does a lane of this one the rows before.
        __syncwarp();
        sums.template store<T::PITCH>(shared_address(slab), first / 16, T::SLAB / 16);
        __syncwarp();
#pragma unroll 1
        for (u32 pass = 0; pass < PASSES; pass += TOGETHER) {
            u32 row = T::row() + first + pass * DOWN + lane / ACROSS;
            decltype(load(row, column)) operands[TOGETHER];
#pragma unroll
            for (u32 i = 0; i < TOGETHER; ++i) operands[i] = load(row + i * DOWN, column);
#pragma unroll
            for (u32 i = 0; i < TOGETHER; ++i) {
                Octet octet = read(pass + i);
                use(row + i * DOWN, column, octet, operands[i]);
            }
        }
    }
}

__device__ __forceinline__ u32 whole_vectors(u32 channels) { return (channels + VECTOR - 1) / VECTOR * VECTOR; }

// An octet as it is in memory: f32, or rounded in the first half.
struct Raw {
    uint4 low, high;
};

// `count` floats, at most eight, and zeros behind them; all eight in whole accesses where `aligned`.
__device__ __forceinline__ Raw load_floats(const float* from, bool aligned, u32 count) {
    if (aligned) return {*(const uint4*)from, *(const uint4*)(from + 4)};
    u32 word[8];
#pragma unroll
    for (u32 j = 0; j < 8; ++j) word[j] = j < count ? __float_as_uint(from[j]) : 0;
    return {{word[0], word[1], word[2], word[3]}, {word[4], word[5], word[6], word[7]}};
}

__device__ __forceinline__ Octet as_floats(const Raw& raw) {
    const uint4 &a = raw.low, &b = raw.high;
    return {{__uint_as_float(a.x), __uint_as_float(a.y), __uint_as_float(a.z), __uint_as_float(a.w),
             __uint_as_float(b.x), __uint_as_float(b.y), __uint_as_float(b.z), __uint_as_float(b.w)}};
}

__device__ __forceinline__ Octet from_rounded(const uint4& words) {
    u32 word[4] = {words.x, words.y, words.z, words.w};
    Octet octet;
#pragma unroll
    for (u32 j = 0; j < 4; ++j) {
        octet.value[2 * j] = __uint_as_float(word[j] << 16);
        octet.value[2 * j + 1] = __uint_as_float(word[j] & 0xffff0000u);
    }
    return octet;
}

__device__ __forceinline__ void add(Octet& octet, const Octet& more) {
#pragma unroll
    for (u32 j = 0; j < 8; ++j) octet.value[j] += more.value[j];
}

// Channels from k on, of which there are `channels`, of a row of a tensor in f32; `there`: the row is, whichever channels
// are. All lanes of a warp call this, and neighbours have the same row and neighbouring octets. Where `aligned` they swap
// halves: a store of both is then a whole sector, where each one's own half would touch two.
__device__ __forceinline__ void store_floats(float* row, const Octet& octet, bool aligned, u32 k, u32 channels, bool there) {
    const float* v = octet.value;
    if (aligned) {
        bool odd = threadIdx.x % 2;
        float other[4];
#pragma unroll
        for (u32 j = 0; j < 4; ++j) other[j] = __shfl_xor_sync(~0u, odd ? v[j] : v[4 + j], 1);
        // The even lane's octet, then the odd one's: its low half by the even lane, its high half by the odd one.
        u32 even = odd ? k - 8 : k, half = odd ? 4 : 0;
        float4 first = odd ? make_float4(other[0], other[1], other[2], other[3]) : make_float4(v[0], v[1], v[2], v[3]);
        float4 second = odd ? make_float4(v[4], v[5], v[6], v[7]) : make_float4(other[0], other[1], other[2], other[3]);
        if (there && even < channels) *(float4*)(row + even + half) = first;
        if (there && even + 8 < channels) *(float4*)(row + even + 8 + half) = second;
        return;
    }
#pragma unroll
    for (u32 j = 0; j < 8; ++j)
        if (there && k + j < channels) row[k + j] = v[j];
}

__device__ __forceinline__ void store_rounded(bf16* to, const Octet& octet) {
    u32 word[4];
#pragma unroll
    for (u32 j = 0; j < 4; ++j) word[j] = to_bf16(octet.value[2 * j]) | (u32)to_bf16(octet.value[2 * j + 1]) << 16;
    *(uint4*)to = make_uint4(word[0], word[1], word[2], word[3]);
}

// A summand, in f32 or rounded (channels in whole vectors, zeros where there are none); both null where there is none.
struct Summand {
    const float* wide;
    const bf16* rounded;

    // Its channels of a pixel from k on.
    __device__ __forceinline__ Raw load(u32 pixel, u32 k, u32 channels, bool aligned) const {
        if (wide) return load_floats(wide + pixel * channels + k, aligned, channels - k);
        if (rounded) return {*(const uint4*)(rounded + pixel * whole_vectors(channels) + k), {}};
        return {};
    }

    __device__ __forceinline__ void add_to(Octet& octet, const Raw& raw) const {
        if (wide) add(octet, as_floats(raw));
        if (rounded) add(octet, from_rounded(raw.low));
    }
};

// What a convolution hands on to the one that reads its result: bf16 behind that one's prologue, max(0, scale[k] *
// value + shift[k]), channels in whole vectors, and the mask of the prologue's ReLU. Nulls where it hands on nothing.
struct Next {
    bf16* to;
    const float* scale;
    const float* shift;
    u32* mask;
    u32 relu;
};

// Channels of a pixel from k on, of which there is at least one; those behind the last are zeros.
__device__ __forceinline__ void hand_on(const Next& next, Octet octet, u32 pixel, u32 k, u32 channels, bool aligned) {
    if (next.scale) {
        Octet scale = as_floats(load_floats(next.scale + k, aligned, channels - k));
        Octet shift = as_floats(load_floats(next.shift + k, aligned, channels - k));
#pragma unroll
        for (u32 j = 0; j < 8; ++j) octet.value[j] = affine(octet.value[j], scale.value[j], shift.value[j]);
    }
    if (next.mask) {
        u32 bits = 0;
#pragma unroll
        for (u32 j = 0; j < 8; ++j) bits |= (u32)(octet.value[j] > 0.0f) << j;
        u8* byte = (u8*)(next.mask + pixel * ((channels + 31) / 32)) + k / 8;
        *byte = (u8)bits;
        // The last word's other bytes have no channels, and no one else to write them.
        if (k + 8 >= channels)
            for (u32 rest = k / 8 + 1; rest % 4; ++rest) *++byte = 0;
    }
    if (next.relu)
#pragma unroll
        for (u32 j = 0; j < 8; ++j)
            if (octet.value[j] < 0.0f) octet.value[j] = 0.0f;
    store_rounded(next.to + pixel * whole_vectors(channels) + k, octet);
}

// Whether all octets of rows of `channels` floats can be accessed in whole; null counts as aligned.
__device__ __forceinline__ bool octets_aligned(u32 channels, const float* a, const float* b, const float* c,
                                               const float* d, const float* e) {
    return channels % 8 == 0 && (((u64)a | (u64)b | (u64)c | (u64)d | (u64)e) & 15) == 0;
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
