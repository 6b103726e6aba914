// Adaptive average pooling, PyTorch's AdaptiveAvgPool2d(side) and flatten(1):
//   adaptive_avg_pool        output (N, channels, side, side) = means of the windows of input (N, height, width, channels)
//   adaptive_avg_pool_dgrad  output (N, height, width, channels) = sum over the windows with the pixel of
//                            gradient (N, channels, side, side) / the window's pixels
//
// Window i of `side` over `size` pixels is floor(i * size / side) to ceil((i + 1) * size / side). One thread makes one
// element of the output.
#include "common.cuh"

__device__ __forceinline__ u32 first_of(u32 window, u32 size, u32 side) { return window * size / side; }
__device__ __forceinline__ u32 end_of(u32 window, u32 size, u32 side) {
    return ((window + 1) * size + side - 1) / side;
}

KERNEL adaptive_avg_pool(const float* input, float* output, u32 total, u32 height, u32 width, u32 channels,
                         u32 side) {
    u32 i = global_index();
    if (i >= total) return;
    u32 x = i % side, y = i / side % side, c = i / side / side % channels, image = i / side / side / channels;
    u32 top = first_of(y, height, side), bottom = end_of(y, height, side);
    u32 left = first_of(x, width, side), right = end_of(x, width, side);
    float share = 1.0f / (float)((bottom - top) * (right - left)), sum = 0.0f;
    for (u32 row = top; row < bottom; ++row)
        for (u32 column = left; column < right; ++column)
            sum += input[((image * height + row) * width + column) * channels + c] * share;
    output[i] = sum;
}

// The windows with a row are those from floor(row * side / height) on that begin no later than the row.
KERNEL adaptive_avg_pool_dgrad(const float* gradient, float* output, u32 total, u32 height, u32 width, u32 channels,
                               u32 side) {
    u32 i = global_index();
    if (i >= total) return;
    u32 c = i % channels, column = i / channels % width, row = i / channels / width % height;
    const float* windows = gradient + (i / channels / width / height * channels + c) * side * side;
    float sum = 0.0f;
    for (u32 y = row * side / height; y < side && first_of(y, height, side) <= row; ++y) {
        u32 rows = end_of(y, height, side) - first_of(y, height, side);
        for (u32 x = column * side / width; x < side && first_of(x, width, side) <= column; ++x) {
            u32 columns = end_of(x, width, side) - first_of(x, width, side);
            sum += windows[y * side + x] * (1.0f / (float)(rows * columns));
        }
    }
    output[i] = sum;
}
