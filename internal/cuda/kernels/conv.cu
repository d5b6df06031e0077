// Causal 3D convolution, channels last, as an implicit product of matrices.
//
//	y[ot, oy, ox, o] = bias[o] + sum over kt, ky, kx, c of
//	    in[ot sT + kt - padT, oy sH + ky - padTop, ox sW + kx - padLeft, c] w[o, kt, ky, kx, c]
//
// in is x [t, h, w, cin] where the frame is at least 0, else frame past + f of history
// [past, h, w, cin], else 0; and 0 outside a frame. w [cout, kT, kH, kW, cin], bias [cout] F32 or
// null, y [oT, oH, oW, cout]; x, history, w and y of one type.
// The matrices are A [m = oT oH oW, K = kT kH kW cin], gathered, never stored, and w [cout, K].
//
//	conv_bf16, conv_f16  mma.m16n8k16, F32 sums
//	conv_tf32            F32 in memory, products of 11 bits by mma.m16n8k8
//	conv_f32             F32 throughout
//
// One tap 1x1x1 makes it act(x wᵀ + b) of plain matrices [m, cin] (h = 1, w = m).
// Launch: grid (ceil(m/64), ceil(cout/64)), 128 threads; tiles of 64 x 64 x 32, two of each in
// shared memory (rows padded by 16 bytes): 20 KiB for 16-bit types, 36 KiB for F32.
// Where cin is a multiple of 16 bytes a chunk of K lies in one tap and is copied
// asynchronously; else elements are fetched one by one (3 channels of a picture).
// Roofline: a 64 x 64 tile makes 32 FLOP of each byte from L2 (16-bit types): about 170
// TFLOP/s where L2 gives 5.5 TB/s. The sums of an element go along K in one order
// whatever the history, so that clips in pieces give the same bits.
#include "types.h"

enum { ROWS = 64, DEPTH = 32 };

struct Shape {
  int t, h, w, cin, past, kt, kh, kw, cout, st, sh, sw, pad_t, pad_top, pad_left, ot, oh, ow;
};

// Where a row of A begins: its frame, row and column before the taps' offsets.
struct Pixel { int f, y, x; };

DEV Pixel pixel_of(const Shape &s, int m) {
  const int x = m % s.ow, rest = m / s.ow, y = rest % s.oh, f = rest / s.oh;
  return Pixel{f * s.st - s.pad_t, y * s.sh - s.pad_top, x * s.sw - s.pad_left};
}

// The element of column k of a pixel's row of A; null where it is 0.
template <class E> DEV const E *source(const Shape &s, const Pixel &p, const E *x, const E *history, int k) {
  const int c = k % s.cin, tap = k / s.cin, kx = tap % s.kw, rest = tap / s.kw, ky = rest % s.kh;
  const int f = p.f + rest / s.kh, yy = p.y + ky, xx = p.x + kx;
  if (yy < 0 || yy >= s.h || xx < 0 || xx >= s.w) return nullptr;
  if (f < 0 && f + s.past < 0) return nullptr;
  const E *from = f < 0 ? history + (u64)(f + s.past) * s.h * s.w * s.cin : x + (u64)f * s.h * s.w * s.cin;
  return from + ((u64)yy * s.w + xx) * s.cin + c;
}

// Bytes of a padded row of a tile: an odd number of 16-byte chunks.
template <class E> struct Tile { static constexpr int per = 16 / sizeof(E), chunks = DEPTH / per, stride = DEPTH * sizeof(E) + 16, bytes = ROWS * stride; };

// Columns [k0, k0+32) of the block's rows of A and of w.
template <class E> DEV void load_tiles(u8 *a, u8 *b, const Shape &s, const E *x, const E *history, const E *w, int m0, int n0, int m,
                                       int depth, int k0, bool wide) {
  constexpr int per = Tile<E>::per, chunks = Tile<E>::chunks, stride = Tile<E>::stride, pass = 128 / chunks;
  const int chunk = thread_x() % chunks, k = k0 + chunk * per;
  UNROLL for (int r = thread_x() / chunks; r < ROWS; r += pass) {
    E *to_a = (E *)(a + r * stride + chunk * 16), *to_b = (E *)(b + r * stride + chunk * 16);
    const int row = m0 + r, out = n0 + r;
    const Pixel p = pixel_of(s, row < m ? row : 0);
    if (wide) {
      const E *from = row < m && k < depth ? source(s, p, x, history, k) : nullptr;
      copy16(to_a, from ? from : x, from != nullptr);
      const bool ok = out < s.cout && k < depth;
      copy16(to_b, w + (ok ? (u64)out * depth + k : 0), ok);
    } else
      for (int e = 0; e < per; e++) {
        const E *from = row < m && k + e < depth ? source(s, p, x, history, k + e) : nullptr;
        to_a[e] = from ? *from : (E)0;
        to_b[e] = out < s.cout && k + e < depth ? w[(u64)out * depth + k + e] : (E)0;
      }
  }
}

// The sums of a thread, and which rows and columns they are of. Products of warps: 2 x 2 warps of 32 x 32,
// each 2 x 4 fragments.
struct Bf16 {
  typedef u16 Element;
  static constexpr int type = BF16;
  DEV_MEMBER void mma(float *c, const u32 *a, const u32 *b) { mma_bf16(c, a, b); }
};
struct Fp16 {
  typedef u16 Element;
  static constexpr int type = F16;
  DEV_MEMBER void mma(float *c, const u32 *a, const u32 *b) { mma_f16(c, a, b); }
};
template <class T> struct Half : T {
  DEV_MEMBER void multiply(float *acc, const u8 *a, const u8 *b) {
    constexpr int stride = Tile<u16>::stride;
    const int lane = thread_x() & 31, warp = thread_x() >> 5, row = warp >> 1 << 5, col = (warp & 1) << 5;
    UNROLL for (int kk = 0; kk < DEPTH / 16; kk++) {
      u32 af[2][4], bf[2][4];
      UNROLL for (int i = 0; i < 2; i++) {
        load_matrix(af[i], a + (row + i * 16 + (lane & 15)) * stride + (kk * 2 + (lane >> 4)) * 16);
        load_matrix(bf[i], b + (col + i * 16 + (lane & 7) + (lane >> 4 << 3)) * stride + (kk * 2 + (lane >> 3 & 1)) * 16);
      }
      UNROLL for (int i = 0; i < 2; i++) UNROLL for (int j = 0; j < 4; j++) T::mma(acc + (i * 4 + j) * 4, af[i], bf[j >> 1] + (j & 1) * 2);
    }
  }
  DEV_MEMBER int row(int e) { return ((thread_x() >> 6) << 5) + (e >> 4) * 16 + ((thread_x() & 31) >> 2) + (e >> 1 & 1) * 8; }
  DEV_MEMBER int col(int e) { return ((thread_x() >> 5 & 1) << 5) + (e >> 2 & 3) * 8 + (thread_x() & 3) * 2 + (e & 1); }
};
struct Tf32 {
  typedef float Element;
  static constexpr int type = F32;
  DEV_MEMBER void multiply(float *acc, const u8 *a, const u8 *b) {
    constexpr int stride = Tile<float>::stride / 4;
    const int lane = thread_x() & 31, warp = thread_x() >> 5, g = lane >> 2, t = lane & 3;
    const float *as = (const float *)a + ((warp >> 1 << 5) + g) * stride + t, *bs = (const float *)b + (((warp & 1) << 5) + g) * stride + t;
    UNROLL for (int k = 0; k < DEPTH; k += 8) {
      u32 af[2][4], bf[4][2];
      UNROLL for (int i = 0; i < 2; i++) UNROLL for (int e = 0; e < 4; e++) af[i][e] = tf32(as[(i * 16 + (e & 1) * 8) * stride + k + (e >> 1) * 4]);
      UNROLL for (int j = 0; j < 4; j++) UNROLL for (int e = 0; e < 2; e++) bf[j][e] = tf32(bs[j * 8 * stride + k + e * 4]);
      UNROLL for (int i = 0; i < 2; i++) UNROLL for (int j = 0; j < 4; j++) mma_tf32(acc + (i * 4 + j) * 4, af[i], bf[j]);
    }
  }
  DEV_MEMBER int row(int e) { return Half<Bf16>::row(e); }
  DEV_MEMBER int col(int e) { return Half<Bf16>::col(e); }
};
// A thread has rows 4 (thread/8) + i and columns thread%8 + 8 j of the tile.
struct Plain {
  typedef float Element;
  static constexpr int type = F32;
  DEV_MEMBER void multiply(float *acc, const u8 *a, const u8 *b) {
    constexpr int stride = Tile<float>::stride;
    const u8 *as = a + (thread_x() >> 3) * 4 * stride, *bs = b + (thread_x() & 7) * stride;
    for (int k = 0; k < DEPTH; k += 4) {
      Float4 av[4];
      UNROLL for (int i = 0; i < 4; i++) av[i] = *(const Float4 *)(as + i * stride + k * 4);
      UNROLL for (int j = 0; j < 8; j++) {
        const Float4 bv = *(const Float4 *)(bs + j * 8 * stride + k * 4);
        UNROLL for (int i = 0; i < 4; i++) UNROLL for (int e = 0; e < 4; e++) acc[i * 8 + j] += av[i].v[e] * bv.v[e];
      }
    }
  }
  DEV_MEMBER int row(int e) { return (thread_x() >> 3) * 4 + (e >> 3); }
  DEV_MEMBER int col(int e) { return (thread_x() & 7) + (e & 7) * 8; }
};

template <class T> DEV void convolve(void *y, const void *xp, const void *hp, const void *wp, const float *bias, const Shape &s) {
  SHARED(shared);
  typedef typename T::Element E;
  constexpr int bytes = Tile<E>::bytes;
  const E *x = (const E *)xp, *history = (const E *)hp, *w = (const E *)wp;
  const int m = s.ot * s.oh * s.ow, depth = s.kt * s.kh * s.kw * s.cin, m0 = block_x() * ROWS, n0 = block_y() * ROWS;
  const bool wide = s.cin % Tile<E>::per == 0 && (((u64)x | (u64)history | (u64)w) & 15) == 0;
  float acc[32];
  UNROLL for (int i = 0; i < 32; i++) acc[i] = 0.f;
  load_tiles<E>(shared, shared + bytes, s, x, history, w, m0, n0, m, depth, 0, wide);
  copy_commit();
  const int tiles = (depth + DEPTH - 1) / DEPTH;
  for (int tile = 0; tile < tiles; tile++) {
    u8 *now = shared + (tile & 1) * 2 * bytes, *next = shared + ((tile + 1) & 1) * 2 * bytes;
    if (tile + 1 < tiles) load_tiles<E>(next, next + bytes, s, x, history, w, m0, n0, m, depth, (tile + 1) * DEPTH, wide);
    copy_commit();
    copy_wait<1>();
    block_sync();  // everyone's part of the tile is there
    T::multiply(acc, now, now + bytes);
    block_sync();  // before the tile after next is written over this one
  }
  copy_wait<0>();
  UNROLL for (int e = 0; e < 32; e++) {
    const int row = m0 + T::row(e), col = n0 + T::col(e);
    if (row < m && col < s.cout) store(y, (u64)row * s.cout + col, bias ? acc[e] + bias[col] : acc[e], T::type);
  }
}

#define CONV(name, T)                                                                                                                     \
  KERNEL(128)                                                                                                                             \
  name(void *y, const void *x, const void *history, const void *w, const float *bias, int t, int h, int width, int cin, int past, int kt, \
       int kh, int kw, int cout, int st, int sh, int sw, int pad_t, int pad_top, int pad_left, int ot, int oh, int ow) {                  \
    const Shape s{t, h, width, cin, past, kt, kh, kw, cout, st, sh, sw, pad_t, pad_top, pad_left, ot, oh, ow};                            \
    convolve<T>(y, x, history, w, bias, s);                                                                                               \
  }
CONV(conv_bf16, Half<Bf16>)
CONV(conv_f16, Half<Fp16>)
CONV(conv_tf32, Tf32)
CONV(conv_f32, Plain)
