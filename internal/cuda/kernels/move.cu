// Moves: the same elements elsewhere.
//
//	copy_rows   row i of run bytes from src + i srcStride to dst + i dstStride
//	permute     y[i_perm] = x[i] for up to 6 dims: element o of y comes from the sum of
//	            its indices times the strides of x; patchify and its inverse are this
//	upsample2x  y[t, 2r+a, 2q+b, c] = x[t, r, q, c]
//
// Launch: blocks of 256 threads that stride; copy_rows one block a row.
// Roofline: memory, x and y once; upsample2x reads x from DRAM once and writes 4 times as much.
#include "types.h"

KERNEL(256) copy_rows(u8 *dst, const u8 *src, u64 rows, u64 run, u64 dst_stride, u64 src_stride) {
  const bool wide = ((run | dst_stride | src_stride | (u64)dst | (u64)src) & 15) == 0;
  for (u64 row = block_x(); row < rows; row += grid_x()) {
    u8 *to = dst + row * dst_stride;
    const u8 *from = src + row * src_stride;
    if (wide)
      for (u64 i = thread_x() * 16ull; i < run; i += block_threads() * 16ull) *(Float4 *)(to + i) = *(const Float4 *)(from + i);
    else
      for (u64 i = thread_x(); i < run; i += block_threads()) to[i] = from[i];
  }
}

// d0..d5 are y's dims, s0..s5 the strides of x along them, in elements of size bytes (1, 2 or 4).
KERNEL(256) permute(u8 *y, const u8 *x, int size, u64 n, u32 d1, u32 d2, u32 d3, u32 d4, u32 d5, u64 s0, u64 s1, u64 s2, u64 s3,
                    u64 s4, u64 s5) {
  const u64 all = (u64)grid_x() * block_threads();
  for (u64 o = (u64)block_x() * block_threads() + thread_x(); o < n; o += all) {
    u64 rest = o, at = rest % d5 * s5;
    rest /= d5;
    at += rest % d4 * s4;
    rest /= d4;
    at += rest % d3 * s3;
    rest /= d3;
    at += rest % d2 * s2;
    rest /= d2;
    at += rest % d1 * s1 + rest / d1 * s0;
    if (size == 4) ((u32 *)y)[o] = ((const u32 *)x)[at];
    else if (size == 2) ((u16 *)y)[o] = ((const u16 *)x)[at];
    else y[o] = x[at];
  }
}

// x [t, h, w] of run bytes each pixel, y [t, 2h, 2w].
KERNEL(256) upsample2x(u8 *y, const u8 *x, u64 pixels, int w, int h, int run) {
  const bool wide = ((run | (u64)y | (u64)x) & 15) == 0;
  const int step = wide ? 16 : 2;
  const u64 chunks = (u64)run / step, n = pixels * chunks, all = (u64)grid_x() * block_threads();
  for (u64 i = (u64)block_x() * block_threads() + thread_x(); i < n; i += all) {
    const u64 pixel = i / chunks, part = i % chunks * step;
    const int out_w = 2 * w;
    const u64 col = pixel % out_w, row = pixel / out_w % (2 * h), t = pixel / out_w / (2 * h);
    const u64 from = ((t * h + (row >> 1)) * w + (col >> 1)) * run + part, to = pixel * run + part;
    if (wide) *(Float4 *)(y + to) = *(const Float4 *)(x + from);
    else *(u16 *)(y + to) = *(const u16 *)(x + from);
  }
}
