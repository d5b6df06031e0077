// Updates of the latent by the samplers, all F32, each operation rounded as the host's.
//
//	guidance  out = uncond + scale (cond - uncond)
//	unipc     one step of UniPC-B2, corrector and predictor; see internal/sampler/unipc.go
//	dpmpp     one step of DPM-Solver++ 2M; see internal/sampler/dpmpp.go
//
// n elements of the latent. Coefficients depend on the step alone and come from the host.
// Launch: blocks of 256 threads that stride.
// Roofline: memory, but a latent has some MB: launches cost more than the bytes.
#include "port.h"

#define EACH(i) for (u64 i = (u64)block_x() * block_threads() + thread_x(); i < n; i += (u64)grid_x() * block_threads())

// out may be cond or uncond.
KERNEL(256) guidance(float *out, const float *cond, const float *uncond, u64 n, float scale) {
  EACH(i) {
    const float u = uncond[i];
    out[i] = f_add(u, f_mul(scale, f_add(cond[i], -u)));
  }
}

// correct and predict are the orders, 0 (correct only), 1 or 2; keep, move and
// their ratios and weights those of the two intervals.
KERNEL(256) unipc(float *latent, const float *output, float *x0s, float *prev_x0s, float *samples, u64 n, float sigma, int correct,
                  float correct_keep, float correct_move, float correct_ratio, float rho_d1, float rho_now, int predict,
                  float predict_keep, float predict_move, float predict_ratio) {
  EACH(i) {
    float x = latent[i];
    const float x0 = f_add(x, -f_mul(sigma, output[i])), prev = x0s[i];
    if (correct) {
      const float first = f_add(f_mul(correct_keep, samples[i]), -f_mul(correct_move, prev));
      float higher = f_mul(rho_now, f_add(x0, -prev));
      if (correct == 2) higher = f_add(f_mul(rho_d1, f_div(f_add(prev_x0s[i], -prev), correct_ratio)), higher);
      x = f_add(first, -f_mul(correct_move, higher));
    }
    prev_x0s[i] = prev, x0s[i] = x0, samples[i] = x;
    float next = f_add(f_mul(predict_keep, x), -f_mul(predict_move, x0));
    if (predict == 2) next = f_add(next, -f_mul(predict_move, f_mul(0.5f, f_div(f_add(prev, -x0), predict_ratio))));
    latent[i] = next;
  }
}

// order 1 leaves the history out.
KERNEL(256) dpmpp(float *latent, const float *output, float *x0s, u64 n, float sigma, float keep, float move, int order, float slope,
                  float half_move) {
  EACH(i) {
    const float x = latent[i], x0 = f_add(x, -f_mul(sigma, output[i]));
    float next = f_add(f_mul(keep, x), -f_mul(move, x0));
    if (order == 2) next = f_add(next, -f_mul(half_move, f_mul(slope, f_add(x0, -x0s[i]))));
    x0s[i] = x0;
    latent[i] = next;
  }
}
