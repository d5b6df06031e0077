// host.h - the host twins of port.h's instructions. Every CUDA thread is a fibre;
// an instruction of a whole warp is an exchange among 32 fibres; an asynchronous
// copy poisons its target and copies only when it is waited for.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
namespace host {
struct Self { u32 thread, bx, by, bz, threads, gx; u8 *shared; };
extern __thread Self self;
void block_barrier(int line);
// Publishes n bytes of this lane, waits for the warp, returns the 32 lanes' slots, 64 bytes apart.
const u8 *exchange(int op, const void *mine, int n);
void copy_async(void *to, const void *from, bool ok);
void copy_commit();
void copy_wait(int left);
struct Kernel { const char *name; void (*call)(u64 *args); int num_args; u32 max_threads; };
void add(Kernel k);
template <class T> T argument(u64 &a) { T v; memcpy(&v, &a, sizeof v); return v; }
template <class... A, size_t... I> void apply(void (*f)(A...), u64 *p, std::index_sequence<I...>) { f(argument<A>(p[I])...); }
template <auto F> struct Entry;
template <class... A, void (*F)(A...)> struct Entry<F> {
  static void call(u64 *p) { apply(F, p, std::index_sequence_for<A...>{}); }
  Entry(const char *name, u32 threads) { add({name, &call, sizeof...(A), threads}); }
};
}
#define KERNEL(threads) extern "C" void
#define DEV static inline
#define DEV_MEMBER static inline
#define RESTRICT __restrict__
#define UNROLL
#define SHARED(name) u8 *const name = host::self.shared
DEV u32 thread_x() { return host::self.thread; }
DEV u32 block_x() { return host::self.bx; }
DEV u32 block_y() { return host::self.by; }
DEV u32 block_z() { return host::self.bz; }
DEV u32 block_threads() { return host::self.threads; }
DEV u32 grid_x() { return host::self.gx; }
DEV void block_sync(int line = __builtin_LINE()) { host::block_barrier(line); }
DEV float shuffle_xor(float v, int mask) {
  const u8 *w = host::exchange(2, &v, 4);
  float r;
  memcpy(&r, w + 64 * ((thread_x() & 31) ^ mask), 4);
  return r;
}
DEV float f_exp2(float x) { const float r = exp2f(x); return r < 0x1p-126f ? 0.f : r; }
DEV float f_log2(float x) { return log2f(x); }
DEV float f_sqrt(float x) { return sqrtf(x); }
DEV float f_inverse(float x) { return 1.f / x; }
DEV float f_div(float a, float b) { return a / b; }
DEV float f_mul(float a, float b) { return a * b; }
DEV float f_add(float a, float b) { return a + b; }
DEV float f_max(float a, float b) { return a != a ? b : b != b ? a : a > b ? a : b; }
DEV u32 f_bits(float f) { u32 u; memcpy(&u, &f, 4); return u; }
DEV float bits_f(u32 u) { float f; memcpy(&f, &u, 4); return f; }
DEV u32 tf32(float f) { const u32 u = f_bits(f); return f != f ? 0x7fffffffu : (u + 0x1000) & ~0x1fffu; }
DEV u32 to_bf16(float f) { const u32 u = f_bits(f); return f != f ? 0x7fff : (u + 0x7fff + ((u >> 16) & 1)) >> 16; }
DEV u32 pack_bf16(float lo, float hi) { return to_bf16(lo) | to_bf16(hi) << 16; }
DEV float f16_f(u16 h) {
  const u32 sign = (u32)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
  if (e == 31) return bits_f(sign | 0x7f800000u | m << 13);
  const float v = e ? ldexpf((float)(1024 + m), (int)e - 25) : ldexpf((float)m, -24);
  return sign ? -v : v;
}
DEV u32 to_f16(float f) {
  const u32 sign = f_bits(f) >> 16 & 0x8000;
  const float a = fabsf(f);
  if (f != f) return 0x7fff;
  if (a >= 65520.f) return sign | 0x7c00;
  if (a < 0x1p-14f) return sign | (u32)rintf(a * 0x1p24f);
  const u32 u = f_bits(a), r = u + 0xfff + (u >> 13 & 1);
  return sign | ((r >> 13) - (112 << 10));
}
DEV u32 pack_f16(float lo, float hi) { return to_f16(lo) | to_f16(hi) << 16; }
DEV void copy16(void *to, const void *from, bool ok) { host::copy_async(to, from, ok); }
DEV void copy_commit() { host::copy_commit(); }
template <int N> DEV void copy_wait() { host::copy_wait(N); }
DEV const u8 *lane_pointer(const u8 *w, int l) { const u8 *p; memcpy(&p, w + 64 * l, 8); return p; }
DEV void load_matrix(u32 *d, const void *p) {
  const u8 *w = host::exchange(3, &p, 8);
  const int l = thread_x() & 31;
  for (int m = 0; m < 4; m++) memcpy(&d[m], lane_pointer(w, 8 * m + (l >> 2)) + 4 * (l & 3), 4);
}
DEV void load_matrix_transposed(u32 *d, const void *p) {
  const u8 *w = host::exchange(4, &p, 8);
  const int l = thread_x() & 31, t = l & 3, g = l >> 2;
  for (int m = 0; m < 4; m++) {
    u16 a, b;
    memcpy(&a, lane_pointer(w, 8 * m + 2 * t) + 2 * g, 2);
    memcpy(&b, lane_pointer(w, 8 * m + 2 * t + 1) + 2 * g, 2);
    d[m] = a | (u32)b << 16;
  }
}
// PTX ISA, fragments of mma.m16n8k16: lane 4g+t has of a rows g and g+8, columns
// 2t, 2t+1 and those + 8; of b rows 2t, 2t+1 and those + 8, column g; of c rows g
// and g+8, columns 2t, 2t+1.
template <class ToFloat> DEV void mma_16(int op, float *c, const u32 *a, const u32 *b, ToFloat f) {
  const u32 mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const u8 *w = host::exchange(op, mine, 24);
  const int l = thread_x() & 31, t = l & 3, g = l >> 2;
  for (int half = 0; half < 2; half++)
    for (int q = 0; q < 4; q++) {
      const u32 *ar = (const u32 *)(w + 64 * (4 * g + q)) + 2 * half;
      for (int j = 0; j < 2; j++) {
        const u32 bb = ((const u32 *)(w + 64 * (4 * (2 * t + j) + q)))[4 + half];
        const float b0 = f((u16)bb), b1 = f((u16)(bb >> 16));
        for (int r = 0; r < 2; r++) c[2 * r + j] += f((u16)ar[r]) * b0 + f((u16)(ar[r] >> 16)) * b1;
      }
    }
}
DEV void mma_bf16(float *c, const u32 *a, const u32 *b) {
  mma_16(5, c, a, b, [](u16 h) { return bits_f((u32)h << 16); });
}
DEV void mma_f16(float *c, const u32 *a, const u32 *b) { mma_16(6, c, a, b, f16_f); }
// mma.m16n8k8.tf32: lane 4g+t has of a (g, t), (g+8, t), (g, t+4), (g+8, t+4); of b (t, g), (t+4, g).
DEV void mma_tf32(float *c, const u32 *a, const u32 *b) {
  const u32 mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const u8 *w = host::exchange(7, mine, 24);
  const int l = thread_x() & 31, t = l & 3, g = l >> 2;
  for (int half = 0; half < 2; half++)
    for (int q = 0; q < 4; q++) {
      const u32 *ar = (const u32 *)(w + 64 * (4 * g + q)) + 2 * half;
      for (int j = 0; j < 2; j++) {
        const float bb = bits_f(((const u32 *)(w + 64 * (4 * (2 * t + j) + q)))[4 + half] & ~0x1fffu);
        for (int r = 0; r < 2; r++) c[2 * r + j] += bits_f(ar[r] & ~0x1fffu) * bb;
      }
    }
}
