// Resident u8 images to f32 in [0, 1], with a random crop of the zero-padded image and a mirror image:
//   x' = flip ? width - 1 - x : x
//   output[n,y,x,c] = image[y + row - pad, x' + column - pad, c] / 255, 0 outside
// row, column, flip are Philox's draw for (seed, epoch, index in the set), the same as the CPU's.
#include "common.cuh"

// images (set, height, width, from) u8, from = channels or 1 (grey to all channels); indices (N);
// output (N, height, width, channels). A block makes an image.
KERNEL gather(const u8* images, const u32* indices, float* output, u32 set, int height, int width, u32 from,
              u32 channels, int pad, u32 flip, u32 seed_low, u32 seed_high, u32 epoch) {
    u32 index = indices[blockIdx.x];
    Words draw = philox(index, epoch, PURPOSE_AUGMENT, (u64)seed_high << 32 | seed_low);
    int row = (int)below(draw.word[0], 2 * pad + 1) - pad, column = (int)below(draw.word[1], 2 * pad + 1) - pad;
    bool mirrored = flip && draw.word[2] >> 31;
    u32 length = height * width * channels;
    // The host has refused other indices; this keeps a wrong one from being an address.
    const u8* image = images + (u64)min(index, set - 1) * (height * width * from);
    for (u32 i = threadIdx.x; i < length; i += BLOCK) {
        u32 c = i % channels, pixel = i / channels;
        int x = (int)(pixel % width), y = (int)(pixel / width) + row;
        x = (mirrored ? width - 1 - x : x) + column;
        float value = 0.0f;
        if (y >= 0 && y < height && x >= 0 && x < width)
            value = (float)image[(y * width + x) * from + min(c, from - 1)] * (1.0f / 255.0f);
        output[blockIdx.x * length + i] = value;
    }
}
