package torchzip

import (
	"fmt"

	"github.com/wanrun/wanrun/pkg/tensor"
)

// What a pickle can build here. Values are nil (None), bool, int64, string and:
type (
	tuple struct {
		items []any
		depth int // of nesting, 1 for a tuple of plain values
	}
	// global is a name that the pickle may refer to; nothing is ever called.
	global struct {
		kind  globalKind
		name  string
		dtype tensor.DType // of a storage or dtype
	}
	// dict is a dict or an OrderedDict.
	dict struct {
		ordered bool
		keys    []string
		items   map[string]any
		depth   int // as of a tuple
	}
	// storage is what a persistent id refers to: the bytes of one zip entry.
	storage struct {
		key   string
		dtype tensor.DType // Invalid if untyped
		count int64        // elements, bytes if untyped
	}
	// view is a tensor of a storage, not yet checked against its bytes.
	view struct {
		storage *storage
		dtype   tensor.DType
		offset  int64 // elements
		shape   []any
		strides []any
	}
)

type globalKind uint8

const (
	orderedDict globalKind = iota
	rebuildTensorV2
	rebuildTensorV3
	rebuildParameter
	storageType
	elementType
)

// lookupGlobal returns the global of the given module and name, which must be
// one of the few that a state dict of tensors needs.
func lookupGlobal(module, name string) (global, bool) {
	full := module + "." + name
	g, ok := globals[full]
	g.name = full
	return g, ok
}

var globals = map[string]global{
	"collections.OrderedDict":         {kind: orderedDict},
	"torch._utils._rebuild_tensor_v2": {kind: rebuildTensorV2},
	"torch._utils._rebuild_tensor_v3": {kind: rebuildTensorV3},
	"torch._utils._rebuild_parameter": {kind: rebuildParameter},

	"torch.DoubleStorage":          {kind: storageType, dtype: tensor.F64},
	"torch.FloatStorage":           {kind: storageType, dtype: tensor.F32},
	"torch.HalfStorage":            {kind: storageType, dtype: tensor.F16},
	"torch.BFloat16Storage":        {kind: storageType, dtype: tensor.BF16},
	"torch.LongStorage":            {kind: storageType, dtype: tensor.I64},
	"torch.IntStorage":             {kind: storageType, dtype: tensor.I32},
	"torch.ShortStorage":           {kind: storageType, dtype: tensor.I16},
	"torch.CharStorage":            {kind: storageType, dtype: tensor.I8},
	"torch.ByteStorage":            {kind: storageType, dtype: tensor.U8},
	"torch.BoolStorage":            {kind: storageType, dtype: tensor.Bool},
	"torch.UntypedStorage":         {kind: storageType},
	"torch.storage.UntypedStorage": {kind: storageType},

	"torch.float64":       {kind: elementType, dtype: tensor.F64},
	"torch.float32":       {kind: elementType, dtype: tensor.F32},
	"torch.float16":       {kind: elementType, dtype: tensor.F16},
	"torch.bfloat16":      {kind: elementType, dtype: tensor.BF16},
	"torch.float8_e4m3fn": {kind: elementType, dtype: tensor.F8E4M3},
	"torch.int64":         {kind: elementType, dtype: tensor.I64},
	"torch.int32":         {kind: elementType, dtype: tensor.I32},
	"torch.int16":         {kind: elementType, dtype: tensor.I16},
	"torch.int8":          {kind: elementType, dtype: tensor.I8},
	"torch.uint8":         {kind: elementType, dtype: tensor.U8},
	"torch.bool":          {kind: elementType, dtype: tensor.Bool},
}

// describe names a value's type for messages.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "a bool"
	case int64:
		return "an integer"
	case string:
		return "a string"
	case tuple:
		return fmt.Sprintf("a tuple of %d", len(v.items))
	case global:
		return v.name
	case *dict:
		return "a dict"
	case *storage:
		return "a storage"
	case *view:
		return "a tensor"
	}
	return "something unknown"
}

// newTuple returns a tuple of copies of the values.
func newTuple(values []any) tuple {
	t := tuple{items: append([]any(nil), values...), depth: 1}
	for _, v := range values {
		t.depth = max(t.depth, depth(v)+1)
	}
	return t
}

// depth returns how deep a value nests. It does not follow a dict that grows
// after it was put into another value, which is harmless: no code walks down a
// value.
func depth(v any) int {
	switch v := v.(type) {
	case tuple:
		return v.depth
	case *dict:
		return v.depth
	}
	return 0
}

// set adds an item. Keys of a state dict are strings and occur once.
func (d *dict) set(key, value any) error {
	name, ok := key.(string)
	if !ok {
		return fmt.Errorf("key of a dict is %s, want a string", describe(key))
	}
	if _, ok := d.items[name]; ok {
		return fmt.Errorf("key %q occurs twice", name)
	}
	d.keys = append(d.keys, name)
	d.depth = max(d.depth, depth(value)+1)
	d.items[name] = value
	return nil
}

// rebuild makes the tensor that a call of one of torch's functions would.
func (g global) rebuild(args []any) (any, error) {
	switch g.kind {
	case orderedDict:
		if len(args) == 0 {
			return &dict{ordered: true, items: map[string]any{}, depth: 1}, nil
		}
	case rebuildTensorV2: // storage, offset, size, stride, requires_grad, hooks [, metadata]
		if len(args) == 6 || len(args) == 7 && isNone(args[6]) {
			return newView(args)
		}
	case rebuildTensorV3: // as v2 with a dtype [, metadata]
		if len(args) == 7 || len(args) == 8 && isNone(args[7]) {
			v, err := newView(args[:6])
			if err != nil {
				return nil, err
			}
			t, ok := args[6].(global)
			if !ok || t.kind != elementType {
				return nil, fmt.Errorf("%s: dtype is %s", g.name, describe(args[6]))
			}
			v.dtype = t.dtype
			return v, nil
		}
	case rebuildParameter: // tensor, requires_grad, hooks
		if len(args) == 3 {
			v, isView := args[0].(*view)
			_, isBool := args[1].(bool)
			if isView && isBool && isEmptyDict(args[2]) {
				return v, nil
			}
		}
	}
	return nil, fmt.Errorf("%s cannot be called with %d arguments of these types", g.name, len(args))
}

func isNone(v any) bool { return v == nil }

func isEmptyDict(v any) bool {
	d, ok := v.(*dict)
	return ok && len(d.keys) == 0
}

func newView(args []any) (*view, error) {
	s, isStorage := args[0].(*storage)
	offset, isInt := args[1].(int64)
	shape, isShape := args[2].(tuple)
	strides, isStrides := args[3].(tuple)
	if _, isBool := args[4].(bool); !isStorage || !isInt || !isShape || !isStrides || !isBool {
		return nil, fmt.Errorf("tensor of %s, %s, %s, %s, %s; want a storage, an integer, two tuples, a bool",
			describe(args[0]), describe(args[1]), describe(args[2]), describe(args[3]), describe(args[4]))
	}
	if !isEmptyDict(args[5]) {
		return nil, fmt.Errorf("tensor with backward hooks")
	}
	return &view{storage: s, dtype: s.dtype, offset: offset, shape: shape.items, strides: strides.items}, nil
}
