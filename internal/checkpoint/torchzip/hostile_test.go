package torchzip

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
)

// TestHostilePickles builds each file that tries something, and looks for the
// opcode and its place in the refusal.
func TestHostilePickles(t *testing.T) {
	call := func(module, name, arg string) pickle {
		return dictOf("w").global(module, name).str(arg).op(opTuple1, opReduce).done()
	}
	tensorOf := func(offset int64, shape, strides []int64) pickle {
		return dictOf("w").tensor("0", 16, offset, shape, strides).done()
	}
	stored := func(kind, key string, count int64) pickle {
		return dictOf("w").global("torch._utils", "_rebuild_tensor_v2").op(opMark).storage(kind, key, count).
			num(0).nums(16).nums(1).op(opFalse).hooks().op(opTuple, opReduce).done()
	}
	v3 := func(dtype string, offset int64) pickle {
		return dictOf("w").global("torch._utils", "_rebuild_tensor_v3").op(opMark).storage("UntypedStorage", "0", 64).
			num(offset).nums(2).nums(1).op(opFalse).hooks().global("torch", dtype).op(opTuple, opReduce).done()
	}
	persistent := func(fn func(p pickle) pickle) pickle { return fn(dictOf("w")).op(opBinPersID).done() }
	manyMemo := start().op(opNone)
	for i := range uint32(3) {
		manyMemo = binary.LittleEndian.AppendUint32(manyMemo.op(opLongBinPut), 999_998+i)
	}
	deep := start()
	for range 70 {
		deep = deep.op(opMark)
	}
	nested := start().op(opNone)
	for range 70 {
		nested = nested.op(opTuple1)
	}
	bomb := start().op(opNone) // 2^n values, were a tuple copied each time it is used
	for range 60 {
		bomb = bomb.op(opBinPut, 0, opBinGet, 0, opTuple2)
	}
	for _, tc := range []struct {
		name string
		in   pickle
		want []string
	}{
		{"os.system", call("os", "system", "touch owned"), []string{"GLOBAL at byte 10", `"os.system"`}},
		{"posix.system", call("posix", "system", "touch owned"), []string{"GLOBAL", `"posix.system"`}},
		{"__builtin__.eval", call("__builtin__", "eval", "1"), []string{"GLOBAL", `"__builtin__.eval"`}},
		{"builtins.getattr", call("builtins", "getattr", "1"), []string{"GLOBAL", `"builtins.getattr"`}},
		{"torch.load", call("torch", "load", "x"), []string{"GLOBAL", `"torch.load"`}},
		{"name with a dot", call("torch._utils", "_rebuild_tensor_v2.__globals__", "x"), []string{"GLOBAL"}},
		{"module with a dot too many", call("torch", "_utils._rebuild_tensor_v2", "x"), []string{"REDUCE"}},
		{"sparse tensor", call("torch._utils", "_rebuild_sparse_tensor", "x"), []string{"GLOBAL"}},
		{"quantised tensor", call("torch._utils", "_rebuild_qtensor", "x"), []string{"GLOBAL"}},
		{"global without end", start().op('c').op([]byte(strings.Repeat("x", 5000))...), []string{"GLOBAL at byte 2", "without end"}},
		{"nested REDUCE", dictOf("w").global("collections", "OrderedDict").op(opEmptyTuple, opReduce, opEmptyTuple, opReduce).done(),
			[]string{"REDUCE at byte 38", "call of a dict"}},
		{"REDUCE of a string", start().str("os").op(opEmptyTuple, opReduce, opStop), []string{"REDUCE", "call of a string"}},
		{"REDUCE without a tuple", start().global("collections", "OrderedDict").op(opNone, opReduce, opStop), []string{"REDUCE"}},
		{"REDUCE of a storage type", start().global("torch", "FloatStorage").op(opEmptyTuple, opReduce, opStop), []string{"REDUCE"}},
		{"ordered dict with arguments", start().global("collections", "OrderedDict").op(opNone, opTuple1, opReduce, opStop), []string{"REDUCE"}},
		{"tensor with too few arguments", start().global("torch._utils", "_rebuild_tensor_v2").op(opEmptyTuple, opReduce, opStop), []string{"REDUCE"}},
		{"BUILD on a dict", dictOf("w").op(opEmptyDict, opEmptyDict, opBuild).done(), []string{"BUILD at byte 12"}},
		{"BUILD on an ordered dict", dictOf("w").hooks().op(opEmptyDict).str("items").op(opNone, opSetItem, opBuild).done(), []string{"BUILD"}},
		{"BUILD with __class__", dictOf("w").hooks().op(opEmptyDict).str("_metadata").op(opNone, opSetItem).str("__class__").op(opNone, opSetItem, opBuild).done(), []string{"BUILD"}},
		{"BUILD on a tensor", dictOf("w").tensor("0", 16, 0, []int64{16}, []int64{1}).op(opEmptyDict, opBuild).done(), []string{"BUILD"}},
		{"INST", start().op('i'), []string{"INST at byte 2", "not allowed"}},
		{"OBJ", start().op('o'), []string{"OBJ"}},
		{"NEWOBJ", start().op(0x81), []string{"NEWOBJ"}},
		{"EXT1", start().op(0x82, 1), []string{"EXT1"}},
		{"STACK_GLOBAL", start().op(0x93), []string{"STACK_GLOBAL"}},
		{"BINBYTES8", start().op(0x8e, 255, 255, 255, 255, 255, 255, 255, 127), []string{"BINBYTES8"}},
		{"unknown opcode", start().op(0xff), []string{"0xff at byte 2"}},
		{"protocol 4", pickle{opProto, 4}, []string{"PROTO at byte 0", "protocol 4"}},
		{"no protocol", pickle{opNone, opStop}, []string{"PROTO 2 must be first"}},
		{"protocol twice", start().op(opProto, 2), []string{"PROTO at byte 2"}},
		{"nothing", nil, []string{"ends at byte 0"}},
		{"no STOP", start().op(opNone), []string{"ends at byte 3 without STOP"}},
		{"after STOP", good().op(opNone), []string{"1 bytes after it"}},
		{"two values", start().op(opEmptyDict, opEmptyDict, opStop), []string{"STOP", "2 values"}},
		{"open mark", start().op(opEmptyDict, opMark, opStop), []string{"STOP"}},
		{"empty stack", start().op(opStop), []string{"STOP", "0 values"}},
		{"tuple from before the mark", start().op(opNone, opMark, opTuple1), []string{"TUPLE1 at byte 4", "0 on the stack"}},
		{"tuple without mark", start().op(opTuple), []string{"TUPLE", "no mark"}},
		{"items without dict", start().op(opNone, opNone, opSetItem), []string{"SETITEM", "no dict"}},
		{"items of a tuple", start().op(opEmptyTuple, opNone, opNone, opSetItem), []string{"SETITEM", "want a dict"}},
		{"odd items", start().op(opEmptyDict, opMark, opNone, opSetItems), []string{"SETITEMS", "without a value"}},
		{"key is a number", start().op(opEmptyDict, opBinInt1, 1, opNone, opSetItem, opStop), []string{"SETITEM", "want a string"}},
		{"key twice", start().op(opEmptyDict).str("w").op(opNone, opSetItem).str("w").op(opNone, opSetItem), []string{"SETITEM", `"w" occurs twice`}},
		{"huge memo", manyMemo, []string{"LONG_BINPUT at byte 13", "memo entry 1000000"}},
		{"memo of nothing", start().op(opBinPut, 0), []string{"BINPUT", "empty"}},
		{"memo never set", start().op(opBinGet, 7), []string{"BINGET", "entry 7"}},
		{"70 marks", deep, []string{"MARK", "more than 64"}},
		{"70 tuples", nested, []string{"TUPLE1", "more than 64 deep"}},
		{"doubling tuple", bomb.op(opStop), []string{"a tuple of 2, want a dict"}},
		{"dict in itself", start().op(opEmptyDict, opBinPut, 0).str("w").op(opBinGet, 0, opSetItem, opStop), []string{"SETITEM", "contains itself"}},
		{"dict in its tuple", start().op(opEmptyDict, opBinPut, 0).str("w").op(opBinGet, 0, opTuple1, opSetItem, opStop), []string{`"w" is a tuple`}},
		{"string of 5000 bytes", start().str(strings.Repeat("x", 5000)), []string{"BINUNICODE", "at most 4096"}},
		{"string beyond the end", start().op(opBinUnicode, 100, 0, 0, 0), []string{"BINUNICODE", "100 bytes wanted"}},
		{"string of 4 GB", start().op(opBinUnicode, 255, 255, 255, 255), []string{"BINUNICODE", "4294967295"}},
		{"string is not UTF-8", start().str("\xff\xfe"), []string{"BINUNICODE", "UTF-8"}},
		{"integer of 255 bytes", start().op(opLong1, 255), []string{"LONG1", "at most 8"}},
		{"persistent id is a string", persistent(func(p pickle) pickle { return p.str("0") }), []string{"BINPERSID", "want a tuple of 5"}},
		{"persistent id is short", persistent(func(p pickle) pickle { return p.nums(1, 2) }), []string{"BINPERSID", "a tuple of 2"}},
		{"persistent id of another kind", persistent(func(p pickle) pickle {
			return p.op(opMark).str("module").global("torch", "FloatStorage").str("0").str("cpu").num(16).op(opTuple)
		}), []string{"BINPERSID"}},
		{"persistent id of a dtype", persistent(func(p pickle) pickle {
			return p.op(opMark).str("storage").global("torch", "float32").str("0").str("cpu").num(16).op(opTuple)
		}), []string{"BINPERSID"}},
		{"persistent id with a number as key", persistent(func(p pickle) pickle {
			return p.op(opMark).str("storage").global("torch", "FloatStorage").num(0).str("cpu").num(16).op(opTuple)
		}), []string{"BINPERSID"}},
		{"persistent id with a negative count", stored("FloatStorage", "0", -16), []string{"BINPERSID"}},
		{"one storage of two types", dictOf("a").tensor("0", 16, 0, []int64{16}, []int64{1}).str("b").op(stored("HalfStorage", "0", 32)[10:]...), []string{"BINPERSID", `storage "0"`}},
		{"storage longer than its entry", stored("FloatStorage", "0", 17), []string{`tensor "w"`, "should have 17 elements", "64 bytes"}},
		{"storage shorter than its entry", stored("FloatStorage", "0", 15), []string{`tensor "w"`, "should have 15 elements"}},
		{"storage of 2^62", stored("FloatStorage", "0", 1<<62), []string{`tensor "w"`, "should have"}},
		{"storage that is not there", stored("FloatStorage", "9", 16), []string{`no zip entry for storage "9"`}},
		{"storage named as a path", stored("FloatStorage", "../data.pkl", 16), []string{"no zip entry for storage"}},
		{"tensor longer than its storage", tensorOf(0, []int64{17}, []int64{1}), []string{`tensor "w"`, "more elements than the 16"}},
		{"tensor beyond its storage", tensorOf(1, []int64{16}, []int64{1}), []string{`tensor "w"`, "beyond the storage"}},
		{"tensor behind its storage", tensorOf(16, []int64{1}, []int64{1}), []string{`tensor "w"`, "begins at element 16"}},
		{"negative offset", tensorOf(-1, []int64{1}, []int64{1}), []string{`tensor "w"`, "begins at element -1"}},
		{"offset 2^62", tensorOf(1<<62, []int64{1}, []int64{1}), []string{`tensor "w"`, "begins at"}},
		{"stride 0", tensorOf(0, []int64{16}, []int64{0}), []string{`tensor "w"`, "stride 0"}},
		{"stride negative", tensorOf(15, []int64{16}, []int64{-1}), []string{`tensor "w"`, "stride -1"}},
		{"stride negative, dim 1", tensorOf(0, []int64{1}, []int64{-1}), []string{`tensor "w"`, "stride -1"}},
		{"stride too large", tensorOf(0, []int64{4}, []int64{6}), []string{`tensor "w"`, "beyond the storage"}},
		{"stride overflows", tensorOf(0, []int64{3, 2}, []int64{1<<63 - 1, 1}), []string{`tensor "w"`, "beyond the storage"}},
		{"dims overflow", tensorOf(0, []int64{1 << 32, 1 << 32, 4}, []int64{1, 1, 1}), []string{`tensor "w"`, "more elements"}},
		{"overlapping rows of 1e12 elements", tensorOf(0, []int64{1e6, 1e6}, []int64{1, 1}), []string{`tensor "w"`, "more elements"}},
		{"dim 0", tensorOf(0, []int64{0}, []int64{1}), []string{`tensor "w"`, "dim 0 is 0"}},
		{"dim negative", tensorOf(0, []int64{-4, -4}, []int64{4, 1}), []string{`tensor "w"`, "is -4"}},
		{"nine dims", tensorOf(0, []int64{1, 1, 1, 1, 1, 1, 1, 1, 1}, make([]int64, 9)), []string{`tensor "w"`, "9 dims"}},
		{"fewer strides than dims", tensorOf(0, []int64{4, 4}, []int64{1}), []string{`tensor "w"`, "2 dims with 1 strides"}},
		{"untyped without dtype", stored("UntypedStorage", "0", 64), []string{`tensor "w"`, "untyped"}},
		{"dtype of another size", v3("float64", 7), []string{`tensor "w"`, "beyond the storage"}},
		{"unknown dtype", v3("quint8", 0), []string{"GLOBAL", `"torch.quint8"`}},
		{"hooks", dictOf("w").global("torch._utils", "_rebuild_tensor_v2").op(opMark).storage("FloatStorage", "0", 16).
			num(0).nums(16).nums(1).op(opFalse).op(opNone).op(opTuple, opReduce).done(), []string{"REDUCE", "hooks"}},
		{"value is no tensor", dictOf("w").num(1).done(), []string{`"w" is an integer, want a tensor`}},
		{"value is a dict", dictOf("state_dict").op(opEmptyDict).done(), []string{`"state_dict" is a dict`}},
		{"root is a tensor", start().tensor("0", 16, 0, []int64{16}, []int64{1}).op(opStop), []string{"the file holds a tensor"}},
	} {
		t.Run(tc.name, func(t *testing.T) { refused(t, saved(tc.in, sixteen()).bytes(), tc.want) })
	}
}

func refused(t *testing.T, data []byte, want []string) {
	t.Helper()
	s, err := open(data)
	if err == nil {
		t.Fatalf("accepted with %q", s.Names())
	}
	for _, w := range append(want, "m.pth") {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to name %q", err, w)
		}
	}
	if len(err.Error()) > 500 {
		t.Errorf("message of %d bytes: %q", len(err.Error()), err)
	}
}

func TestHostileArchives(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(a *archiveSpec)
		want   string
	}{
		{"compressed entry", func(a *archiveSpec) { a.parts[2].method = 8 }, `"m/data/0" is compressed`},
		{"compressed pickle", func(a *archiveSpec) { a.parts[0].method = 8 }, `"m/data.pkl" is compressed`},
		{"encrypted entry", func(a *archiveSpec) { a.parts[2].flags = 1 }, "flags 0x1"},
		{"two entries of one name", func(a *archiveSpec) { a.parts = append(a.parts, a.parts[2]) }, `"m/data/0" occurs twice`},
		{"two pickles", func(a *archiveSpec) { a.parts = append(a.parts, part{name: "n/data.pkl", data: good()}) }, "two entries are called data.pkl"},
		{"no pickle", func(a *archiveSpec) { a.parts = a.parts[1:] }, "no entry is called data.pkl"},
		{"pickle further down", func(a *archiveSpec) { a.parts[0].name = "m/n/data.pkl" }, "no entry is called data.pkl"},
		{"big endian", func(a *archiveSpec) { a.parts[1].data = []byte("big") }, "byte order"},
		{"no byte order", func(a *archiveSpec) { a.parts[1].data = nil }, "byte order"},
		{"another name in front of the data", func(a *archiveSpec) { a.parts[2].localName = "m/data/9" }, `"m/data/0": local header and directory disagree`},
		{"another size in front of the data", func(a *archiveSpec) { a.parts[2].localSize = 4 }, "disagree on the size"},
		{"smaller size in the directory", func(a *archiveSpec) { a.parts[2].centralSize = -4 }, "disagree on the size"},
		{"larger size in the directory", func(a *archiveSpec) { a.parts[2].centralSize = 1 << 20 }, "do not fit"},
		{"zip64 lies in front of the data", func(a *archiveSpec) { a.parts[2].zip64, a.parts[2].localSize = true, 1<<40 }, "disagree on the size"},
		{"zip64 lies in the directory", func(a *archiveSpec) { a.parts[2].zip64, a.parts[2].centralSize = true, 1<<40 }, "do not fit"},
		{"zip64 size 2^63", func(a *archiveSpec) { a.parts[2].zip64, a.parts[2].centralSize = true, math.MinInt64 }, "zip64"},
		{"zip64 offset of 2^40", func(a *archiveSpec) { a.parts[2].zip64, a.parts[2].headerOffset = true, 1<<40 }, "behind the data"},
		{"zip64 offset negative", func(a *archiveSpec) { a.parts[2].zip64, a.parts[2].headerOffset = true, -1<<40 }, "zip64"},
		{"zip64 entries beyond the directory", func(a *archiveSpec) { a.end64, a.lieEntries = true, 1<<16 }, "too small for its"},
		{"zip64 entries 2^40", func(a *archiveSpec) { a.end64, a.lieEntries = true, 1<<40 }, "at most 131072"},
		{"zip64 directory elsewhere", func(a *archiveSpec) { a.end64, a.lieOffset = true, -10 }, "does not end where"},
		{"zip64 directory beyond", func(a *archiveSpec) { a.end64, a.lieOffset = true, 1<<40 }, "does not end where"},
		{"more entries than there are", func(a *archiveSpec) { a.lieEntries = 1 }, "too small for its 5 entries"},
		{"fewer entries than there are", func(a *archiveSpec) { a.lieEntries = -1 }, "after its last entry"},
		{"data behind the end", func(a *archiveSpec) { a.behind = []byte("x") }, "not a zip archive that ends"},
		{"data in a comment", func(a *archiveSpec) { a.comment = []byte("x") }, "not a zip archive that ends"},
		{"data between directory and end", func(a *archiveSpec) { a.between = []byte("x") }, "does not end where"},
		{"offset into another entry", func(a *archiveSpec) { a.parts[2].headerOffset = -1 }, "no local header"},
		{"two names for one entry", func(a *archiveSpec) {
			first := a.parts[2]
			first.name = "m/data/1"
			first.headerOffset = -int64(localSize + len(first.name) + len(first.data))
			a.parts = slices.Insert(a.parts, 3, first)
		}, "disagree"},
		{"name with NUL", func(a *archiveSpec) { a.parts[2].name = "m/data/0\x00" }, "bad name"},
		{"name too long", func(a *archiveSpec) { a.parts[2].name = strings.Repeat("m", 600) }, "bad name"},
		{"no name", func(a *archiveSpec) { a.parts = append(a.parts, part{}) }, "bad name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := saved(good(), sixteen())
			tc.change(&a)
			refused(t, a.bytes(), []string{tc.want})
		})
	}
}

// TestOverlappingEntries nests one entry in the data of another, as zip bombs do.
func TestOverlappingEntries(t *testing.T) {
	inner := archiveSpec{parts: []part{{name: "m/data/1", data: floats(1)}}}.bytes()
	local := inner[:localSize+len("m/data/1")+4]
	a := saved(dictOf("w").tensor("0", int64(len(local)/4), 0, []int64{1}, []int64{1}).done(), local)
	// The second entry's directory record points into the data of the first.
	a.parts = append(a.parts, part{name: "m/data/1", data: floats(1)})
	header := int64(0)
	for _, p := range a.parts[:len(a.parts)-1] {
		header += int64(localSize + len(p.name) + len(p.data))
	}
	inside := header - int64(localSize+len("m/version")+2) - int64(len(local))
	a.parts[len(a.parts)-1].headerOffset = inside - header
	refused(t, a.bytes(), []string{`"m/data/1" overlaps "m/data/0"`})
}

// TestDamaged cuts a good file at every length and flips each byte of its
// directory: no panic, and no cut file opens.
func TestDamaged(t *testing.T) {
	data := saved(good(), sixteen()).bytes()
	for n := range data {
		if _, err := open(slices.Clone(data[:n])); err == nil {
			t.Errorf("the first %d of %d bytes were accepted", n, len(data))
		}
	}
	for i := range data {
		damaged := slices.Clone(data)
		damaged[i] ^= 0xff
		checkIfOpen(t, damaged)
	}
	at := strings.Index(string(data), "m/data.pkl") + len("m/data.pkl") + 4
	damaged := slices.Clone(data)
	damaged[at] ^= 1
	refused(t, damaged, []string{"data.pkl", "damaged"})
}
