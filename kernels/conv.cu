// Convolution, square kernel R = S, symmetric zero padding:
//   fprop  y[n,p,q,k] = sum over r,s,c  x[n, p*stride+r-pad, q*stride+s-pad, c] * w[k,r,s,c]
//   dgrad  the gradient of x from that of y
//   wgrad  the gradient of w from x and the gradient of y
// in f32. conv_operands.cu makes the operands: channels rounded up to whole tiles, a border of zeros around images.
//
// A thread holds TILE pixels of a row x TILE channels (wgrad: TILE x TILE channels of one tap) in registers: 8 loads for
// 16 multiply-adds. Sums have one fixed order.
#include "common.cuh"

struct Tile {
    float sum[TILE][TILE];

    __device__ __forceinline__ void clear() {
        for (int i = 0; i < TILE; ++i)
            for (int j = 0; j < TILE; ++j) sum[i][j] = 0.0f;
    }

    // sum[i][j] += a[i * step] * b[j]
    __device__ __forceinline__ void add(const float* a, u32 step, const float* b) {
        float left[TILE], right[TILE];
        for (int i = 0; i < TILE; ++i) left[i] = a[i * step];
        for (int j = 0; j < TILE; ++j) right[j] = b[j];
        for (int i = 0; i < TILE; ++i)
            for (int j = 0; j < TILE; ++j) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
    }

    // The product of TILE runs `a` (`step` apart) of `length` with as many rows of `b` (`pitch` apart).
    __device__ __forceinline__ void add_runs(const float* a, u32 step, const float* b, u32 pitch, u32 length) {
        const float *a1 = a + step, *a2 = a1 + step, *a3 = a2 + step;
#pragma unroll 4
        for (u32 i = 0; i < length; ++i, b += pitch) {
            float left[TILE] = {a[i], a1[i], a2[i], a3[i]};
#pragma unroll
            for (int p = 0; p < TILE; ++p)
                for (int j = 0; j < TILE; ++j) sum[p][j] = fmaf(left[p], b[j], sum[p][j]);
        }
    }
};

// y = x * w + bias + residual.
// x (N, padded_height, padded_width, C'); w (R, S, C', K'), K' = channel_tiles * TILE; bias (K);
// residual and y (N, out_height, out_width, K), which may be the same.
// Items: (n, p, tile of q, tile of k), the last fastest.
KERNEL conv_fprop(const float* x, const float* w, const float* bias, const float* residual, float* y, u32 total,
                  u32 out_height, u32 out_width, u32 out_channels, u32 column_tiles, u32 channel_tiles,
                  u32 padded_height, u32 padded_width, u32 padded_channels, u32 kernel, u32 stride) {
    u32 item = global_index();
    if (item >= total) return;
    u32 k0 = item % channel_tiles * TILE, rest = item / channel_tiles;
    u32 q0 = rest % column_tiles * TILE;
    rest /= column_tiles;
    u32 p = rest % out_height, n = rest / out_height;
    u32 pitch = channel_tiles * TILE, row = padded_width * padded_channels, run = kernel * padded_channels;

    const float* from = x + (n * padded_height + p * stride) * row + q0 * stride * padded_channels;
    Tile tile;
    tile.clear();
    // A row of taps is one run: (tap, channel) is contiguous in x as in w.
    for (u32 r = 0; r < kernel; ++r)
        tile.add_runs(from + r * row, stride * padded_channels, w + r * run * pitch + k0, pitch, run);

#pragma unroll
    for (u32 i = 0; i < TILE; ++i)
#pragma unroll
        for (u32 j = 0; j < TILE; ++j) {
            u32 q = q0 + i, k = k0 + j;
            if (q >= out_width || k >= out_channels) continue;
            u32 at = ((n * out_height + p) * out_width + q) * out_channels + k;
            float value = tile.sum[i][j];
            if (bias) value += bias[k];
            if (residual) value += residual[at];
            y[at] = value;
        }
}

// output = (dgrad(gradient) + add) * mask * scale[c] + residual.
// gradient (N, padded_height, padded_width, K') with `border` zeros before its first row and column;
// w (R, S, K', C'), C' = channel_tiles * TILE; mask (N, height, width, ceil(C / 32)); add, residual
// and output (N, height, width, C), which may be the same.
// Pixels `stride` apart use the same taps: a tile is TILE pixels of one phase of columns.
// Items: (n, y, class, tile of the class, tile of c), the last fastest.
KERNEL conv_dgrad(const float* gradient, const float* w, const float* add, const u32* mask, const float* scale,
                  const float* residual, float* output, u32 total, u32 height, u32 width, u32 channels,
                  u32 column_tiles, u32 channel_tiles, u32 padded_height, u32 padded_width, u32 padded_channels,
                  u32 border, u32 kernel, u32 stride, u32 pad) {
    u32 item = global_index();
    if (item >= total) return;
    u32 c0 = item % channel_tiles * TILE, rest = item / channel_tiles;
    u32 first = rest % column_tiles * TILE;
    rest /= column_tiles;
    u32 residue = rest % stride;
    rest /= stride;
    u32 y = rest % height, n = rest / height;
    u32 pitch = channel_tiles * TILE;

    Tile tile;
    tile.clear();
    for (u32 r = (y + pad) % stride; r < kernel; r += stride)
        for (u32 s = (residue + pad) % stride; s < kernel; s += stride) {
            // Exact divisions, also of negative numbers.
            int p = ((int)(y + pad) - (int)r) / (int)stride + (int)border;
            int q = ((int)(residue + pad) - (int)s) / (int)stride + (int)(first + border);
            tile.add_runs(gradient + ((n * padded_height + p) * padded_width + q) * padded_channels, padded_channels,
                          w + (r * kernel + s) * padded_channels * pitch + c0, pitch, padded_channels);
        }

#pragma unroll
    for (u32 i = 0; i < TILE; ++i)
#pragma unroll
        for (u32 j = 0; j < TILE; ++j) {
            u32 x = residue + stride * (first + i), c = c0 + j;
            if (x >= width || c >= channels) continue;
            u32 pixel = (n * height + y) * width + x;
            u32 at = pixel * channels + c;
            float value = tile.sum[i][j];
            if (add) value += add[at];
            if (mask && !(mask[pixel * ((channels + 31) / 32) + c / 32] >> (c % 32) & 1)) value = 0.0f;
            if (scale) value *= scale[c];
            if (residual) value += residual[at];
            output[at] = value;
        }
}

// partial (parts, taps, C', K') = the sums over one part of the rows (n, p) each.
// x (N, padded_height, padded_width, C'); gradient (N, out_height, out_width, K').
// Items: (part, tap, tile of c, tile of k), the last fastest.
KERNEL conv_wgrad(const float* x, const float* gradient, float* partial, u32 total, u32 out_height, u32 out_width,
                  u32 in_tiles, u32 out_tiles, u32 padded_height, u32 padded_width, u32 kernel, u32 stride, u32 rows,
                  u32 rows_per_part) {
    u32 item = global_index();
    if (item >= total) return;
    u32 k0 = item % out_tiles * TILE, rest = item / out_tiles;
    u32 c0 = rest % in_tiles * TILE;
    rest /= in_tiles;
    u32 taps = kernel * kernel, tap = rest % taps, part = rest / taps;
    u32 r = tap / kernel, s = tap % kernel;
    u32 in_channels = in_tiles * TILE, out_channels = out_tiles * TILE;
    u32 first = part * rows_per_part, last = min(first + rows_per_part, rows);

    Tile tile;
    tile.clear();
    for (u32 row = first; row < last; ++row) {
        u32 n = row / out_height, p = row % out_height;
        const float* a = x + ((n * padded_height + p * stride + r) * padded_width + s) * in_channels + c0;
        const float* b = gradient + row * out_width * out_channels + k0;
#pragma unroll 2
        for (u32 q = 0; q < out_width; ++q, a += stride * in_channels, b += out_channels) tile.add(a, 1, b);
    }
    float* to = partial + ((part * taps + tap) * in_channels + c0) * out_channels + k0;
#pragma unroll
    for (u32 i = 0; i < TILE; ++i)
#pragma unroll
        for (u32 j = 0; j < TILE; ++j) to[i * out_channels + j] = tile.sum[i][j];
}

// Parts that a thread loads at once.
constexpr u32 PARTS_AT_ONCE = 8;

// weight_gradient (K, C, taps) = the sum of partial (parts, taps, C', K') over the parts, in order.
// Items: (tap, c, k), the last fastest, as the partial sums lie.
KERNEL conv_wgrad_reduce(const float* partial, float* weight_gradient, u32 total, u32 parts, u32 taps, u32 out_channels,
                         u32 in_channels, u32 padded_out, u32 padded_in) {
    u32 item = global_index();
    if (item >= total) return;
    u32 k = item % out_channels, rest = item / out_channels;
    u32 c = rest % in_channels, tap = rest / in_channels;
    const float* from = partial + (tap * padded_in + c) * padded_out + k;
    u32 size = taps * padded_in * padded_out;
    float sum = 0.0f;
    // Latency-bound: what counts is the number of loads in flight.
#pragma unroll 1
    for (u32 first = 0; first < parts; first += PARTS_AT_ONCE) {
        float one[PARTS_AT_ONCE];
#pragma unroll
        for (u32 j = 0; j < PARTS_AT_ONCE; ++j) one[j] = first + j < parts ? from[(first + j) * size] : -0.0f;
#pragma unroll
        for (u32 j = 0; j < PARTS_AT_ONCE; ++j) sum += one[j];
    }
    weight_gradient[(k * in_channels + c) * taps + tap] = sum;
}
