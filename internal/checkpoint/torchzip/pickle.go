package torchzip

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Limits of a pickle. Those of Wan's checkpoints have about 2,000 memo entries and
// nest 6 deep.
const (
	maxPickle = 8 << 20 // bytes
	maxMemo   = 1_000_000
	maxStack  = 1_000_000
	maxNested = 64
	maxString = 4096 // bytes
	maxItems  = 1 << 17
)

// machine runs a pickle of protocol 2, of which it knows the opcodes that a state
// dict of tensors is made of and no others. It calls nothing and imports
// nothing: a global is a name of a fixed list, and REDUCE builds one of our own
// values. Source of the opcodes: CPython, Lib/pickletools.py.
type machine struct {
	data     []byte
	pos      int
	stack    []any
	marks    []int // where the marks lie in the stack
	memo     map[uint32]any
	storages map[string]*storage
	items    int // of all dicts
}

// unpickle returns what data, the content of data.pkl, stands for.
func unpickle(data []byte) (any, error) {
	if len(data) > maxPickle {
		return nil, fmt.Errorf("pickle of %d bytes, at most %d allowed", len(data), maxPickle)
	}
	m := &machine{data: data, memo: map[uint32]any{}, storages: map[string]*storage{}}
	for {
		at := m.pos
		if at >= len(data) {
			return nil, fmt.Errorf("pickle ends at byte %d without STOP", at)
		}
		op := data[at]
		m.pos++
		var err error
		if at == 0 != (op == opProto) {
			err = fmt.Errorf("PROTO 2 must be first and only first")
		} else {
			err = m.step(op)
		}
		if err != nil {
			return nil, fmt.Errorf("pickle opcode %s at byte %d: %w", opName(op), at, err)
		}
		if op == opStop {
			if m.pos != len(data) || len(m.stack) != 1 || len(m.marks) != 0 {
				return nil, fmt.Errorf("pickle opcode STOP at byte %d: %d values left and %d bytes after it", at, len(m.stack), len(data)-m.pos)
			}
			return m.stack[0], nil
		}
	}
}

// The opcodes that are understood.
const (
	opProto      = 0x80
	opStop       = '.'
	opMark       = '('
	opEmptyDict  = '}'
	opEmptyTuple = ')'
	opTuple      = 't'
	opTuple1     = 0x85
	opTuple2     = 0x86
	opTuple3     = 0x87
	opNone       = 'N'
	opTrue       = 0x88
	opFalse      = 0x89
	opBinInt     = 'J'
	opBinInt1    = 'K'
	opBinInt2    = 'M'
	opLong1      = 0x8a
	opBinUnicode = 'X'
	opBinPut     = 'q'
	opLongBinPut = 'r'
	opBinGet     = 'h'
	opLongBinGet = 'j'
	opGlobal     = 'c'
	opBinPersID  = 'Q'
	opReduce     = 'R'
	opBuild      = 'b'
	opSetItem    = 's'
	opSetItems   = 'u'
)

var opNames = map[byte]string{
	opProto: "PROTO", opStop: "STOP", opMark: "MARK", opEmptyDict: "EMPTY_DICT", opEmptyTuple: "EMPTY_TUPLE", opTuple: "TUPLE",
	opTuple1: "TUPLE1", opTuple2: "TUPLE2", opTuple3: "TUPLE3", opNone: "NONE", opTrue: "NEWTRUE", opFalse: "NEWFALSE",
	opBinInt: "BININT", opBinInt1: "BININT1", opBinInt2: "BININT2", opLong1: "LONG1", opBinUnicode: "BINUNICODE",
	opBinPut: "BINPUT", opLongBinPut: "LONG_BINPUT", opBinGet: "BINGET", opLongBinGet: "LONG_BINGET", opGlobal: "GLOBAL",
	opBinPersID: "BINPERSID", opReduce: "REDUCE", opBuild: "BUILD", opSetItem: "SETITEM", opSetItems: "SETITEMS",
	// Known only to be named when refused.
	'i': "INST", 'o': "OBJ", 'P': "PERSID", 'p': "PUT", 'g': "GET", '0': "POP", '1': "POP_MARK", '2': "DUP",
	']': "EMPTY_LIST", 'l': "LIST", 'd': "DICT", 'a': "APPEND", 'e': "APPENDS", 'F': "FLOAT", 'G': "BINFLOAT", 'I': "INT",
	'L': "LONG", 'S': "STRING", 'T': "BINSTRING", 'U': "SHORT_BINSTRING", 'V': "UNICODE", 'B': "BINBYTES", 'C': "SHORT_BINBYTES",
	0x81: "NEWOBJ", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", 0x8b: "LONG4", 0x8c: "SHORT_BINUNICODE", 0x8d: "BINUNICODE8",
	0x8e: "BINBYTES8", 0x8f: "EMPTY_SET", 0x90: "ADDITEMS", 0x91: "FROZENSET", 0x92: "NEWOBJ_EX", 0x93: "STACK_GLOBAL",
	0x94: "MEMOIZE", 0x95: "FRAME", 0x96: "BYTEARRAY8", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER",
}

func opName(op byte) string {
	if name, ok := opNames[op]; ok {
		return name
	}
	return fmt.Sprintf("%#02x", op)
}

func (m *machine) step(op byte) error {
	switch op {
	case opProto:
		v, err := m.read(1)
		if err == nil && v[0] != 2 {
			err = fmt.Errorf("protocol %d, only 2 is read", v[0])
		}
		return err
	case opStop:
		return nil
	case opMark:
		if len(m.marks) == maxNested {
			return fmt.Errorf("more than %d marks are open", maxNested)
		}
		m.marks = append(m.marks, len(m.stack))
		return nil
	case opEmptyDict:
		return m.push(&dict{items: map[string]any{}, depth: 1})
	case opNone:
		return m.push(nil)
	case opTrue, opFalse:
		return m.push(op == opTrue)
	case opEmptyTuple:
		return m.pushTuple(0)
	case opTuple1, opTuple2, opTuple3:
		return m.pushTuple(int(op) - opTuple1 + 1)
	case opTuple:
		n, err := m.sinceMark()
		if err != nil {
			return err
		}
		return m.pushTuple(n)
	case opBinInt, opBinInt1, opBinInt2, opLong1:
		return m.integer(op)
	case opBinUnicode:
		return m.unicode()
	case opBinPut, opLongBinPut:
		return m.put(op == opLongBinPut)
	case opBinGet, opLongBinGet:
		return m.get(op == opLongBinGet)
	case opGlobal:
		return m.global()
	case opBinPersID:
		return m.persistent()
	case opReduce:
		return m.reduce()
	case opBuild:
		return m.build()
	case opSetItem:
		return m.setItems(2)
	case opSetItems:
		n, err := m.sinceMark()
		if err != nil {
			return err
		}
		return m.setItems(n)
	}
	return fmt.Errorf("not allowed in a checkpoint")
}

// read returns the next n bytes of the pickle.
func (m *machine) read(n int) ([]byte, error) {
	if n > len(m.data)-m.pos {
		return nil, fmt.Errorf("%d bytes wanted, %d left", n, len(m.data)-m.pos)
	}
	m.pos += n
	return m.data[m.pos-n : m.pos], nil
}

// push puts a value on the stack.
func (m *machine) push(v any) error {
	if len(m.stack) == maxStack {
		return fmt.Errorf("more than %d values on the stack", maxStack)
	}
	if depth(v) > maxNested {
		return fmt.Errorf("values nest more than %d deep", maxNested)
	}
	m.stack = append(m.stack, v)
	return nil
}

// pop takes the last n values, none from before the last mark. The result is
// valid until the next push.
func (m *machine) pop(n int) ([]any, error) {
	floor := 0
	if len(m.marks) > 0 {
		floor = m.marks[len(m.marks)-1]
	}
	at := len(m.stack) - n
	if at < floor {
		return nil, fmt.Errorf("%d values wanted, %d on the stack", n, len(m.stack)-floor)
	}
	values := m.stack[at:]
	m.stack = m.stack[:at]
	return values, nil
}

// sinceMark closes the last mark and returns the number of values since.
func (m *machine) sinceMark() (int, error) {
	if len(m.marks) == 0 {
		return 0, fmt.Errorf("no mark is open")
	}
	n := len(m.stack) - m.marks[len(m.marks)-1]
	m.marks = m.marks[:len(m.marks)-1]
	return n, nil
}

func (m *machine) pushTuple(n int) error {
	values, err := m.pop(n)
	if err != nil {
		return err
	}
	return m.push(newTuple(values))
}

func (m *machine) integer(op byte) error {
	width := map[byte]int{opBinInt: 4, opBinInt1: 1, opBinInt2: 2, opLong1: 1}[op]
	b, err := m.read(width)
	if err != nil {
		return err
	}
	switch op {
	case opBinInt:
		return m.push(int64(int32(u32(b))))
	case opBinInt1:
		return m.push(int64(b[0]))
	case opBinInt2:
		return m.push(int64(u16(b)))
	}
	n := int(b[0])
	if n > 8 {
		return fmt.Errorf("integer of %d bytes, at most 8 allowed", n)
	}
	if b, err = m.read(n); err != nil {
		return err
	}
	v := int64(0)
	for i := n - 1; i >= 0; i-- {
		v = v<<8 | int64(b[i])
	}
	if n > 0 && n < 8 && b[n-1]&0x80 != 0 {
		v -= 1 << (8 * n)
	}
	return m.push(v)
}

func (m *machine) unicode() error {
	b, err := m.read(4)
	if err != nil {
		return err
	}
	if n := u32(b); n > maxString {
		return fmt.Errorf("string of %d bytes, at most %d allowed", n, maxString)
	}
	if b, err = m.read(int(u32(b))); err != nil {
		return err
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("string is not UTF-8: %.64q", b)
	}
	return m.push(string(b))
}

// memoKey reads the number of a memo entry.
func (m *machine) memoKey(long bool) (uint32, error) {
	if long {
		b, err := m.read(4)
		if err != nil {
			return 0, err
		}
		return u32(b), nil
	}
	b, err := m.read(1)
	if err != nil {
		return 0, err
	}
	return uint32(b[0]), nil
}

func (m *machine) put(long bool) error {
	key, err := m.memoKey(long)
	if err != nil {
		return err
	}
	if key >= maxMemo {
		return fmt.Errorf("memo entry %d, at most %d allowed", key, maxMemo)
	}
	if len(m.stack) == 0 {
		return fmt.Errorf("the stack is empty")
	}
	m.memo[key] = m.stack[len(m.stack)-1]
	return nil
}

func (m *machine) get(long bool) error {
	key, err := m.memoKey(long)
	if err != nil {
		return err
	}
	v, ok := m.memo[key]
	if !ok {
		return fmt.Errorf("memo entry %d was never set", key)
	}
	return m.push(v)
}

// global reads a module and a name, each up to the end of its line.
func (m *machine) global() error {
	line := func() (string, error) {
		rest := m.data[m.pos:min(m.pos+maxString, len(m.data))]
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			return "", fmt.Errorf("name without end")
		}
		m.pos += n + 1
		return string(rest[:n]), nil
	}
	module, err := line()
	if err != nil {
		return err
	}
	name, err := line()
	if err != nil {
		return err
	}
	g, ok := lookupGlobal(module, name)
	if !ok {
		return fmt.Errorf("%.128q is not allowed in a checkpoint; the file wants to run code or holds more than tensors", module+"."+name)
	}
	return m.push(g)
}

// persistent makes a storage of ("storage", type, key, device, count).
func (m *machine) persistent() error {
	values, err := m.pop(1)
	if err != nil {
		return err
	}
	t, ok := values[0].(tuple)
	id := t.items
	if !ok || len(id) != 5 {
		return fmt.Errorf("persistent id is %s, want a tuple of 5", describe(values[0]))
	}
	kind, isString := id[0].(string)
	g, isGlobal := id[1].(global)
	key, isKey := id[2].(string)
	_, isDevice := id[3].(string)
	count, isCount := id[4].(int64)
	if !isString || kind != "storage" || !isGlobal || g.kind != storageType || !isKey || !isDevice || !isCount || count < 0 {
		return fmt.Errorf("persistent id (%s, %s, %s, %s, %s), want (\"storage\", a storage type, a key, a device, a count)",
			describe(id[0]), describe(id[1]), describe(id[2]), describe(id[3]), describe(id[4]))
	}
	s := &storage{key: key, dtype: g.dtype, count: count}
	if other, ok := m.storages[key]; ok {
		if *other != *s {
			return fmt.Errorf("storage %q is %v of %d elements here and %v of %d before", key, s.dtype, s.count, other.dtype, other.count)
		}
		s = other
	}
	m.storages[key] = s
	return m.push(s)
}

func (m *machine) reduce() error {
	values, err := m.pop(2)
	if err != nil {
		return err
	}
	g, isGlobal := values[0].(global)
	args, isTuple := values[1].(tuple)
	if !isGlobal || !isTuple {
		return fmt.Errorf("call of %s with %s", describe(values[0]), describe(values[1]))
	}
	v, err := g.rebuild(args.items)
	if err != nil {
		return err
	}
	return m.push(v)
}

// build drops the one attribute that state dicts have: the version numbers of
// their modules, {"_metadata": {..}}. Anything else could change what the object does.
func (m *machine) build() error {
	values, err := m.pop(2)
	if err != nil {
		return err
	}
	target, isDict := values[0].(*dict)
	state, isState := values[1].(*dict)
	if !isDict || !target.ordered || !isState || len(state.keys) != 1 || state.keys[0] != "_metadata" {
		return fmt.Errorf("state %s for %s; only an OrderedDict may have one, and only _metadata", describe(values[1]), describe(values[0]))
	}
	return m.push(target)
}

func (m *machine) setItems(n int) error {
	values, err := m.pop(n)
	if err != nil {
		return err
	}
	if n%2 != 0 {
		return fmt.Errorf("a key without a value")
	}
	if len(m.stack) == 0 {
		return fmt.Errorf("no dict on the stack")
	}
	top := len(m.stack) - 1
	d, ok := m.stack[top].(*dict)
	if !ok {
		return fmt.Errorf("items for %s, want a dict", describe(m.stack[top]))
	}
	if m.items += n / 2; m.items > maxItems {
		return fmt.Errorf("more than %d items", maxItems)
	}
	for i := 0; i < n; i += 2 {
		if v, ok := values[i+1].(*dict); ok && v == d {
			return fmt.Errorf("a dict that contains itself")
		}
		if err := d.set(values[i], values[i+1]); err != nil {
			return err
		}
	}
	if d.depth > maxNested {
		return fmt.Errorf("values nest more than %d deep", maxNested)
	}
	return nil
}
