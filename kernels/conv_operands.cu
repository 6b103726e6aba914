// What convolutions read: filters and inputs in the form of conv.cu's inner loops.
//
// filter (R, S, rows', columns'): for fprop rows = in, columns = out channels; for dgrad the other
// way round. Both are padded with zeros to whole tiles, marked ': then no inner loop has a tail.
// input (N, HP, WP, C'): the image with its zero border, after the prologue
//     max(0, scale[c] * x + shift[c]), NaN for NaN: a run that leaves the numbers has to show it;
// so that no inner loop has a bound to check. A copy costs one pass over the tensor; the loops that
// read it make 9 K passes.
#include "common.cuh"

// weights (K, C, taps), scale (K) or null -> filter (taps, C', K'), or (taps, K', C') where `dgrad`.
KERNEL load_filter(const float* weights, const float* scale, float* filter, u32 total, u32 taps,
                   u32 out_channels, u32 in_channels, u32 rows, u32 columns, u32 dgrad) {
    u32 i = global_index();
    if (i >= total) return;
    u32 column = i % columns, rest = i / columns;
    u32 row = rest % rows, tap = rest / rows;
    u32 k = dgrad ? row : column, c = dgrad ? column : row;
    float value = 0.0f;
    if (k < out_channels && c < in_channels) {
        value = weights[(k * in_channels + c) * taps + tap];
        if (scale) value *= scale[k];
    }
    filter[i] = value;
}

// input (N, height, width, channels) -> output (N, padded_height, padded_width, padded_channels):
// pixel (y, x) of the input at (y + border, x + border), zeros around it. What does not fit is left
// out. scale, shift (channels) or null.
KERNEL conv_input(const float* input, const float* scale, const float* shift, float* output, u32 total,
                  u32 relu, int height, int width, u32 channels, int border, u32 padded_height,
                  u32 padded_width, u32 padded_channels) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % padded_channels, rest = i / padded_channels;
    int x = (int)(rest % padded_width) - border;
    rest /= padded_width;
    int y = (int)(rest % padded_height) - border;
    u32 image = rest / padded_height;
    float value = 0.0f;
    if (c < channels && y >= 0 && y < height && x >= 0 && x < width) {
        value = input[((image * height + y) * width + x) * channels + c];
        if (scale) value = affine(value, scale[c], shift[c]);
        if (relu && value < 0.0f) value = 0.0f;
    }
    output[i] = value;
}

// mask (pixels, words): bit b of a pixel's word w is 1 where channel 32 w + b of the prologue is
// positive. One thread makes a word.
KERNEL conv_mask(const float* input, const float* scale, const float* shift, u32* mask, u32 total,
                 u32 channels, u32 words) {
    u32 i = global_index();
    if (i >= total) return;
    u32 first = i % words * 32, pixel = i / words;
    u32 last = min(first + 32, channels);
    u32 word = 0;
    for (u32 c = first; c < last; ++c) {
        float value = input[pixel * channels + c];
        if (scale) value = affine(value, scale[c], shift[c]);
        if (value > 0.0f) word |= 1u << (c - first);
    }
    mask[i] = word;
}
