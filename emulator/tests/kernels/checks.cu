// For every check a kernel that breaks the rule if `bad`, and keeps it otherwise.
#define KERNEL extern "C" __global__ void

KERNEL bounds(int bad, int n, float* x) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n + bad) x[i] = 1;
}

KERNEL shared_bounds(int bad, int* out) {
    extern __shared__ int space[];
    space[threadIdx.x + bad] = threadIdx.x;
    out[threadIdx.x] = space[threadIdx.x + bad];
}

KERNEL alignment(int bad, const char* x, int* out) { out[threadIdx.x] = *(const int*)(x + 4 * threadIdx.x + 2 * bad); }

KERNEL read_all(int n, const float* x, float* out) {
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
    out[threadIdx.x] = sum;
}

KERNEL shared_unwritten(int bad, int* out) {
    __shared__ int space[64];
    if (threadIdx.x < 64 - bad) space[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = space[63 - threadIdx.x];
}

KERNEL local_unwritten(int bad, int at, int* out) {
    int list[32];
    for (int i = bad; i < 32; i++) list[i * at % 32] = i;
    int sum = 0;
    for (int i = 0; i < 32; i++) sum += list[i * at % 32];
    out[threadIdx.x] = sum;
}

KERNEL missing_barrier(int bad, int* out) {
    __shared__ int space[128];
    space[threadIdx.x] = threadIdx.x;
    if (!bad) __syncthreads();
    out[threadIdx.x] = space[127 - threadIdx.x];
}

// The second write may come before the other warp's read of the first.
KERNEL write_after_read(int bad, int* out) {
    __shared__ int space[64];
    space[threadIdx.x] = threadIdx.x;
    __syncthreads();
    int other = space[63 - threadIdx.x];
    if (!bad) __syncthreads();
    space[threadIdx.x] = other + 1;
    __syncthreads();
    out[threadIdx.x] = space[threadIdx.x];
}

KERNEL missing_syncwarp(int bad, int* out) {
    __shared__ volatile int space[32];
    int* plain = (int*)space;
    plain[threadIdx.x] = threadIdx.x;
    if (!bad) __syncwarp();
    asm volatile("" ::: "memory");
    out[threadIdx.x] = plain[31 - threadIdx.x];
}

KERNEL shared_sum(int bad, int* out) {
    __shared__ int sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    if (bad) sum += threadIdx.x; else atomicAdd(&sum, threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = sum;
}

// Warps 0 and 1 meet at barrier 1, warps 2 and 3 at barrier 2.
KERNEL named_barriers(int bad, int* out) {
    __shared__ int space[128];
    space[threadIdx.x] = threadIdx.x;
    int half = threadIdx.x / 64;
    asm volatile("bar.sync %0, 64;" ::"r"(1 + half) : "memory");
    int other = threadIdx.x ^ 32;
    if (bad) other = threadIdx.x ^ 64;
    out[threadIdx.x] = space[other];
}

KERNEL global_race(int bad, int* out) {
    if (threadIdx.x == 0) {
        if (bad) *out += 1; else atomicAdd(out, 1);
    }
}

KERNEL block_overlap(int bad, int* out) {
    int i = blockIdx.x * (blockDim.x - bad) + threadIdx.x;
    out[i] = blockIdx.x;
}

KERNEL async_early(int bad, const int* x, int* out) {
    __shared__ int space[32];
    unsigned to = (unsigned)__cvta_generic_to_shared(&space[threadIdx.x]);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(x + threadIdx.x) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
    if (!bad) asm volatile("cp.async.wait_group 0;" ::: "memory");
    out[threadIdx.x] = space[threadIdx.x];
}

// The wait is there, but other threads' copies need a barrier too.
KERNEL async_no_barrier(int bad, const int* x, int* out) {
    __shared__ int space[64];
    unsigned to = (unsigned)__cvta_generic_to_shared(&space[threadIdx.x]);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(x + threadIdx.x) : "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");
    if (!bad) __syncthreads();
    out[threadIdx.x] = space[threadIdx.x ^ 32];
}

KERNEL zero_fill(int n, const float* x, float* out) {
    __shared__ __align__(16) float space[128];
    unsigned to = (unsigned)__cvta_generic_to_shared(&space[4 * threadIdx.x]);
    int left = 4 * (n - 4 * (int)threadIdx.x);
    int bytes = left < 0 ? 0 : left > 16 ? 16 : left;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(bytes ? x + 4 * threadIdx.x : x), "r"(bytes) : "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");
    for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = space[4 * threadIdx.x + i];
}

KERNEL divergent_barrier(int bad, int* out) {
    __shared__ int space[64];
    if (bad && threadIdx.x < 40) {
        space[threadIdx.x] = 1;
        __syncthreads();
    } else {
        space[threadIdx.x] = 2;
        __syncthreads();
    }
    out[threadIdx.x] = space[threadIdx.x];
}

KERNEL lonely_barrier(int bad, int* out) {
    if (threadIdx.x < 32 || !bad) asm volatile("bar.sync 3, 64;" ::: "memory");
    out[threadIdx.x] = 1;
}

KERNEL endless(int bad, volatile int* flag) {
    while (*flag == bad) {}
}

KERNEL partial_shuffle(int bad, int* out) {
    int value = threadIdx.x;
    if (threadIdx.x < 16) value = __shfl_xor_sync(bad ? 0xffffffff : 0xffff, value, 1);
    out[threadIdx.x] = value;
}

KERNEL register_unwritten(int bad, int* out) {
    int value;
    if (threadIdx.x >= bad) asm volatile("mov.u32 %0, %1;" : "=r"(value) : "r"(threadIdx.x));
    out[threadIdx.x] = value;
}

KERNEL give_up(int bad, int* out) {
    if (bad && threadIdx.x == 5) asm volatile("trap;");
    out[threadIdx.x] = 1;
}
