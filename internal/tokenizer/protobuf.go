package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// protoField is one field of a protobuf message.
type protoField struct {
	number int
	varint uint64 // wire types 0, 1 and 5
	bytes  []byte // wire type 2
	wire   int
}

var errTruncated = errors.New("protobuf message is cut short")

// readProto calls field for each field of a message, in order. It knows the four
// wire types that are in use; groups are refused. Nothing is copied.
func readProto(data []byte, field func(protoField) error) error {
	for len(data) > 0 {
		key, n := binary.Uvarint(data)
		if n <= 0 {
			return errTruncated
		}
		data = data[n:]
		f := protoField{wire: int(key & 7)}
		if key>>3 == 0 || key>>3 > math.MaxInt32>>3 {
			return fmt.Errorf("protobuf field number %d is out of range", key>>3)
		}
		f.number = int(key >> 3)
		size := 0
		switch f.wire {
		case 0:
			if f.varint, size = binary.Uvarint(data); size <= 0 {
				return errTruncated
			}
		case 1:
			if size = 8; len(data) >= size {
				f.varint = binary.LittleEndian.Uint64(data)
			}
		case 5:
			if size = 4; len(data) >= size {
				f.varint = uint64(binary.LittleEndian.Uint32(data))
			}
		case 2:
			length, k := binary.Uvarint(data)
			if k <= 0 || length > uint64(len(data)-k) {
				return errTruncated
			}
			size = k + int(length)
			f.bytes = data[k:size]
		default:
			return fmt.Errorf("protobuf field %d has wire type %d, expected 0, 1, 2 or 5", f.number, f.wire)
		}
		if size > len(data) {
			return errTruncated
		}
		data = data[size:]
		if err := field(f); err != nil {
			return err
		}
	}
	return nil
}

// want checks the wire type of a field that is known.
func (f protoField) want(wire int) error {
	if f.wire != wire {
		return fmt.Errorf("protobuf field %d has wire type %d, expected %d", f.number, f.wire, wire)
	}
	return nil
}

func (f protoField) boolean(v *bool) error {
	*v = f.varint != 0
	return f.want(0)
}

func (f protoField) text(v *string) error {
	*v = string(f.bytes)
	return f.want(2)
}

func (f protoField) float(v *float32) error {
	*v = math.Float32frombits(uint32(f.varint))
	return f.want(5)
}
