// Resident u8 images to f32 in [0, 1], with a random crop of the zero-padded image and a mirror image:
//   x' = flip ? width - 1 - x : x
//   output[n,y,x,c] = image[y + row - pad, x' + column - pad, c] / 255, 0 outside
// row, column, flip are Philox's draw for (seed, epoch, index in the set), the same as the CPU's.
// A thread computes four neighbouring elements of an image and stores them in one access where aligned. Tried and
// lost: one block an image, 0.6 ms for 128 images of 224 x 224 on an H100.
#include "args.cuh"
#include "vec4.cuh"

// images (set, height, width, from) u8, from = channels or 1 (grey to all channels); indices (N);
// output (N, height, width, channels). Grid: (N, elements / 4 / 128 rounded up).
KERNEL load_images(const LoadImagesArgs a) {
    int height = a.height, width = a.width, pad = a.pad;
    u32 length = height * width * a.channels, i = (blockIdx.y * BLOCK + threadIdx.x) * VEC4;
    if (i >= length) return;
    u32 index = a.indices[blockIdx.x];
    Words draw = philox(index, a.run->epoch, PURPOSE_AUGMENT, a.run->seed());
    int row = (int)below(draw.word[0], 2 * pad + 1) - pad, column = (int)below(draw.word[1], 2 * pad + 1) - pad;
    bool mirrored = a.flip && draw.word[2] >> 31;
    // The host refuses other indices; the bound keeps a wrong one from becoming an address.
    const u8* image = a.images + (u64)min(index, a.set - 1) * (height * width * a.from);
    u32 c = i % a.channels, pixel = i / a.channels;
    int left = (int)(pixel % width), top = (int)(pixel / width) + row;
    Vec4 vec;
#pragma unroll
    for (u32 k = 0; k < VEC4; ++k) {
        int x = (mirrored ? width - 1 - left : left) + column;
        vec.v[k] = 0.0f;
        if (i + k < length && top >= 0 && top < height && x >= 0 && x < width)
            vec.v[k] = (float)image[(top * width + x) * a.from + min(c, a.from - 1)] * (1.0f / 255.0f);
        if (++c < a.channels) continue;
        c = 0;
        if (++left < width) continue;
        left = 0;
        ++top;
    }
    float* to = a.output + blockIdx.x * length + i;
    if (is_vec4_aligned(length, a.output)) store_vec4<true>(to, vec, VEC4);
    else store_vec4<false>(to, vec, length - i);
}

// Random patches over images, in place (src/device/patch.rs has the draws):
//   images[n,y,x,c] = value of the last patch of image n that covers (y, x), where there is one
// indices (N); images (N, height, width, channels), at most 3 channels. A block covers 512 pixels of an image: its
// first threads draw one patch each, then every thread looks up its pixels in all patches. Tried and lost: one block a
// patch, where two patches of an image write to the same pixel in no fixed order.
constexpr int PATCHES = 4;
// Pixels of a block.
constexpr int PATCH_BLOCK = 512;

struct Patch {
    int top, bottom, left, right; // rows top..bottom, columns left..right; empty where 0..0
    u32 noise;
    Words colour;
};

// The part of a patch inside an image side of `size` pixels: `side` (16 bits) gives its length, `position` its place.
__device__ __forceinline__ void place(u32 side, u32 position, int size, int* first, int* last) {
    int length = 1 + (int)(side * max(3 * size / 16, 1) >> 16);
    int end = 1 + (int)below(position, size + length - 1);
    *first = max(end - length, 0);
    *last = min(end, size);
}

// Grid: (N, pixels / 512).
KERNEL random_erasing(const RandomErasingArgs a) {
    int height = a.height, width = a.width;
    __shared__ Patch drawn[PATCHES];
    u64 seed = a.run->seed(), image = (u64)a.indices[blockIdx.x] << 32;
    u32 epoch = a.run->epoch;
    if (threadIdx.x < PATCHES) {
        u64 base = image | (u64)threadIdx.x << 24;
        Words draw = philox(base, epoch, PURPOSE_PATCH, seed);
        Patch patch = {0, 0, 0, 0, 0, philox(base + 1, epoch, PURPOSE_PATCH, seed)};
        patch.noise = patch.colour.word[3] >> 31;
        if (unit(draw.word[0]) < a.run->patches) {
            place(draw.word[1] >> 16, draw.word[2], height, &patch.top, &patch.bottom);
            place(draw.word[1] & 0xffff, draw.word[3], width, &patch.left, &patch.right);
        }
        drawn[threadIdx.x] = patch;
    }
    __syncthreads();
    float* output = a.images + (u64)blockIdx.x * (height * width * a.channels);
    int last = min((int)(blockIdx.y + 1) * PATCH_BLOCK, height * width);
    for (int pixel = blockIdx.y * PATCH_BLOCK + threadIdx.x; pixel < last; pixel += BLOCK) {
        int y = pixel / width, x = pixel % width, n = PATCHES - 1;
        while (n >= 0 && !(y >= drawn[n].top && y < drawn[n].bottom && x >= drawn[n].left && x < drawn[n].right)) --n;
        if (n < 0) continue;
        Words colour = drawn[n].colour;
        if (drawn[n].noise) colour = philox(image | (u64)n << 24 | (u64)(pixel + 2), epoch, PURPOSE_PATCH, seed);
        float values[3] = {unit(colour.word[0]), unit(colour.word[1]), unit(colour.word[2])};
#pragma unroll
        for (u32 c = 0; c < 3; ++c)
            if (c < a.channels) output[pixel * a.channels + c] = values[c];
    }
}

// What the host counts on.
#include "host.cuh"
static_assert(PATCH_BLOCK == host::PATCH_BLOCK, "");
