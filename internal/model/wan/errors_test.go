package wan_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/backend/meta"
	"github.com/wanrun/wanrun/internal/model/wan"
	"github.com/wanrun/wanrun/internal/nn"
	"github.com/wanrun/wanrun/internal/weights"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// without hands out weights that lack one parameter of one unit.
type without struct {
	nn.Weights
	unit, local string
}

func (w without) Acquire(ops tensor.Ops, unit string) (nn.Params, func()) {
	p, release := w.Weights.Acquire(ops, unit)
	if unit == w.unit {
		p = maps.Clone(p)
		delete(p, w.local)
	}
	return p, release
}

// ledger counts what is acquired and not released.
type ledger struct {
	nn.Weights
	order *[]string
	held  *int
}

func (w ledger) Acquire(ops tensor.Ops, unit string) (nn.Params, func()) {
	p, release := w.Weights.Acquire(ops, unit)
	*w.order = append(*w.order, unit)
	*w.held++
	return p, func() { *w.held--; release() }
}

func metaOps(t *testing.T) tensor.Ops {
	backend := cpu.New(1)
	t.Cleanup(backend.Close)
	return tensor.NewOps(context.Background(), meta.New(backend), tensor.Unlimited())
}

// Every parameter is needed: leaving out any one is an error that names it.
func TestMissingParameter(t *testing.T) {
	c := smallI2V(1)
	c.ModelType = "flf2v"
	in := randomInput(c, 1, 4, 4, 3)
	for _, u := range wan.Units(c) {
		for _, p := range u.Params {
			ops := metaOps(t)
			m := wan.New(c, nil, tensor.F32)
			m.Weights = without{weights.Load(ops, wan.Units(c), nil, tensor.F32), u.Name, p.Local}
			x, y, clip, text := in.tensors(ops)
			m.Forward(ops, x, y, 1, m.Prepare(ops, clip, text)...)
			if err := ops.Err(); err == nil || !strings.Contains(err.Error(), `"`+p.Local+`"`) {
				t.Errorf("without %q: error %v", p.Name, err)
			}
		}
	}
}

// Units are acquired once each, one at a time, in the order of Units, however
// many branches there are.
func TestAcquireOrder(t *testing.T) {
	c := smallI2V(3)
	ops := metaOps(t)
	var order []string
	held := 0
	m := wan.New(c, ledger{weights.Load(ops, wan.Units(c), nil, tensor.F32), &order, &held}, tensor.F32)
	m.Trace = func(string, tensor.Tensor) {
		if held != 1 {
			t.Errorf("%d units held", held)
		}
	}
	x, y, clip, text := randomInput(c, 1, 4, 4, 3).tensors(ops)
	m.Forward(ops, x, y, 1, m.Prepare(ops, clip, text, text)...)
	if err := ops.Err(); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, u := range wan.Units(c) {
		want = append(want, u.Name)
	}
	if got := strings.Join(order, " "); got != strings.Join(want, " ") || held != 0 {
		t.Errorf("acquired %s, want %s; %d held at the end", got, want, held)
	}
}

func TestWrongArguments(t *testing.T) {
	i2v, t2v := smallI2V(1), smallI2V(1)
	t2v.ModelType, t2v.InDim, t2v.ClipDim, t2v.ClipTokens = "t2v", 16, 0, 0
	for _, tc := range []struct {
		name   string
		config wan.Config
		run    func(ops tensor.Ops, m *wan.Model, x, y, clip, text tensor.Tensor)
		want   string
	}{
		{"no condition", i2v, func(ops tensor.Ops, m *wan.Model, x, y, clip, text tensor.Tensor) {
			m.Forward(ops, x, none, 1, m.Prepare(ops, clip, text)...)
		}, "latent F32[1, 4, 4, 16] and condition none; want [T, H, W, 16] and [T, H, W, 20]"},
		{"condition for t2v", t2v, func(ops tensor.Ops, m *wan.Model, x, _, _, text tensor.Tensor) {
			m.Forward(ops, x, x, 1, m.Prepare(ops, none, text)...)
		}, "want [T, H, W, 16] and [T, H, W, 0]"},
		{"other size", i2v, func(ops tensor.Ops, m *wan.Model, x, _, clip, text tensor.Tensor) {
			m.Forward(ops, x, ops.Empty(tensor.F32, 1, 4, 6, 20), 1, m.Prepare(ops, clip, text)...)
		}, "condition F32[1, 4, 6, 20]"},
		{"odd size", t2v, func(ops tensor.Ops, m *wan.Model, _, _, _, text tensor.Tensor) {
			m.Forward(ops, ops.Empty(tensor.F32, 1, 3, 4, 16), none, 1, m.Prepare(ops, none, text)...)
		}, "does not divide into patches of [1 2 2]"},
		{"no context", t2v, func(ops tensor.Ops, m *wan.Model, x, _, _, _ tensor.Tensor) {
			m.Forward(ops, x, none, 1)
		}, "no context"},
		{"other model's context", t2v, func(ops tensor.Ops, m *wan.Model, x, _, _, _ tensor.Tensor) {
			m.Forward(ops, x, none, 1, &wan.Cond{})
		}, "not prepared by this model"},
		{"no pictures", i2v, func(ops tensor.Ops, m *wan.Model, _, _, _, text tensor.Tensor) {
			m.Prepare(ops, none, text)
		}, "CLIP features none; i2v wants [17, 32]"},
		{"pictures for t2v", t2v, func(ops tensor.Ops, m *wan.Model, x, _, _, text tensor.Tensor) {
			m.Prepare(ops, x, text)
		}, "which has no place for them"},
		{"long text", t2v, func(ops tensor.Ops, m *wan.Model, _, _, _, _ tensor.Tensor) {
			m.Prepare(ops, none, ops.Empty(tensor.F32, 49, 40))
		}, "F32[49, 40]; want [at most 48, 40]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ops := metaOps(t)
			m := wan.New(tc.config, weights.Load(ops, wan.Units(tc.config), nil, tensor.F32), tensor.F32)
			x, y, clip, text := randomInput(tc.config, 1, 4, 4, 3).tensors(ops)
			tc.run(ops, m, x, y, clip, text)
			if err := ops.Err(); !errors.Is(err, tensor.ErrShape) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	c := smallI2V(1)
	stop := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(context.Background())
	backend := cpu.New(1)
	t.Cleanup(backend.Close)
	ops := tensor.NewOps(ctx, meta.New(backend), tensor.Unlimited())
	m := wan.New(c, weights.Load(ops, wan.Units(c), nil, tensor.F32), tensor.F32)
	x, y, clip, text := randomInput(c, 1, 4, 4, 3).tensors(ops)
	conds := m.Prepare(ops, clip, text)
	m.Trace = func(name string, _ tensor.Tensor) {
		if name == "block0.self_attn" {
			cancel(stop)
		}
	}
	m.Forward(ops, x, y, 1, conds...)
	if err := ops.Err(); !errors.Is(err, stop) {
		t.Errorf("error %v, want %v", err, stop)
	}
}
