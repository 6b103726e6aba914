// Ordinary kernels: what a GPU program is made of.
extern "C" __global__ void saxpy(int n, float a, const float* x, float* y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = a * x[i] + y[i];
}

// c (m x n) = a (m x k) b (k x n), tiles of 16 x 16 in shared memory.
extern "C" __global__ void matmul(int m, int n, int k, const float* a, const float* b, float* c) {
    __shared__ float ta[16][16], tb[16][17];
    int row = blockIdx.y * 16 + threadIdx.y, column = blockIdx.x * 16 + threadIdx.x;
    float sum = 0;
    for (int at = 0; at < k; at += 16) {
        int ka = at + threadIdx.x, kb = at + threadIdx.y;
        ta[threadIdx.y][threadIdx.x] = row < m && ka < k ? a[row * k + ka] : 0;
        tb[threadIdx.y][threadIdx.x] = kb < k && column < n ? b[kb * n + column] : 0;
        __syncthreads();
        for (int i = 0; i < 16; i++) sum += ta[threadIdx.y][i] * tb[i][threadIdx.x];
        __syncthreads();
    }
    if (row < m && column < n) c[row * n + column] = sum;
}

// Sum of a block by shuffles, then over its warps.
extern "C" __global__ void reduce(int n, const float* x, float* sums) {
    __shared__ float parts[32];
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    for (int by = 16; by > 0; by /= 2) sum += __shfl_down_sync(0xffffffff, sum, by);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0;
        for (int by = 16; by > 0; by /= 2) sum += __shfl_down_sync(0xffffffff, sum, by);
        if (threadIdx.x == 0) sums[blockIdx.x] = sum;
    }
}

// Counts of bytes: in shared memory first, then added to global memory.
extern "C" __global__ void histogram(int n, const unsigned char* x, unsigned* counts) {
    __shared__ unsigned local[256];
    local[threadIdx.x] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        atomicAdd(&local[x[i]], 1);
    __syncthreads();
    atomicAdd(&counts[threadIdx.x], local[threadIdx.x]);
}

// Steps of the 3n+1 iteration; numbers that reach `limit` give -1.
extern "C" __global__ void collatz(int n, int limit, int* steps) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned value = i + 1;
    int count = 0;
    while (value != 1) {
        if (count == limit) { count = -1; break; }
        if (value % 2 == 0) value /= 2; else value = 3 * value + 1;
        count++;
    }
    steps[i] = count;
}

// Partial sums of blocks, added by the block that comes last.
__device__ unsigned finished = 0;
extern "C" __global__ void last_block(int n, const float* x, volatile float* sums, float* total) {
    __shared__ bool last;
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffff, sum, by);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(&finished, 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        sum = 0;
        for (int i = 0; i < gridDim.x; i++) sum += sums[i];
        *total = sum;
    }
}

// Many kinds of warp instruction: out[lane][0..8].
extern "C" __global__ void warps(const unsigned* x, unsigned* out) {
    unsigned lane = threadIdx.x, value = x[lane];
    unsigned* o = out + lane * 8;
    o[0] = __ballot_sync(0xffffffff, value & 1);
    o[1] = __any_sync(0xffffffff, value == 3) * 2 + __all_sync(0xffffffff, value < 1000);
    o[2] = __match_any_sync(0xffffffff, value % 4);
    o[3] = __reduce_add_sync(0xffffffff, value);
    o[4] = __shfl_up_sync(0xffffffff, value, 3, 8);
    o[5] = lane < 16 ? __shfl_xor_sync(0x0000ffff, value, 1) : __shfl_xor_sync(0xffff0000, value, 2);
    o[6] = __reduce_max_sync(0xffffffff, value ^ 0x80000000);
    o[7] = __popc(__activemask());
}

// A switch, indirect through a table, and local memory.
extern "C" __global__ void choices(int n, const int* x, int* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int table[8];
    for (int j = 0; j < 8; j++) table[j] = x[i] * j + j;
    int result;
    switch (x[i]) {
        case 0: result = 7; break;
        case 1: result = table[x[i] + 2] * 3; break;
        case 2: result = x[i] << 4; break;
        case 3: result = -x[i] - 100; break;
        case 4: result = table[(x[i] * 5) & 7]; break;
        case 5: result = 1000 / x[i]; break;
        default: result = table[x[i] & 7] - 1;
    }
    out[i] = result;
}

// Double precision, 64-bit integers, division.
extern "C" __global__ void wide(int n, const double* x, const long long* k, double* out, long long* quotients) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    out[i] = sqrt(fabs(x[i])) * 3.0 + x[i] / 7.0;
    quotients[i] = k[i] / 37 + k[i] % 11 - (k[i] >> 3);
}
