// Softmax with T5's relative bias, attention of any head dim, and merging of parts.
//
//	softmax_bias    p[n, i, j] = softmax over j < key_len of (scale s[n, i, j] + bias[n, j - i + sq - 1]),
//	                0 for j >= key_len: for products by a library
//	attention_any   o = softmax(scale q kᵀ + bias) v, all in F32, one query and head a block
//	attention_join  o of parts [splits, rows, d] and their lse [splits, rows], rows = sq n
//	merge           acc, lse and part, part_lse become acc and lse of both, in place
//
// q, o [sq, n, d], k, v [sk, n, d], bias [n, sq+sk-1] F32 or null, lse [sq, n] F32 or null.
// A key whose bias is -infinity counts for nothing.
// Launch: softmax_bias: grid (sq, n), 128 threads. attention_any: grid (sq, n), 128 threads,
// shared memory (2 d + 128 + 32) floats. attention_join, merge: a block of 128 threads a row.
// Roofline: softmax_bias, join and merge memory (T5, 512 tokens, 64 heads: 67 MB logits read and
// 34 MB BF16 written, 30 us at 3.35 TB/s). attention_any is bound by its loads of K and V from L2, far from
// tensor cores: for T5, CLIP and the VAE's one head, which run once.
#include "types.h"

#define MINUS_INFINITY bits_f(0xff800000u)

DEV float block_max(float v, float *red) {
  const u32 t = thread_x(), warps = block_threads() >> 5;
  UNROLL for (int m = 16; m; m >>= 1) v = f_max(v, shuffle_xor(v, m));
  block_sync();
  if ((t & 31) == 0) red[t >> 5] = v;
  block_sync();
  v = red[0];
  for (u32 i = 1; i < warps; i++) v = f_max(v, red[i]);
  return v;
}

KERNEL(128) softmax_bias(void *p, const float *s, const float *bias, int pt, int sq, int sk, int key_len, float scale) {
  SHARED(shared);
  float *red = (float *)shared;
  const int i = block_x(), n = block_y(), t = thread_x(), nt = block_threads();
  const u64 at = ((u64)n * sq + i) * sk;
  const float *b = bias ? bias + (u64)n * (sq + sk - 1) + (sq - 1 - i) : nullptr;
  float top = MINUS_INFINITY, sum = 0.f;
  for (int j = t; j < key_len; j += nt) top = f_max(top, scale * s[at + j] + (b ? b[j] : 0.f));
  top = block_max(top, red);
  for (int j = t; j < key_len; j += nt) sum += f_exp(scale * s[at + j] + (b ? b[j] : 0.f) - top);
  const float inverse = f_inverse(block_sum(sum, red));
  for (int j = t; j < sk; j += nt)
    store(p, at + j, j < key_len ? f_exp(scale * s[at + j] + (b ? b[j] : 0.f) - top) * inverse : 0.f, pt);
}

KERNEL(128) attention_any(void *o, const void *q, const void *k, const void *v, const float *bias, float *lse, int type, int sq, int sk,
                          int key_len, int n, int d, float scale) {
  SHARED(shared);
  float *red = (float *)shared, *weights = red + 32, *query = weights + 128, *acc = query + d;
  const int i = block_x(), h = block_y(), t = thread_x();
  const u64 at = ((u64)i * n + h) * d;
  const float *b = bias ? bias + (u64)h * (sq + sk - 1) + (sq - 1 - i) : nullptr;
  for (int c = t; c < d; c += 128) query[c] = load(q, at + c, type), acc[c] = 0.f;
  block_sync();
  float top = MINUS_INFINITY, sum = 0.f;
  for (int first = 0; first < key_len; first += 128) {
    const int j = first + t, count = key_len - first < 128 ? key_len - first : 128;
    float logit = MINUS_INFINITY;
    if (t < count) {
      const u64 key = ((u64)j * n + h) * d;
      logit = 0.f;
      if (fours(k, d))
        for (int c = 0; c < d; c += 4) {
          const Float4 f = load4(k, key + c, type);
          UNROLL for (int e = 0; e < 4; e++) logit += query[c + e] * f.v[e];
        }
      else
        for (int c = 0; c < d; c++) logit += query[c] * load(k, key + c, type);
      logit = logit * scale + (b ? b[j] : 0.f);
    }
    const float high = f_max(top, block_max(logit, red));
    // Until a key counts there is nothing to subtract from.
    const float base = high == MINUS_INFINITY ? 0.f : high;
    const float keep = f_exp(top - base), weight = t < count ? f_exp(logit - base) : 0.f;
    weights[t] = weight;
    sum = sum * keep + weight;  // of this thread's keys
    block_sync();               // all weights are there; block_max holds the next ones back
    top = high;
    for (int c = t; c < d; c += 128) {
      float a = acc[c] * keep;
      u64 value = ((u64)first * n + h) * d + c;
      for (int e = 0; e < count; e++, value += (u64)n * d) a += weights[e] * load(v, value, type);
      acc[c] = a;
    }
  }
  sum = block_sum(sum, red);
  const float inverse = f_inverse(sum);
  for (int c = t; c < d; c += 128) store(o, at + c, acc[c] * inverse, type);
  if (lse && t == 0) lse[(u64)i * n + h] = top + f_log2(sum) * 0.6931471805599453f;
}

KERNEL(128) attention_join(void *o, float *lse, const float *parts, const float *part_lse, int type, u64 rows, int splits, int d) {
  const u64 row = block_x();
  float top = MINUS_INFINITY, sum = 0.f;
  for (int z = 0; z < splits; z++) top = f_max(top, part_lse[z * rows + row]);
  for (int z = 0; z < splits; z++) sum += f_exp(part_lse[z * rows + row] - top);
  const float inverse = f_inverse(sum);
  for (int c = thread_x(); c < d; c += block_threads()) {
    float a = 0.f;
    for (int z = 0; z < splits; z++) a += f_exp(part_lse[z * rows + row] - top) * parts[(z * rows + row) * d + c];
    store(o, row * d + c, a * inverse, type);
  }
  if (lse && thread_x() == 0) lse[row] = top + f_log2(sum) * 0.6931471805599453f;
}

// Two sums of nothing stay nothing: acc keeps its values.
KERNEL(128) merge(float *acc, float *lse, const void *part, const float *part_lse, int type, int d) {
  const u64 row = block_x();
  const float a = lse[row], b = part_lse[row], top = f_max(a, b);
  block_sync();  // lse[row] is read by all before one writes it
  if (top == MINUS_INFINITY) return;
  const float ea = f_exp(a - top), eb = f_exp(b - top), sum = ea + eb, inverse = f_inverse(sum), keep = ea * inverse, take = eb * inverse;
  for (int c = thread_x(); c < d; c += block_threads())
    acc[row * d + c] = acc[row * d + c] * keep + load(part, row * d + c, type) * take;
  if (thread_x() == 0) lse[row] = top + f_log2(sum) * 0.6931471805599453f;
}
