// Attention forward without the matrix of logits (FlashAttention-2, arXiv:2307.08691),
// BF16 and F16, head dims 64, 80 and 128, keys from key_len on left out.
//
//	o = softmax(scale q kᵀ) v per head;  lse = log of the sum of exp(scale q kᵀ)
//
// q, o [sq, n, d], k, v [sk, n, d], lse [sq, n] F32 or null. Products take P in the storage
// type; sums and the softmax are F32. scale_log2 is scale / log 2.
// Launch: grid (ceil(sq / (16 warps)), n, splits), 32 threads a warp; 4 warps (64 queries), or
// 8 (128 queries) for long sequences. Shared memory: K and V tiles of 64 keys, two of
// each, 64 d 2 bytes (d = 80: rows of 176 bytes): 64 KiB for d = 128.
// Where few queries would leave processors idle, splits > 1 shares the keys: split z takes
// split_keys of them (a multiple of 64) and writes F32 results and lse to parts
// [splits, sq, n, d] and part_lse [splits, sq, n]; attention_join makes o of them.
// Roofline: tensor cores. 4 sq sk n d FLOP; a block reads all K and V of its head, from L2
// for sq/128 blocks. [32760, 40, 128]: 22 TFLOP, at least 22 ms at 990 TFLOP/s; mma.sync
// reaches at most about two thirds of what wgmma does on Hopper.
#include "types.h"

enum { KEYS = 64 };
#define NEVER (-1e30f)

// How rows of d elements lie in shared memory so that 8 rows of one column of 16-byte
// chunks are in different banks: exclusive or for powers of two, padding else.
template <int D> struct Tile {
  static constexpr int chunks = D / 8, stride = D == 80 ? 176 : D * 2, bytes = KEYS * stride;
};
template <int D> DEV u32 chunk_at(int r, int c) {
  return (u32)(r * Tile<D>::stride + ((D == 80 ? c : c ^ (r & 7)) << 4));
}

struct Bf16 {
  DEV_MEMBER u32 pack(float lo, float hi) { return pack_bf16(lo, hi); }
  DEV_MEMBER void mma(float *c, const u32 *a, const u32 *b) { mma_bf16(c, a, b); }
};
struct Fp16 {
  DEV_MEMBER u32 pack(float lo, float hi) { return pack_f16(lo, hi); }
  DEV_MEMBER void mma(float *c, const u32 *a, const u32 *b) { mma_f16(c, a, b); }
};

// COUNT rows of head h from row on, zeros from row end on.
template <int D, int WARPS, int COUNT> DEV void load_rows(u8 *to, const u16 *from, int row, int end, int n, int h) {
  constexpr int chunks = Tile<D>::chunks;
  static_assert(COUNT * chunks % (WARPS * 32) == 0, "every thread copies as many chunks");
  UNROLL for (int j = 0; j < COUNT * chunks / (WARPS * 32); j++) {
    const int i = j * WARPS * 32 + (int)thread_x(), r = i / chunks, c = i % chunks, at = row + r;
    copy16(to + chunk_at<D>(r, c), from + ((u64)(at < end ? at : 0) * n + h) * D + c * 8, at < end);
  }
}

template <class T, int D, int WARPS>
DEV void attend(u16 *o, const u16 *q, const u16 *k, const u16 *v, float *lse, float *parts, float *part_lse, int sq, int key_len, int n,
                int split_keys, float scale_log2) {
  SHARED(shared);
  constexpr int bytes = Tile<D>::bytes, rows = 16 * WARPS;
  const int lane = thread_x() & 31, warp = thread_x() >> 5, h = block_y(), q0 = block_x() * rows;
  const int g = lane >> 2, t = lane & 3;
  const int first = block_z() * split_keys, end = first + split_keys < key_len ? first + split_keys : key_len;

  u32 qf[D / 16][4];
  load_rows<D, WARPS, rows>(shared, q, q0, sq, n, h);
  copy_commit();
  copy_wait<0>();
  block_sync();
  UNROLL for (int kk = 0; kk < D / 16; kk++) load_matrix(qf[kk], shared + chunk_at<D>(warp * 16 + (lane & 15), kk * 2 + (lane >> 4)));
  block_sync();  // the tiles come where q was

  float acc[D / 8][4], top[2] = {NEVER, NEVER}, sum[2] = {0.f, 0.f};
  UNROLL for (int i = 0; i < D / 8; i++) UNROLL for (int j = 0; j < 4; j++) acc[i][j] = 0.f;
  const int tiles = (end - first + KEYS - 1) / KEYS;
  load_rows<D, WARPS, KEYS>(shared, k, first, end, n, h);
  load_rows<D, WARPS, KEYS>(shared + bytes, v, first, end, n, h);
  copy_commit();
  for (int tile = 0; tile < tiles; tile++) {
    const u8 *now = shared + (tile & 1) * 2 * bytes;
    u8 *next = shared + ((tile + 1) & 1) * 2 * bytes;
    const int key = first + tile * KEYS;
    if (tile + 1 < tiles) {
      load_rows<D, WARPS, KEYS>(next, k, key + KEYS, end, n, h);
      load_rows<D, WARPS, KEYS>(next + bytes, v, key + KEYS, end, n, h);
    }
    copy_commit();
    copy_wait<1>();
    block_sync();  // everyone's part of the tile is there

    float s[8][4];
    UNROLL for (int i = 0; i < 8; i++) UNROLL for (int j = 0; j < 4; j++) s[i][j] = 0.f;
    UNROLL for (int i = 0; i < 8; i += 2) UNROLL for (int kk = 0; kk < D / 16; kk++) {
      u32 b[4];
      load_matrix(b, now + chunk_at<D>(i * 8 + (lane & 7) + (lane >> 4 << 3), kk * 2 + (lane >> 3 & 1)));
      T::mma(s[i], qf[kk], b);
      T::mma(s[i + 1], qf[kk], b + 2);
    }
    const int left = end - key;
    float high[2] = {top[0], top[1]};
    UNROLL for (int i = 0; i < 8; i++) UNROLL for (int j = 0; j < 4; j++) {
      s[i][j] = i * 8 + 2 * t + (j & 1) < left ? s[i][j] * scale_log2 : NEVER;
      high[j >> 1] = f_max(high[j >> 1], s[i][j]);
    }
    UNROLL for (int r = 0; r < 2; r++) {
      high[r] = f_max(high[r], shuffle_xor(high[r], 1));
      high[r] = f_max(high[r], shuffle_xor(high[r], 2));
      const float keep = f_exp2(top[r] - high[r]);
      top[r] = high[r];
      sum[r] *= keep;
      UNROLL for (int i = 0; i < D / 8; i++) acc[i][2 * r] *= keep, acc[i][2 * r + 1] *= keep;
    }
    u32 p[4][4];
    UNROLL for (int i = 0; i < 8; i++) {
      UNROLL for (int j = 0; j < 4; j++) {
        s[i][j] = f_exp2(s[i][j] - top[j >> 1]);
        sum[j >> 1] += s[i][j];
      }
      p[i >> 1][(i & 1) * 2] = T::pack(s[i][0], s[i][1]);
      p[i >> 1][(i & 1) * 2 + 1] = T::pack(s[i][2], s[i][3]);
    }
    UNROLL for (int kk = 0; kk < 4; kk++) UNROLL for (int i = 0; i < D / 8; i += 2) {
      u32 b[4];
      load_matrix_transposed(b, now + bytes + chunk_at<D>(kk * 16 + (lane & 15), i + (lane >> 4)));
      T::mma(acc[i], p[kk], b);
      T::mma(acc[i + 1], p[kk], b + 2);
    }
    block_sync();  // before the tile after next is written over this one
  }
  copy_wait<0>();
  UNROLL for (int r = 0; r < 2; r++) {
    sum[r] += shuffle_xor(sum[r], 1);
    sum[r] += shuffle_xor(sum[r], 2);
    const float inverse = f_inverse(sum[r]), log_sum = (top[r] + f_log2(sum[r])) * 0.6931471805599453f;
    const int row = q0 + warp * 16 + g + r * 8;
    if (row >= sq) continue;
    const u64 at = (u64)row * n + h;
    if (parts) {
      const u64 part = (u64)block_z() * sq * n + at;
      float *to = parts + part * D;
      UNROLL for (int i = 0; i < D / 8; i++) to[i * 8 + 2 * t] = acc[i][2 * r] * inverse, to[i * 8 + 2 * t + 1] = acc[i][2 * r + 1] * inverse;
      if (t == 0) part_lse[part] = log_sum;
    } else {
      u32 *to = (u32 *)(o + at * D);
      UNROLL for (int i = 0; i < D / 8; i++) to[i * 4 + t] = T::pack(acc[i][2 * r] * inverse, acc[i][2 * r + 1] * inverse);
      if (lse && t == 0) lse[at] = log_sum;
    }
  }
}

#define ATTENTION(name, T, D, WARPS)                                                                                                    \
  KERNEL(WARPS * 32)                                                                                                                    \
  name(u16 *RESTRICT o, const u16 *RESTRICT q, const u16 *RESTRICT k, const u16 *RESTRICT v, float *RESTRICT lse, float *RESTRICT parts, \
       float *RESTRICT part_lse, int sq, int key_len, int n, int split_keys, float scale_log2) {                                       \
    attend<T, D, WARPS>(o, q, k, v, lse, parts, part_lse, sq, key_len, n, split_keys, scale_log2);                                     \
  }
ATTENTION(attention_bf16_64, Bf16, 64, 4)
ATTENTION(attention_bf16_80, Bf16, 80, 4)
ATTENTION(attention_bf16_128, Bf16, 128, 4)
ATTENTION(attention_bf16_128_long, Bf16, 128, 8)
ATTENTION(attention_f16_64, Fp16, 64, 4)
ATTENTION(attention_f16_80, Fp16, 80, 4)
ATTENTION(attention_f16_128, Fp16, 128, 4)
ATTENTION(attention_f16_128_long, Fp16, 128, 8)
