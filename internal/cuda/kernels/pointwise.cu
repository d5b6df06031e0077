// Elementwise ops, F32, BF16 and F16 in and out, arithmetic in F32.
//
//	cast        y = x
//	fill        y = v
//	multiply    y = a * b
//	add_scaled  x = x + y * gate                 (gate [c] or null: the residual behind a gate)
//	affine      y = x * (base + scale) + shift   (scale, shift [c] or null)
//	bias_act    y = act(x + bias)                (bias [c] or null; epilogue of products without one)
//	clamp       y = min(max(x, lo), hi)
//	quantize    y = bytes of (clamp(x, -1, 1) + 1) / 2 * 255, truncated or rounded half up
//
// n elements; those of c are F32 vectors over the last dim. y may be x.
// Launch: blocks of 256 threads, 4 elements a thread in one step, at most 4096
// blocks that stride over the rest.
// Roofline: memory, each tensor once. bias_act to BF16 of [32760, 13824] from F32:
// 2.7 GB, 0.81 ms at 3.35 TB/s.
#include "types.h"

enum Activation { NONE = 0, GELU_TANH = 1, GELU_ERF = 2, SILU = 3 };

// 1 / (1 + exp(-x)), without overflow.
DEV float logistic(float x) { return f_inverse(1.f + f_exp(-x)); }

// 0.5 (1 + erf(z)), by the series of erf with terms of one sign for small z, else by
// the continued fraction of erfc, from the end.
DEV float normal_below(float z) {
  const float a = z < 0.f ? -z : z, e = f_exp(-a * a);
  if (a < 1.5f) {
    float term = a, sum = a;
    for (int i = 1; i < 24; i++) {
      term *= a * a * (2.f / (float)(2 * i + 1));
      sum += term;
    }
    const float half = sum * e * 0.5641895835477563f;  // 1/sqrt(pi)
    return z < 0.f ? 0.5f - half : 0.5f + half;
  }
  float tail = a;
  for (int i = 32; i > 0; i--) tail = a + f_div(0.5f * (float)i, tail);
  const float half = f_div(0.28209479177387814f * e, tail);
  return z < 0.f ? half : z == z ? 1.f - half : z;
}

DEV float activate(float x, int act) {
  if (act == GELU_TANH) return x * logistic(1.5957691216057308f * (x + 0.044715f * x * x * x));  // 2 sqrt(2/pi)
  if (act == GELU_ERF) return x * normal_below(x * 0.7071067811865476f);
  if (act == SILU) return x * logistic(x);
  return x;
}

// The column of element i of rows of c, cheaply where i has 32 bits.
DEV u32 column(u64 i, u32 c) { return i >> 32 ? (u32)(i % c) : (u32)i % c; }

// f(element, its index, its column) for every element, four at a time where that
// is possible; the column is 0 where c is.
template <class F> DEV void each(void *y, const void *x, u64 n, u32 c, int yt, int xt, F f) {
  const u64 first = (u64)block_x() * block_threads() + thread_x(), all = (u64)grid_x() * block_threads();
  u64 done = 0;
  if (fours(x, 0) && fours(y, 0)) {
    done = n & ~(u64)3;
    for (u64 i = first * 4; i < done; i += all * 4) {
      Float4 v = load4(x, i, xt);
      u32 k = c ? column(i, c) : 0;
      UNROLL for (int j = 0; j < 4; j++) {
        v.v[j] = f(v.v[j], i + j, k);
        if (c && ++k == c) k = 0;
      }
      store4(y, i, v, yt);
    }
  }
  for (u64 i = done + first; i < n; i += all) store(y, i, f(load(x, i, xt), i, c ? column(i, c) : 0), yt);
}

KERNEL(256) cast(void *y, const void *x, int yt, int xt, u64 n) {
  each(y, x, n, 0, yt, xt, [](float v, u64, u32) { return v; });
}

KERNEL(256) fill(void *y, int yt, u64 n, float v) {
  const u64 all = (u64)grid_x() * block_threads();
  for (u64 i = (u64)block_x() * block_threads() + thread_x(); i < n; i += all) store(y, i, v, yt);
}

KERNEL(256) multiply(void *y, const void *a, const void *b, int yt, int at, int bt, u64 n) {
  each(y, a, n, 0, yt, at, [=](float v, u64 i, u32) { return v * load(b, i, bt); });
}

KERNEL(256) add_scaled(void *x, const void *y, const float *gate, int xt, int yt, u64 n, int c) {
  each(x, x, n, c, xt, xt, [=](float v, u64 i, u32 k) {
    const float add = load(y, i, yt);
    return v + (gate ? add * gate[k] : add);
  });
}

KERNEL(256) affine(void *y, const void *x, const float *scale, const float *shift, int yt, int xt, u64 n, int c, float base) {
  each(y, x, n, c, yt, xt, [=](float v, u64, u32 k) {
    return v * (scale ? base + scale[k] : base) + (shift ? shift[k] : 0.f);
  });
}

KERNEL(256) bias_act(void *y, const void *x, const float *bias, int yt, int xt, u64 n, int c, int act) {
  each(y, x, n, c, yt, xt, [=](float v, u64, u32 k) { return activate(bias ? v + bias[k] : v, act); });
}

// A comparison with NaN is false: NaN stays.
KERNEL(256) clamp(void *y, const void *x, int yt, int xt, u64 n, float lo, float hi) {
  each(y, x, n, 0, yt, xt, [=](float v, u64, u32) { return v < lo ? lo : v > hi ? hi : v; });
}

// NaN becomes 0, as the comparison decides.
KERNEL(256) quantize(u8 *y, const void *x, int xt, u64 n, int round) {
  const u64 all = (u64)grid_x() * block_threads();
  for (u64 i = (u64)block_x() * block_threads() + thread_x(); i < n; i += all) {
    const float v = load(x, i, xt);
    const float limited = v > -1.f ? v > 1.f ? 1.f : v : -1.f;
    y[i] = (u8)(int)f_add(f_mul(f_mul(f_add(limited, 1.f), 0.5f), 255.f), round ? 0.5f : 0.f);
  }
}
