// Updates of flat buffers, one thread an element. Each product and sum is rounded on its own, as the
// CPU does it: equal gradients give equal bits.
//   sgd      g = gradient + decay w; v = momentum v + g; w -= rate (nesterov ? g + momentum v : v)
//   adam     first = b1 first + (1 - b1) g; second = b2 second + (1 - b2) g^2;
//            w -= rate first / (correction sqrt(second) + 1e-8), the biases' corrections in rate and correction
//   average  average = d average + (1 - d) weights
//
// sgd_with_filters does sgd and the average, and leaves the filters of the next step's convolutions
// (load_filter_bf16 in conv_operands.cu): before, a step began with a launch for each of them, which read all
// weights again. A block has 16 out and 8 in channels of a filter with all taps, in shared memory, because both
// forms of a filter have their channels side by side and weights have taps: so it writes vectors. It reads them
// too, four weights of each of four tensors on their way at once; with one it took 0.26 ms for 360 MB on an
// H100.
#include "vec4.cuh"
#include "mma.cuh"

// What SGD takes from a run.
struct Sgd {
    float rate, momentum, decay, average;
    u32 nesterov;

    __device__ __forceinline__ explicit Sgd(const Run* run)
        : rate(run->learning_rate), momentum(run->momentum), decay(run->weight_decay), average(run->average_decay),
          nesterov(run->nesterov) {}

    // A step of one weight.
    __device__ __forceinline__ void take(float& weight, float gradient, float& velocity) const {
        float g = __fadd_rn(gradient, __fmul_rn(decay, weight));
        velocity = __fadd_rn(__fmul_rn(momentum, velocity), g);
        float step = nesterov ? __fadd_rn(g, __fmul_rn(momentum, velocity)) : velocity;
        weight = __fadd_rn(weight, -__fmul_rn(rate, step));
    }
};

// A step of weight i; returns what it is now.
__device__ __forceinline__ float sgd_step(float* weights, const float* gradients, float* velocity, u32 i,
                                          const Sgd& sgd) {
    float weight = weights[i], v = velocity[i];
    sgd.take(weight, gradients[i], v);
    velocity[i] = v;
    return weights[i] = weight;
}

__device__ __forceinline__ float averaged(float average, float weight, float decay) {
    return __fadd_rn(__fmul_rn(decay, average), __fmul_rn(1.0f - decay, weight));
}

KERNEL sgd(float* weights, const float* gradients, float* velocity, u32 total, const Run* run) {
    u32 i = global_index();
    if (i < total) sgd_step(weights, gradients, velocity, i, Sgd(run));
}

// Weights one after the other, and the first block that has some of them: a filter (K, C, kernel^2), to be left as
// (K, taps, C') and (C, taps, K') or null; or others, whose kernel is 0. `Entry` in src/device/cuda/update.rs.
struct Part {
    u32 block, offset, length, out_channels, in_channels, kernel, stride, unused;
    bf16 *fprop, *dgrad;
};

// A tile: out channels, in channels, taps at most; and the weights of a block outside filters.
constexpr u32 TILE_OUT = 16, TILE_IN = 8, TAPS = 49, PLAIN = 1024;

// 16 bytes in one access, which the compiler doesn't make of single words.
__device__ __forceinline__ void store_vector(bf16* to, const u32 (&words)[4]) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(words[0]),
                 "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
}

// Values of a tap in shared memory: one vector more than it has, so that a tap's neighbours lie in other banks.
constexpr u32 TAP_PITCH = TILE_OUT * TILE_IN + VECTOR;

// The tensors of a step; average or null.
struct Weights {
    float* weights;
    const float* gradients;
    float *velocity, *average;
    u32 trainable;
    const Run* run;

    __device__ __forceinline__ float step(u32 i, const Sgd& sgd) const {
        float weight = i < trainable ? sgd_step(weights, gradients, velocity, i, sgd) : weights[i];
        if (average) average[i] = averaged(average[i], weight, sgd.average);
        return weight;
    }

    // Weights i to i + 3, all of them trained. The run's scalars are read anew: kept, they spilled.
    __device__ __forceinline__ Four step_four(u32 i) const {
        const Sgd sgd(run);
        Four weight = load_four<true>(weights + i, FOUR), g = load_four<true>(gradients + i, FOUR);
        Four v = load_four<true>(velocity + i, FOUR), mean = {};
        if (average) mean = load_four<true>(average + i, FOUR);
#pragma unroll
        for (u32 k = 0; k < FOUR; ++k) {
            sgd.take(weight.of[k], g.of[k], v.of[k]);
            mean.of[k] = averaged(mean.of[k], weight.of[k], sgd.average);
        }
        store_four<true>(weights + i, weight, FOUR);
        store_four<true>(velocity + i, v, FOUR);
        if (average) store_four<true>(average + i, mean, FOUR);
        return weight;
    }
};

// A tile of a filter: the step, and its values in both forms. Channels that fill up a vector are zeros in both,
// as they were when the filter was loaded.
__device__ __forceinline__ void filter_tile(const Part& part, u32 tile, bf16* values, const Weights& all,
                                            const Sgd& sgd) {
    u32 across = (part.in_channels + TILE_IN - 1) / TILE_IN, taps = part.kernel * part.kernel;
    u32 first_k = tile / across * TILE_OUT, first_c = tile % across * TILE_IN, row = TILE_IN * taps;
    u32 pitch = part.in_channels * taps, first = part.offset + first_k * pitch + first_c * taps;
    // A row of a tile is eight channels of all taps: whole fours, wherever it begins at one.
    if (fours(pitch, all.weights + part.offset, all.gradients + part.offset, all.velocity + part.offset,
              all.average ? all.average + part.offset : nullptr) &&
        first_c + TILE_IN <= part.in_channels && part.offset + part.length <= all.trainable) {
        u32 vectors = row / FOUR;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < TILE_OUT * vectors; i += BLOCK) {
            u32 k = i / vectors, rest = i % vectors * FOUR, c = rest / taps, tap = rest % taps;
            Four weight = {};
            if (first_k + k < part.out_channels) weight = all.step_four(first + k * pitch + rest);
#pragma unroll
            for (u32 j = 0; j < FOUR; ++j) {
                values[tap * TAP_PITCH + k * TILE_IN + c] = to_bf16(weight.of[j]);
                if (++tap < taps) continue;
                tap = 0;
                ++c;
            }
        }
    } else {
#pragma unroll 1
        for (u32 i = threadIdx.x; i < TILE_OUT * row; i += BLOCK) {
            u32 k = i / row, rest = i % row, c = rest / taps, tap = rest % taps;
            bool there = first_k + k < part.out_channels && first_c + c < part.in_channels;
            bf16& value = values[tap * TAP_PITCH + k * TILE_IN + c];
            value = there ? to_bf16(all.step(first + k * pitch + rest, sgd)) : 0;
        }
    }
    __syncthreads();
    u32 padded_in = whole_vectors(part.in_channels), padded_out = whole_vectors(part.out_channels);
    for (u32 i = threadIdx.x; part.fprop && i < TILE_OUT * taps; i += BLOCK) {
        u32 k = i / taps, tap = i % taps;
        if (first_k + k >= part.out_channels) continue;
        const u32* from = (const u32*)(values + tap * TAP_PITCH + k * TILE_IN);
        u32 words[] = {from[0], from[1], from[2], from[3]};
        store_vector(part.fprop + ((first_k + k) * taps + tap) * padded_in + first_c, words);
    }
    for (u32 i = threadIdx.x; part.dgrad && i < TILE_OUT / VECTOR * row; i += BLOCK) {
        u32 k = i % (TILE_OUT / VECTOR) * VECTOR, rest = i / (TILE_OUT / VECTOR), c = rest % TILE_IN;
        u32 tap = rest / TILE_IN, place = dgrad_place(tap, part.kernel, part.stride);
        if (first_c + c >= part.in_channels || first_k + k >= padded_out) continue;
        u32 words[VECTOR / 2];
#pragma unroll
        for (u32 j = 0; j < VECTOR / 2; ++j) {
            const bf16* from = values + tap * TAP_PITCH + (k + 2 * j) * TILE_IN + c;
            words[j] = from[0] | (u32)from[TILE_IN] << 16;
        }
        store_vector(part.dgrad + ((first_c + c) * taps + place) * padded_out + first_k + k, words);
    }
}

// gradients and velocity are those of the first `trainable` weights; average of all, or null.
KERNEL sgd_with_filters(float* weights, const float* gradients, float* velocity, float* average, const Part* parts,
                   u32 count, u32 trainable, const Run* run) {
    __shared__ __align__(16) bf16 values[TAPS * TAP_PITCH];
    u32 low = 0, high = count;
    while (high - low > 1) {
        u32 middle = (low + high) / 2;
        if (parts[middle].block <= blockIdx.x) low = middle;
        else high = middle;
    }
    const Part part = parts[low];
    Weights all = {weights, gradients, velocity, average, trainable, run};
    Sgd sgd(run);
    u32 own = blockIdx.x - part.block;
    if (part.kernel) {
        filter_tile(part, own, values, all, sgd);
        return;
    }
    u32 end = min((own + 1) * PLAIN, part.length);
#pragma unroll 1
    for (u32 i = own * PLAIN + threadIdx.x; i < end; i += BLOCK) all.step(part.offset + i, sgd);
}

KERNEL adam(float* weights, const float* gradients, float* first, float* second, u32 total, const Run* run) {
    u32 i = global_index();
    if (i >= total) return;
    float g = gradients[i], b1 = run->beta1, b2 = run->beta2;
    float m = __fadd_rn(__fmul_rn(b1, first[i]), __fmul_rn(1.0f - b1, g));
    float v = __fadd_rn(__fmul_rn(b2, second[i]), __fmul_rn(__fmul_rn(1.0f - b2, g), g));
    first[i] = m;
    second[i] = v;
    // `ADAM_EPSILON` in src/device/mod.rs.
    float length = __fadd_rn(__fmul_rn(__fsqrt_rn(v), run->adam_correction), 1e-8f);
    weights[i] = __fadd_rn(weights[i], -__fdiv_rn(__fmul_rn(run->adam_rate, m), length));
}

KERNEL moving_average(const float* weights, float* average, u32 total, const Run* run) {
    u32 i = global_index();
    if (i >= total) return;
    average[i] = averaged(average[i], weights[i], run->average_decay);
}

KERNEL copy(const float* input, float* output, u32 total) {
    u32 i = global_index();
    if (i < total) output[i] = input[i];
}
