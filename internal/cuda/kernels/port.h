// port.h - one kernel source, two compilers: clang for the device and the host's
// C++ compiler for tests. No NVIDIA header is needed: types of 16 bits travel as
// integers, and every special instruction is one small inline function here,
// with a scalar twin in host/host.h.
#pragma once
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef WANRUN_HOST
#include "host/host.h"
#else
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define KERNEL(threads) extern "C" __global__ __attribute__((launch_bounds(threads))) void
#define DEV static __device__ inline __attribute__((always_inline))
#define DEV_MEMBER static __device__ inline __attribute__((always_inline))
#define RESTRICT __restrict__
#define UNROLL _Pragma("unroll")
#define SHARED(name) extern __shared__ __attribute__((aligned(128))) u8 name[]
#define SPECIAL_REGISTER(fn, reg) \
  DEV u32 fn() { u32 r; asm volatile("mov.u32 %0, %" reg ";" : "=r"(r)); return r; }
SPECIAL_REGISTER(thread_x, "%tid.x")
SPECIAL_REGISTER(block_x, "%ctaid.x")
SPECIAL_REGISTER(block_y, "%ctaid.y")
SPECIAL_REGISTER(block_z, "%ctaid.z")
SPECIAL_REGISTER(block_threads, "%ntid.x")
SPECIAL_REGISTER(grid_x, "%nctaid.x")
DEV void block_sync() { asm volatile("bar.sync 0;" ::: "memory"); }
DEV float shuffle_xor(float v, int mask) {
  float r;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=f"(r) : "f"(v), "r"(mask));
  return r;
}
// Approximate: 2 ulp, results below 2^-126 become 0.
DEV float f_exp2(float x) { float r; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
DEV float f_log2(float x) { float r; asm("lg2.approx.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
DEV float f_inverse(float x) { float r; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
// Correctly rounded.
DEV float f_sqrt(float x) { float r; asm("sqrt.rn.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
DEV float f_div(float a, float b) { float r; asm("div.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
// Products and sums that must not be contracted to one rounding.
DEV float f_mul(float a, float b) { float r; asm("mul.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
DEV float f_add(float a, float b) { float r; asm("add.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
// The other operand where one is NaN.
DEV float f_max(float a, float b) { float r; asm("max.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
DEV u32 f_bits(float f) { u32 r; asm("mov.b32 %0, %1;" : "=r"(r) : "f"(f)); return r; }
DEV float bits_f(u32 u) { float r; asm("mov.b32 %0, %1;" : "=f"(r) : "r"(u)); return r; }
DEV float f16_f(u16 h) { float r; asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(h)); return r; }
// Two numbers rounded to nearest even, lo in bits 0..15.
DEV u32 pack_bf16(float lo, float hi) { u32 r; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo)); return r; }
DEV u32 pack_f16(float lo, float hi) { u32 r; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo)); return r; }
DEV u32 tf32(float f) { u32 r; asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(f)); return r; }
DEV u32 shared_address(const void *p) {
  u32 a;
  asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(a) : "l"(p));
  return a;
}
// Sixteen bytes to shared memory behind the thread's back; zeros where !ok, and
// then nothing is read.
DEV void copy16(void *to, const void *from, bool ok) {
  int n = ok ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(n) : "memory");
}
DEV void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEV void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l%8 of matrix l/8.
DEV void load_matrix(u32 *d, const void *p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(shared_address(p)) : "memory");
}
DEV void load_matrix_transposed(u32 *d, const void *p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(shared_address(p)) : "memory");
}
// c += a b for a [16, 16], b [16, 8] (tf32: [16, 8] and [8, 8]), fragments as PTX has them.
#define MMA(fn, shape, types)                                                                                    \
  DEV void fn(float *c, const u32 *a, const u32 *b) {                                                            \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." types ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                            \
  }
MMA(mma_bf16, "m16n8k16", "bf16.bf16")
MMA(mma_f16, "m16n8k16", "f16.f16")
MMA(mma_tf32, "m16n8k8", "tf32.tf32")
#endif

DEV float bf16_f(u16 h) { return bits_f((u32)h << 16); }
DEV float f_exp(float x) { return f_exp2(x * 1.4426950408889634f); }
DEV float f_rcp(float x) { return f_div(1.f, x); }
