package picture

import "encoding/binary"

// exifOrientation reads the orientation tag from an EXIF block, which begins
// with its TIFF header. 1 (upright) when there is none or the block is damaged:
// orientation is a hint, not worth refusing a picture for.
func exifOrientation(tiff []byte) int {
	const tagOrientation, typeShort = 0x0112, 3
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder
	switch string(tiff[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 1
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return 1
	}
	n := int64(order.Uint16(tiff[at:]))
	entries := tiff[at+2:]
	for ; n > 0 && len(entries) >= 12; n, entries = n-1, entries[12:] {
		if order.Uint16(entries) != tagOrientation {
			continue
		}
		if v := int(order.Uint16(entries[8:])); order.Uint16(entries[2:]) == typeShort && v >= 1 && v <= 8 {
			return v
		}
		return 1
	}
	return 1
}

// Orient returns the picture as it should be seen when stored with the given
// EXIF orientation, 1 to 8: p itself for 1.
func (p *RGB) Orient(orientation int) *RGB {
	if orientation <= 1 || orientation > 8 {
		return p
	}
	q := newRGB(p.W, p.H)
	if orientation >= 5 {
		q.W, q.H = p.H, p.W
	}
	for y := range q.H {
		for x := range q.W {
			sx, sy := x, y // in p, of this place in q
			if orientation >= 5 {
				sx, sy = y, x
			}
			switch orientation {
			case 2, 8:
				sx = p.W - 1 - sx
			case 3, 7:
				sx, sy = p.W-1-sx, p.H-1-sy
			case 4, 6:
				sy = p.H - 1 - sy
			}
			copy(q.Pix[(y*q.W+x)*3:][:3], p.Pix[(sy*p.W+sx)*3:])
		}
	}
	return q
}
