package weights

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/internal/checkpoint"
	"github.com/wanrun/wanrun/pkg/tensor"
)

// scanElements bounds the elements that Scan converts at a time.
const scanElements = 1 << 18

// Scan reads every tensor of src and reports those that hold NaN or infinite
// values, by name and with their number. It stops with ctx.
// Errors: checkpoint.ErrCheckpoint.
func Scan(ctx context.Context, src checkpoint.Source) error {
	var bad []string
	buf := make([]byte, 4*scanElements)
	for _, name := range src.Names() {
		e, _ := src.Lookup(name)
		if !checkpoint.IsFloat(e.DType) {
			continue
		}
		nan, inf, err := scan(ctx, e, buf)
		if err != nil {
			return err
		}
		if nan+inf > 0 {
			bad = append(bad, fmt.Sprintf("%.128q: %d NaN, %d infinite of %d values", name, nan, inf, e.NumElements()))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	const most = 12
	text := strings.Join(bad[:min(len(bad), most)], "; ")
	if len(bad) > most {
		text += fmt.Sprintf("; and %d tensors more", len(bad)-most)
	}
	return fmt.Errorf("%w: weights are not finite: %s", checkpoint.ErrCheckpoint, text)
}

// scan counts the NaN and infinite elements of e.
func scan(ctx context.Context, e checkpoint.Entry, buf []byte) (nan, inf int64, err error) {
	if ctx.Err() != nil {
		return 0, 0, fmt.Errorf("scan weights: %w", context.Cause(ctx))
	}
	if n, room := e.NumElements(), int64(len(buf)/4); n > room {
		if e.Shape[0] == 1 {
			return scan(ctx, e.Squeeze(), buf)
		}
		step := int(max(1, room/(n/int64(e.Shape[0]))))
		for at := 0; at < e.Shape[0]; at += step {
			a, b, err := scan(ctx, e.Rows(at, min(step, e.Shape[0]-at)), buf)
			if err != nil {
				return 0, 0, err
			}
			nan, inf = nan+a, inf+b
		}
		return nan, inf, nil
	}
	f32 := buf[:4*e.NumElements()]
	if err := checkpoint.Read(f32, tensor.F32, e); err != nil {
		return 0, 0, err
	}
	for i := 0; i < len(f32); i += 4 {
		switch bits := binary.LittleEndian.Uint32(f32[i:]) & 0x7fffffff; {
		case bits > 0x7f800000:
			nan++
		case bits == 0x7f800000:
			inf++
		}
	}
	return nan, inf, nil
}
