// What programs hand to a kernel, besides pointers and numbers.

// 24 bytes, with a hole before `wide`.
struct Parts { char small; double wide; unsigned short pair[2]; float last; };

extern "C" __global__ void by_value(Parts parts, long long big, double* out) {
    out[0] = parts.small; out[1] = parts.wide; out[2] = parts.pair[0]; out[3] = parts.pair[1];
    out[4] = parts.last;  out[5] = (double)big;
}

__constant__ float weights[4] = {1, 2, 3, 4};
__device__ int calls = 5;

extern "C" __global__ void weighted(int n, float* x) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= weights[i % 4];
    if (i == 0) calls++;
}

// Turns each block's part around, by way of dynamic shared memory.
extern "C" __global__ void turn(int* x) {
    extern __shared__ int space[];
    int* part = x + blockIdx.x * blockDim.x;
    space[threadIdx.x] = part[threadIdx.x];
    __syncthreads();
    part[threadIdx.x] = space[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(64, 2) small_blocks(int* x) { x[blockIdx.x * blockDim.x + threadIdx.x] = 1; }

extern "C" __global__ void shape(unsigned* out) {
    if (threadIdx.x + threadIdx.y + threadIdx.z) return;
    unsigned at = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    out[at] = ((gridDim.x * 10 + gridDim.y) * 10 + gridDim.z) * 1000 + (blockDim.x * 10 + blockDim.y) * 10 + blockDim.z;
}

extern "C" __global__ void count(unsigned* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] += 1;
}
