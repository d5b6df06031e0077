package torchzip

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"unicode/utf8"
)

// The zip records that are read. Source: PKWARE APPNOTE 6.3.10, section 4.3.
const (
	localSize   = 30
	centralSize = 46
	endSize     = 22
	end64Size   = 56
	locatorSize = 20

	localMagic   = 0x04034b50
	centralMagic = 0x02014b50
	endMagic     = 0x06054b50
	end64Magic   = 0x06064b50
	locatorMagic = 0x07064b50

	flagDescriptor = 1 << 3 // sizes follow the data instead of preceding it
	flagUTF8       = 1 << 11
	allowedFlags   = flagDescriptor | flagUTF8
)

const (
	maxEntries   = 1 << 17
	maxEntryName = 512 // bytes
)

// member is a stored file of the archive.
type member struct {
	name       string
	header     int64 // offset of the local header
	begin, end int64 // of the data in the archive
	crc        uint32
}

// archive is a zip file whose directory has been checked: every member is
// stored as it is, lies inside the file and overlaps no other, no name occurs
// twice, and local headers say what the directory says.
type archive struct {
	data    []byte
	members map[string]member
}

// directory says where the central directory lies.
type directory struct{ offset, size, entries int64 }

func readArchive(data []byte) (*archive, error) {
	dir, err := findDirectory(data)
	if err != nil {
		return nil, err
	}
	if dir.entries > maxEntries {
		return nil, fmt.Errorf("zip directory with %d entries, at most %d allowed", dir.entries, maxEntries)
	}
	if dir.entries > dir.size/centralSize {
		return nil, fmt.Errorf("zip directory of %d bytes is too small for its %d entries", dir.size, dir.entries)
	}
	a := &archive{data: data, members: make(map[string]member, dir.entries)}
	order := make([]member, 0, dir.entries)
	rest := data[dir.offset : dir.offset+dir.size]
	for i := range dir.entries {
		var m member
		if m, rest, err = a.readMember(rest, dir.offset); err != nil {
			return nil, fmt.Errorf("zip entry %d: %w", i, err)
		}
		if _, ok := a.members[m.name]; ok {
			return nil, fmt.Errorf("zip entry %q occurs twice", m.name)
		}
		a.members[m.name] = m
		order = append(order, m)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes in the zip directory after its last entry", len(rest))
	}
	slices.SortFunc(order, func(a, b member) int { return cmp.Compare(a.header, b.header) })
	for i := 1; i < len(order); i++ {
		if order[i].header < order[i-1].end {
			return nil, fmt.Errorf("zip entry %q overlaps %q", order[i].name, order[i-1].name)
		}
	}
	return a, nil
}

// findDirectory reads the end records. They end the file, and nothing stands
// between them and the directory: an archive with a comment could be read in two ways.
func findDirectory(data []byte) (directory, error) {
	end := int64(len(data) - endSize)
	if end < 0 || u32(data[end:]) != endMagic || u16(data[end+20:]) != 0 {
		return directory{}, fmt.Errorf("not a zip archive that ends with its directory: is the download complete?")
	}
	e := data[end:]
	dir := directory{entries: int64(u16(e[10:])), size: int64(u32(e[12:])), offset: int64(u32(e[16:]))}
	if u16(e[4:]) != 0 && u16(e[4:]) != math.MaxUint16 || u16(e[6:]) != 0 && u16(e[6:]) != math.MaxUint16 || u16(e[8:]) != u16(e[10:]) {
		return directory{}, fmt.Errorf("zip archive in several parts")
	}
	limit := end
	if at := end - locatorSize; at >= 0 && u32(data[at:]) == locatorMagic {
		var err error
		if limit, err = readEnd64(data, at, &dir); err != nil {
			return directory{}, err
		}
	}
	if dir.offset < 0 || dir.size < 0 || dir.offset > limit || dir.size != limit-dir.offset {
		return directory{}, fmt.Errorf("zip directory of %d bytes at %d does not end where its end record begins, at %d",
			dir.size, dir.offset, limit)
	}
	return dir, nil
}

// readEnd64 reads the zip64 end record that the locator at byte at points to.
// Each field of the plain record either says the same or defers to it.
func readEnd64(data []byte, at int64, dir *directory) (limit int64, err error) {
	offset := u64(data[at+8:])
	if u32(data[at+4:]) != 0 || u32(data[at+16:]) != 1 || offset != uint64(at-end64Size) || at < end64Size {
		return 0, fmt.Errorf("zip64 end record is not where its locator says")
	}
	e := data[offset:]
	if u32(e) != end64Magic || u64(e[4:]) != end64Size-12 || u32(e[16:]) != 0 || u32(e[20:]) != 0 || u64(e[24:]) != u64(e[32:]) {
		return 0, fmt.Errorf("bad zip64 end record")
	}
	for _, f := range []struct {
		plain   *int64
		marker  int64
		value   uint64
		meaning string
	}{
		{&dir.entries, math.MaxUint16, u64(e[32:]), "number of entries"},
		{&dir.size, math.MaxUint32, u64(e[40:]), "directory size"},
		{&dir.offset, math.MaxUint32, u64(e[48:]), "directory offset"},
	} {
		if f.value > math.MaxInt64 || (*f.plain != f.marker && *f.plain != int64(f.value)) {
			return 0, fmt.Errorf("the zip64 end record gives %d as %s, the plain one %d", f.value, f.meaning, *f.plain)
		}
		*f.plain = int64(f.value)
	}
	return int64(offset), nil
}

// readMember reads one entry of the directory, which begins at byte dirOffset of
// the file, and its local header.
func (a *archive) readMember(b []byte, dirOffset int64) (m member, rest []byte, err error) {
	if len(b) < centralSize || u32(b) != centralMagic {
		return m, nil, fmt.Errorf("bad directory entry")
	}
	nameLen, extraLen, commentLen := int(u16(b[28:])), int(u16(b[30:])), int(u16(b[32:]))
	size := centralSize + nameLen + extraLen + commentLen
	if size > len(b) {
		return m, nil, fmt.Errorf("directory entry reaches beyond the directory")
	}
	name := b[centralSize : centralSize+nameLen]
	extra := b[centralSize+nameLen : centralSize+nameLen+extraLen]
	if nameLen == 0 || nameLen > maxEntryName || !utf8.Valid(name) || bytes.IndexByte(name, 0) >= 0 {
		return m, nil, fmt.Errorf("bad name %.64q", name)
	}
	m.name, m.crc = string(name), u32(b[16:])
	flags, method := u16(b[8:]), u16(b[10:])
	packed, plain, header, err := sizes(b, extra)
	switch {
	case err != nil:
		return m, nil, fmt.Errorf("%q: %w", m.name, err)
	case method != 0:
		return m, nil, fmt.Errorf("%q is compressed (method %d), only stored entries are read", m.name, method)
	case flags&^allowedFlags != 0:
		return m, nil, fmt.Errorf("%q has flags %#x, as encrypted entries do", m.name, flags)
	case packed != plain:
		return m, nil, fmt.Errorf("%q is stored but has %d bytes in %d", m.name, plain, packed)
	case u16(b[34:]) != 0:
		return m, nil, fmt.Errorf("%q is in another part of the archive", m.name)
	case header > dirOffset-localSize:
		return m, nil, fmt.Errorf("%q begins at byte %d, behind the data", m.name, header)
	}
	m.header = header
	if err := a.readLocal(&m, name, flags, plain, dirOffset); err != nil {
		return m, nil, fmt.Errorf("%q: %w", m.name, err)
	}
	return m, b[size:], nil
}

// sizes reads packed and plain size and header offset of a directory entry,
// from the zip64 extra field where the entry defers to it.
func sizes(b, extra []byte) (packed, plain, header int64, err error) {
	packed, plain, header = int64(u32(b[20:])), int64(u32(b[24:])), int64(u32(b[42:]))
	field := zip64Field(extra)
	for _, v := range []*int64{&plain, &packed, &header} { // the order in the field
		if *v != math.MaxUint32 {
			continue
		}
		if len(field) < 8 || u64(field) > math.MaxInt64 {
			return 0, 0, 0, fmt.Errorf("bad zip64 field")
		}
		*v = int64(u64(field))
		field = field[8:]
	}
	return packed, plain, header, nil
}

// zip64Field returns the zip64 record of an extra field, if there is one.
func zip64Field(extra []byte) []byte {
	for len(extra) >= 4 {
		id, n := u16(extra), int(u16(extra[2:]))
		if n > len(extra)-4 {
			return nil
		}
		if id == 1 {
			return extra[4 : 4+n]
		}
		extra = extra[4+n:]
	}
	return nil
}

// readLocal finds a member's data behind its local header, which must agree
// with the directory.
func (a *archive) readLocal(m *member, name []byte, flags uint16, size, dirOffset int64) error {
	b := a.data[m.header:dirOffset]
	if len(b) < localSize || u32(b) != localMagic {
		return fmt.Errorf("no local header at byte %d", m.header)
	}
	nameLen, extraLen := int(u16(b[26:])), int(u16(b[28:]))
	if localSize+nameLen+extraLen > len(b) {
		return fmt.Errorf("local header reaches into the directory")
	}
	if !bytes.Equal(b[localSize:localSize+nameLen], name) || u16(b[6:]) != flags || u16(b[8:]) != 0 {
		return fmt.Errorf("local header and directory disagree on name, flags or method")
	}
	extra := b[localSize+nameLen : localSize+nameLen+extraLen]
	m.begin = m.header + localSize + int64(nameLen+extraLen)
	if size > dirOffset-m.begin {
		return fmt.Errorf("%d bytes of data do not fit between byte %d and the directory at %d", size, m.begin, dirOffset)
	}
	m.end = m.begin + size
	// With the descriptor flag the local fields may be zero, as they were not known yet.
	deferred := flags&flagDescriptor != 0
	if crc := u32(b[14:]); crc != m.crc && !(deferred && crc == 0) {
		return fmt.Errorf("local header and directory disagree on the checksum")
	}
	field := zip64Field(extra)
	for _, at := range []int{22, 18} { // plain, packed
		v := uint64(u32(b[at:]))
		if v == math.MaxUint32 && len(field) >= 8 {
			v, field = u64(field), field[8:]
		}
		if v != uint64(size) && !(deferred && v == 0) {
			return fmt.Errorf("local header and directory disagree on the size: %d and %d", v, size)
		}
	}
	return nil
}

// bytes returns the data of a member.
func (a *archive) bytes(m member) []byte { return a.data[m.begin:m.end:m.end] }

// checked returns the data of a small member after comparing its checksum.
func (a *archive) checked(m member) ([]byte, error) {
	b := a.bytes(m)
	if sum := crc32.ChecksumIEEE(b); sum != m.crc {
		return nil, fmt.Errorf("zip entry %q is damaged: checksum %08x, want %08x", m.name, sum, m.crc)
	}
	return b, nil
}

func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
