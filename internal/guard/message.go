package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A packet is a kind, a number that the answer carries again (of a rank's start it is the
// rank's number from then on) and a body: integers in 8 bytes, little endian, strings
// with their length before them.
const (
	protocolVersion = 1
	maxPacket       = 64 << 10 // of a socket's buffer, 208 KiB by default
	maxSpec         = 8 << 20  // the kernel takes 6 MiB of arguments and environment at most
	maxFiles        = 64       // of the kernel's 253
	maxWords        = 1 << 17  // arguments, variables, CPUs
	maxListed       = 500      // processes in one packet
	maxAtOnce       = 4000     // ranks that one packet signals
	maxNamed        = 4096     // bytes of a path that an error names
	headerBytes     = 9
)

// Kinds of packets, requests first.
const (
	kindPart   = 'p' // a part of the next kindStart's body
	kindStart  = 's' // the last part, with the files
	kindSignal = 'k'
	kindLeft   = 'l'
	kindClose  = 'q'

	kindHello   = 'H'
	kindStarted = 'S'
	kindSignals = 'K'
	kindLefts   = 'L'
	kindExit    = 'X'
)

var errMalformed = errors.New("malformed packet")

type packet struct {
	kind byte
	seq  uint64
	body []byte
}

func parsePacket(b []byte) (packet, error) {
	if len(b) < headerBytes {
		return packet{}, fmt.Errorf("%d bytes, want at least %d: %w", len(b), headerBytes, errMalformed)
	}
	return packet{kind: b[0], seq: binary.LittleEndian.Uint64(b[1:]), body: b[headerBytes:]}, nil
}

// encoder appends fields.
type encoder struct{ b []byte }

func newPacket(kind byte, seq uint64) *encoder {
	return &encoder{binary.LittleEndian.AppendUint64([]byte{kind}, seq)}
}

func (e *encoder) int(v int64) { e.b = binary.LittleEndian.AppendUint64(e.b, uint64(v)) }

func (e *encoder) string(s string) {
	e.int(int64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) strings(list []string) {
	e.int(int64(len(list)))
	for _, s := range list {
		e.string(s)
	}
}

func (e *encoder) ints(list []int) {
	e.int(int64(len(list)))
	for _, v := range list {
		e.int(int64(v))
	}
}

// decoder takes fields off. After the first that is not there it returns zeros, and err
// is set.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) int() int64 {
	if d.err == nil && len(d.b) < 8 {
		d.err = fmt.Errorf("%d bytes left, want an integer of 8: %w", len(d.b), errMalformed)
	}
	if d.err != nil {
		return 0
	}
	v := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return int64(v)
}

// count is an integer that says how many things of at least size bytes follow.
func (d *decoder) count(most, size int) int {
	n := d.int()
	if d.err == nil && (n < 0 || n > int64(most) || n > int64(len(d.b)/size)) {
		d.err = fmt.Errorf("count %d with %d bytes left, want 0 to %d: %w", n, len(d.b), most, errMalformed)
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	n := d.count(maxSpec, 1)
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) strings() []string {
	n := d.count(maxWords, 8)
	var list []string
	for range n {
		list = append(list, d.string())
	}
	return list
}

func (d *decoder) ints() []int {
	n := d.count(maxWords, 8)
	var list []int
	for range n {
		list = append(list, int(d.int()))
	}
	return list
}

// end returns the error, which is also set if something is left.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes too many: %w", len(d.b), errMalformed)
	}
	return d.err
}

// wireSpec is a Spec without its files. Present says which of them are not /dev/null.
type wireSpec struct {
	Path        string
	Args, Env   []string
	Dir         string
	CPUs        []int
	MemNodes    []int
	OOMScoreAdj int
	Present     []int
}

func (s wireSpec) encode() []byte {
	var e encoder
	e.string(s.Path)
	e.strings(s.Args)
	e.strings(s.Env)
	e.string(s.Dir)
	e.ints(s.CPUs)
	e.ints(s.MemNodes)
	e.int(int64(s.OOMScoreAdj))
	e.ints(s.Present)
	return e.b
}

func decodeSpec(b []byte) (wireSpec, error) {
	d := decoder{b: b}
	s := wireSpec{
		Path: d.string(), Args: d.strings(), Env: d.strings(), Dir: d.string(),
		CPUs: d.ints(), MemNodes: d.ints(), OOMScoreAdj: int(d.int()), Present: d.ints(),
	}
	if len(s.Present) > maxFiles {
		return wireSpec{}, fmt.Errorf("%d files, want at most %d: %w", len(s.Present), maxFiles, errMalformed)
	}
	return s, d.end()
}

// hello is what the guard says first.
type hello struct {
	version int64
	mark    string // begins the marks of all its ranks
	session int
	cgroup  string // the group's folder; "" if there is none
	warning string
}

func (h hello) encode() []byte {
	e := newPacket(kindHello, 0)
	e.int(h.version)
	e.string(h.mark)
	e.int(int64(h.session))
	e.string(h.cgroup)
	e.string(h.warning)
	return e.b
}

func decodeHello(b []byte) (hello, error) {
	d := decoder{b: b}
	h := hello{version: d.int(), mark: d.string(), session: int(d.int()), cgroup: d.string(), warning: d.string()}
	return h, d.end()
}

// started answers a start.
type started struct {
	pid      int
	errno    int    // 0 if it runs
	op       string // what failed
	path     string // with what
	warnings []string
}

func (s started) encode(seq uint64) []byte {
	e := newPacket(kindStarted, seq)
	e.int(int64(s.pid))
	e.int(int64(s.errno))
	e.string(s.op)
	e.string(s.path)
	e.strings(s.warnings)
	return e.b
}

func decodeStarted(b []byte) (started, error) {
	d := decoder{b: b}
	s := started{pid: int(d.int()), errno: int(d.int()), op: d.string(), path: d.string(), warnings: d.strings()}
	return s, d.end()
}

// exit says how a rank ended. At is on the monotonic clock, in ns.
type exit struct {
	code, signal int
	core         bool
	at, maxRSS   int64
	strays       int
}

func (x exit) encode(seq uint64) []byte {
	e := newPacket(kindExit, seq)
	core := 0
	if x.core {
		core = 1
	}
	e.ints([]int{x.code, x.signal, core, x.strays})
	e.int(x.at)
	e.int(x.maxRSS)
	return e.b
}

func decodeExit(b []byte) (exit, error) {
	d := decoder{b: b}
	f := d.ints()
	if d.err == nil && len(f) != 4 {
		return exit{}, fmt.Errorf("exit of %d numbers, want 4: %w", len(f), errMalformed)
	}
	x := exit{at: d.int(), maxRSS: d.int()}
	if err := d.end(); err != nil {
		return exit{}, err
	}
	x.code, x.signal, x.core, x.strays = f[0], f[1], f[2] != 0, f[3]
	return x, nil
}

func encodeLeft(seq uint64, list []Remains) []byte {
	e := newPacket(kindLefts, seq)
	list = list[:min(len(list), maxListed)]
	e.int(int64(len(list)))
	for _, r := range list {
		e.ints([]int{r.Pid, int(r.id)})
		e.string(r.State)
		e.string(r.Name)
	}
	return e.b
}

func decodeLeft(b []byte) ([]Remains, error) {
	d := decoder{b: b}
	var list []Remains
	for range d.count(maxListed, 40) {
		f := d.ints()
		if d.err == nil && len(f) != 2 {
			return nil, fmt.Errorf("process of %d numbers, want 2: %w", len(f), errMalformed)
		}
		r := Remains{State: d.string(), Name: d.string()}
		if d.err != nil {
			return nil, d.err
		}
		r.Pid, r.id = f[0], uint64(f[1])
		list = append(list, r)
	}
	return list, d.end()
}
