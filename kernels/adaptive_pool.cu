// Adaptive average pooling, PyTorch's AdaptiveAvgPool2d(side) and flatten(1):
//   adaptive_avg_pool        output (N, channels, side, side) = means of the windows of input (N, height, width, channels)
//   adaptive_avg_pool_dgrad  output (N, height, width, channels) = sum over the windows with the pixel of
//                            gradient (N, channels, side, side) / the window's pixels
//
// Window i of `side` over `size` pixels is floor(i * size / side) to ceil((i + 1) * size / side). One thread makes one
// element of the output.
#include "args.cuh"

__device__ __forceinline__ u32 first_of(u32 window, u32 size, u32 side) { return window * size / side; }
__device__ __forceinline__ u32 end_of(u32 window, u32 size, u32 side) {
    return ((window + 1) * size + side - 1) / side;
}

KERNEL adaptive_avg_pool(const AdaptiveAvgPoolArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    u32 x = i % a.side, y = i / a.side % a.side, c = i / a.side / a.side % a.channels,
        image = i / a.side / a.side / a.channels;
    u32 top = first_of(y, a.height, a.side), bottom = end_of(y, a.height, a.side);
    u32 left = first_of(x, a.width, a.side), right = end_of(x, a.width, a.side);
    float share = 1.0f / (float)((bottom - top) * (right - left)), sum = 0.0f;
    for (u32 row = top; row < bottom; ++row)
        for (u32 column = left; column < right; ++column)
            sum += a.input[((image * a.height + row) * a.width + column) * a.channels + c] * share;
    a.output[i] = sum;
}

// The windows with a row are those from floor(row * side / height) on that begin no later than the row.
KERNEL adaptive_avg_pool_dgrad(const AdaptiveAvgPoolDgradArgs a) {
    u32 i = global_index();
    if (i >= a.total) return;
    u32 c = i % a.channels, column = i / a.channels % a.width, row = i / a.channels / a.width % a.height;
    const float* windows = a.gradient + (i / a.channels / a.width / a.height * a.channels + c) * a.side * a.side;
    float sum = 0.0f;
    for (u32 y = row * a.side / a.height; y < a.side && first_of(y, a.height, a.side) <= row; ++y) {
        u32 rows = end_of(y, a.height, a.side) - first_of(y, a.height, a.side);
        for (u32 x = column * a.side / a.width; x < a.side && first_of(x, a.width, a.side) <= column; ++x) {
            u32 columns = end_of(x, a.width, a.side) - first_of(x, a.width, a.side);
            sum += windows[y * a.side + x] * (1.0f / (float)(rows * columns));
        }
    }
    a.output[i] = sum;
}
