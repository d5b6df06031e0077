// The calls of oneDNN that onednn_cgo.go makes, each with its clean-up, so that
// one crossing from Go does one piece of work.

#include <dnnl.h>
#include <dnnl_debug.h>
#include <omp.h>

// The call and status of a failure.
typedef struct { const char *call; dnnl_status_t status; } failure;

#define TRY(fn, ...) do { \
	dnnl_status_t s_ = fn(__VA_ARGS__); \
	if (s_ != dnnl_success) { f.call = #fn; f.status = s_; goto out; } \
} while (0)

// prepared is a primitive with the layouts of its operands.
typedef struct {
	dnnl_primitive_t primitive;
	dnnl_engine_t engine;
	dnnl_memory_desc_t x, w, bias, y, scratch;
	int has_bias;
	const char *info;
} prepared;

static failure finish(prepared *p, dnnl_engine_t e, const void *desc, int accumulate) {
	failure f = {0, dnnl_success};
	dnnl_primitive_attr_t attr = NULL;
	dnnl_post_ops_t ops = NULL;
	dnnl_primitive_desc_t pd = NULL;
	const char *info = NULL;
	TRY(dnnl_primitive_attr_create, &attr);
	TRY(dnnl_primitive_attr_set_scratchpad_mode, attr, dnnl_scratchpad_mode_user);
	if (accumulate) {
		TRY(dnnl_post_ops_create, &ops);
		TRY(dnnl_post_ops_append_sum, ops, 1.0f);
		TRY(dnnl_primitive_attr_set_post_ops, attr, ops);
	}
	TRY(dnnl_primitive_desc_create, &pd, desc, attr, e, NULL);
	TRY(dnnl_primitive_create, &p->primitive, pd);
	p->engine = e;
	p->w = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
	p->scratch = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
	TRY(dnnl_primitive_desc_query, pd, dnnl_query_impl_info_str, 0, &info);
	p->info = info;
out:
	if (pd) dnnl_primitive_desc_destroy(pd);
	if (ops) dnnl_post_ops_destroy(ops);
	if (attr) dnnl_primitive_attr_destroy(attr);
	return f;
}

static failure matmul(prepared *p, dnnl_engine_t e, int64_t m, int64_t n, int64_t k,
		dnnl_data_type_t xt, dnnl_data_type_t wt, dnnl_data_type_t yt, int bias, int accumulate,
		const dnnl_memory_desc_t *layout) {
	failure f = {0, dnnl_success};
	dnnl_dims_t xd = {m, k}, wd = {k, n}, yd = {m, n}, bd = {1, n};
	dnnl_matmul_desc_t desc;
	TRY(dnnl_memory_desc_init_by_tag, &p->x, 2, xd, xt, dnnl_ab);
	TRY(dnnl_memory_desc_init_by_tag, &p->y, 2, yd, yt, dnnl_ab);
	TRY(dnnl_memory_desc_init_by_tag, &p->bias, 2, bd, dnnl_f32, dnnl_ab);
	if (layout) p->w = *layout;
	else TRY(dnnl_memory_desc_init_by_tag, &p->w, 2, wd, wt, dnnl_format_tag_any);
	TRY(dnnl_matmul_desc_init, &desc, &p->x, &p->w, bias ? &p->bias : NULL, &p->y);
	p->has_bias = bias;
	return finish(p, e, &desc, accumulate);
out:
	return f;
}

static failure conv(prepared *p, dnnl_engine_t e, int64_t h, int64_t w, int64_t in, int64_t out_,
		int64_t oh, int64_t ow, int64_t kh, int64_t kw, int64_t sh, int64_t sw,
		int64_t top, int64_t bottom, int64_t left, int64_t right, int bias, int accumulate,
		const dnnl_memory_desc_t *layout) {
	failure f = {0, dnnl_success};
	dnnl_dims_t xd = {1, in, h, w}, wd = {out_, in, kh, kw}, yd = {1, out_, oh, ow}, bd = {out_};
	dnnl_dims_t strides = {sh, sw}, before = {top, left}, after = {bottom, right};
	dnnl_convolution_desc_t desc;
	TRY(dnnl_memory_desc_init_by_tag, &p->x, 4, xd, dnnl_f32, dnnl_nhwc);
	TRY(dnnl_memory_desc_init_by_tag, &p->y, 4, yd, dnnl_f32, dnnl_nhwc);
	TRY(dnnl_memory_desc_init_by_tag, &p->bias, 1, bd, dnnl_f32, dnnl_a);
	if (layout) p->w = *layout;
	else TRY(dnnl_memory_desc_init_by_tag, &p->w, 4, wd, dnnl_f32, dnnl_format_tag_any);
	TRY(dnnl_convolution_forward_desc_init, &desc, dnnl_forward_inference, dnnl_convolution_direct,
		&p->x, &p->w, bias ? &p->bias : NULL, &p->y, strides, before, after);
	p->has_bias = bias;
	return finish(p, e, &desc, accumulate);
out:
	return f;
}

static failure run(const prepared *p, void *x, void *w, void *bias, void *y, void *scratch) {
	failure f = {0, dnnl_success};
	dnnl_memory_t mx = NULL, mw = NULL, mb = NULL, my = NULL, ms = NULL;
	dnnl_stream_t stream = NULL;
	dnnl_exec_arg_t args[5];
	int n = 0;
	omp_set_num_threads(1); // of this thread; the caller divides the work
	TRY(dnnl_stream_create, &stream, p->engine, dnnl_stream_default_flags);
	TRY(dnnl_memory_create, &mx, &p->x, p->engine, x);
	args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SRC, mx};
	TRY(dnnl_memory_create, &mw, &p->w, p->engine, w);
	args[n++] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, mw};
	TRY(dnnl_memory_create, &my, &p->y, p->engine, y);
	args[n++] = (dnnl_exec_arg_t){DNNL_ARG_DST, my};
	TRY(dnnl_memory_create, &ms, &p->scratch, p->engine, scratch);
	args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, ms};
	if (p->has_bias) {
		TRY(dnnl_memory_create, &mb, &p->bias, p->engine, bias);
		args[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, mb};
	}
	TRY(dnnl_primitive_execute, p->primitive, stream, n, args);
	TRY(dnnl_stream_wait, stream);
out:
	if (mx) dnnl_memory_destroy(mx);
	if (mw) dnnl_memory_destroy(mw);
	if (mb) dnnl_memory_destroy(mb);
	if (my) dnnl_memory_destroy(my);
	if (ms) dnnl_memory_destroy(ms);
	if (stream) dnnl_stream_destroy(stream);
	return f;
}

// pack reorders src, plain with the given strides, into the layout.
static failure pack(dnnl_engine_t e, const dnnl_memory_desc_t *layout, void *dst, void *src, int64_t *strides) {
	failure f = {0, dnnl_success};
	dnnl_memory_desc_t plain;
	dnnl_primitive_desc_t pd = NULL;
	prepared p = {0};
	dnnl_memory_t from = NULL, to = NULL;
	dnnl_stream_t stream = NULL;
	omp_set_num_threads(1);
	TRY(dnnl_memory_desc_init_by_strides, &plain, layout->ndims, layout->dims, layout->data_type, strides);
	TRY(dnnl_reorder_primitive_desc_create, &pd, &plain, e, layout, e, NULL);
	TRY(dnnl_primitive_create, &p.primitive, pd);
	TRY(dnnl_memory_create, &from, &plain, e, src);
	TRY(dnnl_memory_create, &to, layout, e, dst);
	TRY(dnnl_stream_create, &stream, e, dnnl_stream_default_flags);
	dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
	TRY(dnnl_primitive_execute, p.primitive, stream, 2, args);
	TRY(dnnl_stream_wait, stream);
out:
	if (stream) dnnl_stream_destroy(stream);
	if (from) dnnl_memory_destroy(from);
	if (to) dnnl_memory_destroy(to);
	if (p.primitive) dnnl_primitive_destroy(p.primitive);
	if (pd) dnnl_primitive_desc_destroy(pd);
	return f;
}
