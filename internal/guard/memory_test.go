package guard

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCleanSpans(t *testing.T) {
	const smaps = `00400000-00800000 r-xp 00000000 fe:00 123                                /bin/wanrun
Size:               4096 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00800000-00c00000 r--p 00400000 fe:00 123                                /bin/wanrun
Anonymous:             4 kB
00c00000-00d00000 rw-p 00800000 fe:00 123                                /bin/wanrun
Anonymous:             0 kB
00d00000-00e00000 rw-p 00000000 00:00 0
Anonymous:             0 kB
00e00000-00f00000 r--p 00900000 fe:00 123                                /bin/wanrun
Anonymous:             0 kB
00f00000-00f10000 r--s 00900000 fe:00 124                                /shared
Anonymous:             0 kB
7fff0000-7fff1000 r-xp 00000000 00:00 0                                  [vdso]
Anonymous:             0 kB
`
	want := []span{{0x400000, 0x800000}, {0xe00000, 0xf00000}}
	if diff := cmp.Diff(want, cleanSpans([]byte(smaps)), cmp.AllowUnexported(span{})); diff != "" {
		t.Errorf("parts to forget (-want +got):\n%s", diff)
	}
}
