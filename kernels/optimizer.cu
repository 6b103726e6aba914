// Optimizer steps on flat buffers, one thread an element. Each product and sum is rounded on its own, as on the CPU:
// equal gradients give equal bits.
//   sgd      g = gradient + decay w; v = momentum v + g; w -= rate (nesterov ? g + momentum v : v)
//   adam     first = b1 first + (1 - b1) g; second = b2 second + (1 - b2) g^2;
//            w -= rate first / (correction sqrt(second) + 1e-8), the biases' corrections in rate and correction
//   average  average = d average + (1 - d) weights
//
// sgd_with_filters fuses sgd, the average, and load_filter_bf16 (conv_operands.cu) of every filter of the next step. A
// block computes 16 out and 8 in channels of a filter, all taps. It transposes them in shared memory, because weights
// have taps contiguous and filters have channels contiguous, and so writes 16-byte vectors. It loads four weights of
// each of four tensors at once. Tried and lost: a launch for each filter, which reads all weights again; one load at a
// time, 0.26 ms for 360 MB on an H100.
#include "args.cuh"
#include "mma.cuh"
#include "vec4.cuh"

// The hyperparameters of SGD.
struct Sgd {
    float rate, momentum, decay, average;
    u32 nesterov;

    __device__ __forceinline__ explicit Sgd(const Run* run)
        : rate(run->learning_rate), momentum(run->momentum), decay(run->weight_decay), average(run->average_decay),
          nesterov(run->nesterov) {}

    // One weight's step.
    __device__ __forceinline__ void step(float& weight, float gradient, float& velocity) const {
        float g = __fadd_rn(gradient, __fmul_rn(decay, weight));
        velocity = __fadd_rn(__fmul_rn(momentum, velocity), g);
        float step = nesterov ? __fadd_rn(g, __fmul_rn(momentum, velocity)) : velocity;
        weight = __fadd_rn(weight, -__fmul_rn(rate, step));
    }
};

// Steps weight i and returns it.
__device__ __forceinline__ float sgd_step(float* weights, const float* gradients, float* velocity, u32 i,
                                          const Sgd& sgd) {
    float weight = weights[i], v = velocity[i];
    sgd.step(weight, gradients[i], v);
    velocity[i] = v;
    return weights[i] = weight;
}

__device__ __forceinline__ float averaged(float average, float weight, float decay) {
    return __fadd_rn(__fmul_rn(decay, average), __fmul_rn(1.0f - decay, weight));
}

KERNEL sgd(const SgdArgs a) {
    u32 i = global_index();
    if (i < a.total) sgd_step(a.weights, a.gradients, a.velocity, i, Sgd(a.run));
}

// A range of the weights and the first block that computes it: a filter (K, C, kernel^2), to be written as fprop
// (K, taps, C') and dgrad (C, taps, K'), each or null; or other weights, whose kernel is 0. `DeviceSegment` in
// src/device/cuda/ops/optimizer.rs.
struct Segment {
    u32 block, offset, length, out_channels, in_channels, kernel, stride, unused;
    bf16 *fprop, *dgrad;
};

// A filter tile: out channels, in channels, most taps. PLAIN: weights of a block outside filters.
constexpr u32 TILE_OUT = 16, TILE_IN = 8, TAPS = 49, PLAIN = 1024;

// Stores 16 bytes in one access; the compiler does not emit one for single words.
__device__ __forceinline__ void store_vector(bf16* to, const u32 (&words)[4]) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(words[0]),
                 "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
}

// Values of a tap in shared memory, padded by one vector so that neighbouring taps use different banks.
constexpr u32 TAP_PITCH = TILE_OUT * TILE_IN + VECTOR;

// Steps weight i if it is trained, and its average.
__device__ __forceinline__ float step(const SgdWithFiltersArgs& a, u32 i, const Sgd& sgd) {
    float weight = i < a.trainable ? sgd_step(a.weights, a.gradients, a.velocity, i, sgd) : a.weights[i];
    if (a.average) a.average[i] = averaged(a.average[i], weight, sgd.average);
    return weight;
}

// Steps weights i to i + 3, all trainable. It reads the hyperparameters again: kept in registers, they spilled.
__device__ __forceinline__ Vec4 step_vec4(const SgdWithFiltersArgs& a, u32 i) {
    const Sgd sgd(a.run);
    Vec4 weight = load_vec4<true>(a.weights + i, VEC4), g = load_vec4<true>(a.gradients + i, VEC4);
    Vec4 v = load_vec4<true>(a.velocity + i, VEC4), mean = {};
    if (a.average) mean = load_vec4<true>(a.average + i, VEC4);
#pragma unroll
    for (u32 k = 0; k < VEC4; ++k) {
        sgd.step(weight.v[k], g.v[k], v.v[k]);
        mean.v[k] = averaged(mean.v[k], weight.v[k], sgd.average);
    }
    store_vec4<true>(a.weights + i, weight, VEC4);
    store_vec4<true>(a.velocity + i, v, VEC4);
    if (a.average) store_vec4<true>(a.average + i, mean, VEC4);
    return weight;
}

// Steps a tile of a filter and writes both forms. Channels that pad a vector stay zeros, as load_filter_bf16 wrote
// them.
__device__ __forceinline__ void filter_tile(const Segment& segment, u32 tile, bf16* values, const SgdWithFiltersArgs& a,
                                            const Sgd& sgd) {
    u32 tiles_c = (segment.in_channels + TILE_IN - 1) / TILE_IN, taps = segment.kernel * segment.kernel;
    u32 first_k = tile / tiles_c * TILE_OUT, first_c = tile % tiles_c * TILE_IN, row = TILE_IN * taps;
    u32 pitch = segment.in_channels * taps, first = segment.offset + first_k * pitch + first_c * taps;
    // A row of a tile is eight channels of all taps: a multiple of four weights.
    if (is_vec4_aligned(pitch, a.weights + segment.offset, a.gradients + segment.offset, a.velocity + segment.offset,
                        a.average ? a.average + segment.offset : nullptr) &&
        first_c + TILE_IN <= segment.in_channels && segment.offset + segment.length <= a.trainable) {
        u32 vectors = row / VEC4;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < TILE_OUT * vectors; i += BLOCK) {
            u32 k = i / vectors, rest = i % vectors * VEC4, c = rest / taps, tap = rest % taps;
            Vec4 weight = {};
            if (first_k + k < segment.out_channels) weight = step_vec4(a, first + k * pitch + rest);
#pragma unroll
            for (u32 j = 0; j < VEC4; ++j) {
                values[tap * TAP_PITCH + k * TILE_IN + c] = to_bf16(weight.v[j]);
                if (++tap < taps) continue;
                tap = 0;
                ++c;
            }
        }
    } else {
#pragma unroll 1
        for (u32 i = threadIdx.x; i < TILE_OUT * row; i += BLOCK) {
            u32 k = i / row, rest = i % row, c = rest / taps, tap = rest % taps;
            bool valid = first_k + k < segment.out_channels && first_c + c < segment.in_channels;
            bf16& value = values[tap * TAP_PITCH + k * TILE_IN + c];
            value = valid ? to_bf16(step(a, first + k * pitch + rest, sgd)) : 0;
        }
    }
    __syncthreads();
    u32 padded_in = round_up_to_vector(segment.in_channels), padded_out = round_up_to_vector(segment.out_channels);
    for (u32 i = threadIdx.x; segment.fprop && i < TILE_OUT * taps; i += BLOCK) {
        u32 k = i / taps, tap = i % taps;
        if (first_k + k >= segment.out_channels) continue;
        const u32* from = (const u32*)(values + tap * TAP_PITCH + k * TILE_IN);
        u32 words[] = {from[0], from[1], from[2], from[3]};
        store_vector(segment.fprop + ((first_k + k) * taps + tap) * padded_in + first_c, words);
    }
    for (u32 i = threadIdx.x; segment.dgrad && i < TILE_OUT / VECTOR * row; i += BLOCK) {
        u32 k = i % (TILE_OUT / VECTOR) * VECTOR, rest = i / (TILE_OUT / VECTOR), c = rest % TILE_IN;
        u32 tap = rest / TILE_IN, place = dgrad_tap_index(tap, segment.kernel, segment.stride);
        if (first_c + c >= segment.in_channels || first_k + k >= padded_out) continue;
        u32 words[VECTOR / 2];
#pragma unroll
        for (u32 j = 0; j < VECTOR / 2; ++j) {
            const bf16* from = values + tap * TAP_PITCH + (k + 2 * j) * TILE_IN + c;
            words[j] = from[0] | (u32)from[TILE_IN] << 16;
        }
        store_vector(segment.dgrad + ((first_c + c) * taps + place) * padded_out + first_k + k, words);
    }
}

// gradients and velocity cover the first `trainable` weights; average covers all, or is null.
KERNEL sgd_with_filters(const SgdWithFiltersArgs a) {
    __shared__ __align__(16) bf16 values[TAPS * TAP_PITCH];
    u32 low = 0, high = a.count;
    while (high - low > 1) {
        u32 middle = (low + high) / 2;
        if (a.segments[middle].block <= blockIdx.x) low = middle;
        else high = middle;
    }
    const Segment segment = a.segments[low];
    Sgd sgd(a.run);
    u32 local = blockIdx.x - segment.block;
    if (segment.kernel) {
        filter_tile(segment, local, values, a, sgd);
        return;
    }
    u32 end = min((local + 1) * PLAIN, segment.length);
#pragma unroll 1
    for (u32 i = local * PLAIN + threadIdx.x; i < end; i += BLOCK) step(a, segment.offset + i, sgd);
}

KERNEL adam(const AdamArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    float g = a.gradients[i], b1 = a.run->beta1, b2 = a.run->beta2;
    float m = __fadd_rn(__fmul_rn(b1, a.first[i]), __fmul_rn(1.0f - b1, g));
    float v = __fadd_rn(__fmul_rn(b2, a.second[i]), __fmul_rn(__fmul_rn(1.0f - b2, g), g));
    a.first[i] = m;
    a.second[i] = v;
    // `ADAM_EPSILON` in src/device/mod.rs.
    float length = __fadd_rn(__fmul_rn(__fsqrt_rn(v), a.run->adam_correction), 1e-8f);
    a.weights[i] = __fadd_rn(a.weights[i], -__fdiv_rn(__fmul_rn(a.run->adam_rate, m), length));
}

KERNEL moving_average(const MovingAverageArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    a.average[i] = averaged(a.average[i], a.weights[i], a.run->average_decay);
}

KERNEL copy(const CopyArgs a) {
    u32 i = global_index();
    if (i < a.total) a.output[i] = a.input[i];
}

// What the host counts on.
#include "host.cuh"
static_assert(BLOCK == host::BLOCK && VEC4 == host::VEC4 && VECTOR == host::VECTOR, "");
static_assert(TILE_OUT == host::UPDATE_TILE_OUT && TILE_IN == host::UPDATE_TILE_IN, "");
static_assert(TAPS == host::UPDATE_TAPS && PLAIN == host::UPDATE_PLAIN, "");
static_assert(sizeof(Segment) == host::SEGMENT_BYTES, "");
static_assert(__builtin_offsetof(Segment, dgrad) == host::SEGMENT_DGRAD, "");
static_assert(sizeof(Run) == host::RUN_BYTES && __builtin_offsetof(Run, seed_low) == host::RUN_SEED, "");
