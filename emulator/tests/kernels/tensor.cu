// d (m x n, f32) = a (m x k) b (n x k, transposed), bf16 or f16: tiles of 32 x 32 x 32, four warps of
// 16 x 16, two stages of cp.async, ldmatrix, mma.m16n8k16. m, n, k are multiples of 32.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
__device__ unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }

__device__ void copy16(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from));
}

template <bool HALF>
__device__ void mma(float* d, const unsigned* a, const unsigned* b) {
    if (HALF)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// LATE: waits one group too late. UNSYNCED: no barrier before the stage is filled again.
template <bool HALF, bool LATE, bool UNSYNCED>
__device__ void gemm(int m, int n, int k, const unsigned short* a, const unsigned short* b, float* d) {
    __shared__ __align__(16) unsigned short sa[2][32][40], sb[2][32][40];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int row = blockIdx.y * 32, column = blockIdx.x * 32;
    int wr = warp / 2 * 16, wc = warp % 2 * 16;
    float sum[2][4] = {};
    auto fill = [&](int stage, int at) {
        int r = threadIdx.x / 4, c = threadIdx.x % 4 * 8;
        copy16(&sa[stage][r][c], a + (row + r) * k + at + c);
        copy16(&sb[stage][r][c], b + (column + r) * k + at + c);
    };
    fill(0, 0);
    asm volatile("cp.async.commit_group;");
    for (int at = 0, stage = 0; at < k; at += 32, stage ^= 1) {
        if (at + 32 < k) fill(stage ^ 1, at + 32);
        asm volatile("cp.async.commit_group;");
        if (LATE) asm volatile("cp.async.wait_group 2;"); else asm volatile("cp.async.wait_group 1;");
        __syncthreads();
        for (int kk = 0; kk < 32; kk += 16) {
            unsigned fa[4], fb[4];
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                         : "=r"(fa[0]), "=r"(fa[1]), "=r"(fa[2]), "=r"(fa[3])
                         : "r"(shared_address(&sa[stage][wr + lane % 16][kk + lane / 16 * 8])));
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                         : "=r"(fb[0]), "=r"(fb[1]), "=r"(fb[2]), "=r"(fb[3])
                         : "r"(shared_address(&sb[stage][wc + lane % 8 + lane / 16 * 8][kk + lane / 8 % 2 * 8])));
            mma<HALF>(sum[0], fa, fb);
            mma<HALF>(sum[1], fa, fb + 2);
        }
        if (!UNSYNCED) __syncthreads();
    }
    for (int j = 0; j < 2; j++)
        for (int i = 0; i < 4; i++)
            d[(row + wr + lane / 4 + i / 2 * 8) * n + column + wc + j * 8 + lane % 4 * 2 + i % 2] = sum[j][i];
}
#define GEMM(name, ...) \
    extern "C" __global__ void name(int m, int n, int k, const unsigned short* a, const unsigned short* b, float* d) { gemm<__VA_ARGS__>(m, n, k, a, b, d); }
GEMM(gemm_bf16, false, false, false)
GEMM(gemm_f16, true, false, false)
GEMM(gemm_late, false, true, false)
GEMM(gemm_unsynced, false, false, true)

// One warp: fragments in, fragments out. Words of lane l: in[l * 16 ...], out[l * 4 ...].
#define FRAGMENT(name, text, A, B, C, D, ...) \
    extern "C" __global__ void name(const unsigned* in, unsigned* out) { \
        const unsigned* w = in + threadIdx.x * 16; \
        const unsigned *a = w, *b = w + 4, *c = w + 8; \
        unsigned d[4] = {0, 0, 0, 0}; \
        asm volatile(text __VA_ARGS__); \
        for (int i = 0; i < 4; i++) out[threadIdx.x * 4 + i] = d[i]; \
    }
#define D4 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) :
#define D2 : "=r"(d[0]), "=r"(d[1]) :
#define A4 "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
#define A2 "r"(a[0]), "r"(a[1]),
#define B2 "r"(b[0]), "r"(b[1]),
#define B1 "r"(b[0]),
#define C4 "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3])
#define C2 "r"(c[0]), "r"(c[1])
FRAGMENT(k8_f16, "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};", , , , , D4 A2 B1 C4)
FRAGMENT(k8_bf16, "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};", , , , , D4 A2 B1 C4)
FRAGMENT(k16_f16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};", , , , , D4 A4 B2 C4)
FRAGMENT(k16_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};", , , , , D4 A4 B2 C4)
FRAGMENT(k16_f16_f16, "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%8,%9};", , , , , D2 A4 B2 C2)
FRAGMENT(k8_tf32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};", , , , , D4 A4 B2 C4)
FRAGMENT(k4_tf32, "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%8,%9,%10};", , , , , D4 A2 B1 C4)
FRAGMENT(k32_s8, "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};", , , , , D4 A4 B2 C4)

// Four 8 x 8 matrices of 16-bit elements, as they lie and transposed: out[l * 8 ...].
extern "C" __global__ void matrices(const unsigned short* in, unsigned* out) {
    __shared__ __align__(16) unsigned short tile[4][8][8];
    for (int i = threadIdx.x; i < 256; i += 32) (&tile[0][0][0])[i] = in[i];
    __syncwarp();
    unsigned at = shared_address(&tile[threadIdx.x / 8][threadIdx.x % 8][0]), d[8];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(at));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(d[4]), "=r"(d[5]), "=r"(d[6]), "=r"(d[7]) : "r"(at));
    for (int i = 0; i < 8; i++) out[threadIdx.x * 8 + i] = d[i];
}
