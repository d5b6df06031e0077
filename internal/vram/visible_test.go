package vram

import (
	"strings"
	"testing"
)

var four = []Facts{{UUID: "GPU-aa11"}, {UUID: "GPU-aa22"}, {UUID: "GPU-bb33"}, {UUID: "GPU-cc44"}}

func TestChoose(t *testing.T) {
	list := func(s string) *string { return &s }
	for _, tc := range []struct {
		name    string
		visible *string
		local   int
		index   int
		uuid    string
	}{
		{"not set", nil, 2, 2, "GPU-bb33"},
		{"numbers", list("3, 1"), 1, 1, "GPU-aa22"},
		{"the beginning of a UUID", list("GPU-c,GPU-aa1"), 0, 3, "GPU-cc44"},
		{"a part", list("MIG-0123"), 0, Unknown, "MIG-0123"},
		{"before a bad one", list("0,-1,1"), 0, 0, "GPU-aa11"},
		{"behind a bad one", list("0,-1,1"), 2, Unknown, ""},
		{"ambiguous", list("GPU-aa"), 0, Unknown, ""},
		{"none", list(""), 0, Unknown, ""},
		{"too many ranks", nil, 4, Unknown, ""},
		{"below zero", nil, -1, Unknown, ""},
		{"not there", list("4"), 0, Unknown, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			index, uuid, err := Choose(tc.visible, tc.local, four)
			if index != tc.index || uuid != tc.uuid || (err == nil) != (tc.uuid != "") {
				t.Errorf("%d %q %v, want %d %q", index, uuid, err, tc.index, tc.uuid)
			}
		})
	}
}

func FuzzChoose(f *testing.F) {
	for _, s := range []string{"", "0,1", "GPU-aa11,3", "MIG-x", "0,,1", "99999999999999999999"} {
		f.Add(s, 1)
	}
	f.Fuzz(func(t *testing.T, s string, local int) {
		index, uuid, err := Choose(&s, local, four)
		if err == nil && (uuid == "" || index >= len(four) || index != Unknown && four[index].UUID != uuid) {
			t.Errorf("%q, %d: %d %q", s, local, index, uuid)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}

func TestEvents(t *testing.T) {
	for _, tc := range []struct {
		e     Event
		want  string
		fatal bool
	}{
		{Event{XID, 79, "GPU-a"}, "XID 79 on GPU-a: the GPU has fallen off the bus", true},
		{Event{XID, 63, ""}, "XID 63: a faulty row", false},
		{Event{XID, 4711, "GPU-a"}, "XID 4711 on GPU-a: look it up", false},
		{Event{DoubleBit, 0, "GPU-a"}, "memory error that could not be corrected on GPU-a: reset the GPU", true},
	} {
		if got := tc.e.String(); !strings.HasPrefix(got, tc.want) || tc.e.Fatal() != tc.fatal {
			t.Errorf("%q fatal %v, want %q %v", got, tc.e.Fatal(), tc.want, tc.fatal)
		}
	}
}
