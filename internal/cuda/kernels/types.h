// types.h - reading and writing F32, BF16 and F16 by a type that the launch names.
// Kernels that are bound by memory take the type as an argument: the branch is the
// same for all threads, and one kernel serves nine pairs of types.
#pragma once
#include "port.h"

// As Type in launch.go.
enum Type { F32 = 0, BF16 = 1, F16 = 2 };

struct alignas(8) Words2 { u32 a, b; };
struct alignas(16) Float4 { float v[4]; };

DEV float load(const void *p, u64 i, int type) {
  if (type == F32) return ((const float *)p)[i];
  const u16 h = ((const u16 *)p)[i];
  return type == BF16 ? bf16_f(h) : f16_f(h);
}

DEV u32 pack(float lo, float hi, int type) { return type == BF16 ? pack_bf16(lo, hi) : pack_f16(lo, hi); }

DEV void store(void *p, u64 i, float v, int type) {
  if (type == F32) ((float *)p)[i] = v;
  else ((u16 *)p)[i] = (u16)pack(v, 0.f, type);
}

// Four elements from i, a multiple of 4 of an aligned pointer.
DEV Float4 load4(const void *p, u64 i, int type) {
  if (type == F32) return *(const Float4 *)((const float *)p + i);
  const Words2 w = *(const Words2 *)((const u16 *)p + i);
  Float4 f;
  if (type == BF16) f = Float4{{bits_f(w.a << 16), bits_f(w.a & 0xffff0000u), bits_f(w.b << 16), bits_f(w.b & 0xffff0000u)}};
  else f = Float4{{f16_f((u16)w.a), f16_f((u16)(w.a >> 16)), f16_f((u16)w.b), f16_f((u16)(w.b >> 16))}};
  return f;
}

DEV void store4(void *p, u64 i, Float4 f, int type) {
  if (type == F32) *(Float4 *)((float *)p + i) = f;
  else *(Words2 *)((u16 *)p + i) = Words2{pack(f.v[0], f.v[1], type), pack(f.v[2], f.v[3], type)};
}

// Whether rows of c elements at p may be read four at a time.
DEV bool fours(const void *p, int c) { return (c & 3) == 0 && ((u64)p & 15) == 0; }

// The sum over all threads of a block, for all of them. red holds 32 floats.
DEV float block_sum(float v, float *red) {
  const u32 t = thread_x(), warps = block_threads() >> 5;
  UNROLL for (int m = 16; m; m >>= 1) v += shuffle_xor(v, m);
  block_sync();  // red may still be read from the sum before
  if ((t & 31) == 0) red[t >> 5] = v;
  block_sync();
  v = 0.f;
  for (u32 i = 0; i < warps; i++) v += red[i];
  return v;
}
