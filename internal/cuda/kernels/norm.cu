// Norms over rows of c elements, x and y of any of three types, statistics in F32.
//
//	rms_norm    y = x / sqrt(mean(x²) + eps) * w
//	l2_norm     y = x / max(|x|, 1e-12) * sqrt(c) * w      (the VAE's RMS_norm over channels)
//	layer_norm  y = (x - mean) / sqrt(var + eps) [* w + b] [* (1 + scale) + shift]
//
// x, y [rows, c]; w, b, scale, shift [c] F32, none where null. y may be x.
// Launch: a block of 256 threads a row (64 up to 256 columns), 128 bytes of shared memory.
// Roofline: memory. Once each of x and y from DRAM; the second and third readings
// of the row hit L1 or L2 (a row of 5120 F32 has 20 KiB). At 3.35 TB/s a
// [32760, 5120] BF16 norm needs at least 0.20 ms.
#include "types.h"

// The sum of (x - mean)² of a row.
DEV float row_squares(const void *x, u64 at, int c, int type, bool vec, float mean, float *red) {
  float s = 0.f;
  const int t = thread_x(), nt = block_threads();
  if (vec)
    for (int i = t * 4; i < c; i += nt * 4) {
      const Float4 f = load4(x, at + i, type);
      UNROLL for (int j = 0; j < 4; j++) s += (f.v[j] - mean) * (f.v[j] - mean);
    }
  else
    for (int i = t; i < c; i += nt) {
      const float f = load(x, at + i, type) - mean;
      s += f * f;
    }
  return block_sum(s, red);
}

DEV float row_sum(const void *x, u64 at, int c, int type, bool vec, float *red) {
  float s = 0.f;
  const int t = thread_x(), nt = block_threads();
  if (vec)
    for (int i = t * 4; i < c; i += nt * 4) {
      const Float4 f = load4(x, at + i, type);
      UNROLL for (int j = 0; j < 4; j++) s += f.v[j];
    }
  else
    for (int i = t; i < c; i += nt) s += load(x, at + i, type);
  return block_sum(s, red);
}

DEV void scale_row(const void *x, void *y, const float *w, u64 at, int c, int xt, int yt, bool vec, float factor) {
  const int t = thread_x(), nt = block_threads();
  if (vec)
    for (int i = t * 4; i < c; i += nt * 4) {
      Float4 f = load4(x, at + i, xt);
      const Float4 g = load4(w, i, F32);
      UNROLL for (int j = 0; j < 4; j++) f.v[j] = f.v[j] * factor * g.v[j];
      store4(y, at + i, f, yt);
    }
  else
    for (int i = t; i < c; i += nt) store(y, at + i, load(x, at + i, xt) * factor * w[i], yt);
}

KERNEL(256) rms_norm(void *y, const void *x, const float *w, int yt, int xt, int c, float eps) {
  SHARED(shared);
  const u64 at = (u64)block_x() * c;
  const bool vec = fours(x, c) && fours(y, c) && fours(w, c);
  const float mean = f_div(row_squares(x, at, c, xt, vec, 0.f, (float *)shared), (float)c);
  scale_row(x, y, w, at, c, xt, yt, vec, f_rcp(f_sqrt(mean + eps)));
}

KERNEL(256) l2_norm(void *y, const void *x, const float *w, int yt, int xt, int c) {
  SHARED(shared);
  const u64 at = (u64)block_x() * c;
  const bool vec = fours(x, c) && fours(y, c) && fours(w, c);
  const float size = f_sqrt(row_squares(x, at, c, xt, vec, 0.f, (float *)shared));
  // Not f_max: a NaN must stay one.
  scale_row(x, y, w, at, c, xt, yt, vec, f_div(f_sqrt((float)c), size < 1e-12f ? 1e-12f : size));
}

KERNEL(256) layer_norm(void *y, const void *x, const float *w, const float *b, const float *scale, const float *shift,
                       int yt, int xt, int c, float eps) {
  SHARED(shared);
  float *red = (float *)shared;
  const u64 at = (u64)block_x() * c;
  const bool vec = fours(x, c);
  const float mean = f_div(row_sum(x, at, c, xt, vec, red), (float)c);
  const float factor = f_rcp(f_sqrt(f_div(row_squares(x, at, c, xt, vec, mean, red), (float)c) + eps));
  const bool vec_all = vec && fours(y, c) && fours(w, c) && fours(b, c) && fours(scale, c) && fours(shift, c);
  const int t = thread_x(), nt = block_threads(), step = vec_all ? 4 : 1;
  for (int i = t * step; i < c; i += nt * step) {
    Float4 f;
    if (vec_all) f = load4(x, at + i, xt);
    else f.v[0] = load(x, at + i, xt);
    UNROLL for (int j = 0; j < 4; j++) {
      if (j >= step) break;
      float v = (f.v[j] - mean) * factor;
      if (w) v *= w[i + j];
      if (b) v += b[i + j];
      if (scale) v *= 1.f + scale[i + j];
      if (shift) v += shift[i + j];
      f.v[j] = v;
    }
    if (vec_all) store4(y, at + i, f, yt);
    else store(y, at + i, f.v[0], yt);
  }
}
