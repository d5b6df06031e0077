package task

import (
	"encoding/json"
	"math"
	"os"
	"regexp"
	"strconv"
	"testing"
)

func TestLatentSizeEqualsOfficial(t *testing.T) {
	data, err := os.ReadFile("testdata/lat_size.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct {
		Rows   [][5]int // width, height, max_area, lat_h, lat_w
		Resize []struct {
			W, H     int
			MaxArea  int `json:"max_area"`
			OutH     int `json:"out_h"`
			OutW     int `json:"out_w"`
			LatentsH int `json:"lat_h"`
			LatentsW int `json:"lat_w"`
		}
	}
	if err := json.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) < 500 {
		t.Fatalf("only %d rows", len(table.Rows))
	}
	for _, r := range table.Rows {
		if h, w := LatentSize(r[1], r[0], r[2]); h != r[3] || w != r[4] {
			t.Errorf("LatentSize(%d, %d, %d) = %d, %d; want %d, %d", r[1], r[0], r[2], h, w, r[3], r[4])
		}
	}
	for _, r := range table.Resize {
		got, err := OutputSize(Size{r.W, r.H}, r.MaxArea)
		if want := (Size{r.OutW, r.OutH}); err != nil || got != want {
			t.Errorf("OutputSize(%d*%d, %d) = %v, %v; want %v", r.W, r.H, r.MaxArea, got, err, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, tc := range []struct {
		in    string
		want  Size
		words string
	}{
		{"1280*720", Size{1280, 720}, ""},
		{"720*1280", Size{720, 1280}, ""},
		{"832x480", Size{832, 480}, ""},
		{"832X480", Size{832, 480}, ""},
		{" 16 * 16384 ", Size{16, 16384}, ""},
		{"831x480", Size{}, "nearest is 832*480"},
		{"840*472", Size{}, "nearest is 848*480"},
		{"839*471", Size{}, "nearest is 832*464"},
		{"0*480", Size{}, "nearest is 16*480"},
		{"-5*480", Size{}, "nearest is 16*480"},
		{"16385*100000", Size{}, "nearest is 16384*16384"},
		{"99999999999*480", Size{}, "width|not a whole number|16384"},
		{"480", Size{}, "WIDTH*HEIGHT"},
		{"", Size{}, "WIDTH*HEIGHT"},
		{"x", Size{}, "width"},
		{"480*", Size{}, "height"},
		{"480*480*480", Size{}, "height"},
		{"480.5*480", Size{}, "width"},
	} {
		got, err := ParseSize(tc.in)
		wantError(t, tc.in, err, tc.words)
		if err == nil && got != tc.want {
			t.Errorf("ParseSize(%q) = %v, want %v", tc.in, got, tc.want)
		}
	}
}

func TestCheckArea(t *testing.T) {
	for area, words := range map[int]string{
		MinArea: "", 4096: "", 921600: "", MaxArea: "",
		0: "nearest is 256", -1: "nearest is 256", math.MaxInt: "nearest is 268435456",
	} {
		wantError(t, strconv.Itoa(area), CheckArea(area), words)
	}
}

var nearestArea = regexp.MustCompile(`nearest area is (\d+)$`)

// TestOutputSizeNamesTheNearestArea: the named area works, and one pixel short of it does not.
func TestOutputSizeNamesTheNearestArea(t *testing.T) {
	numNamed := 0
	for _, picture := range []Size{{1, 1}, {1000, 1}, {1, 1000}, {17, 4000}, {4000, 17}, {1024, 1}, {16000, 16}, {3000, 3}, {999, 1}, {7, 6000}} {
		for _, area := range []int{MinArea, 3072, 4096, 15360, 399360, 921600, 100_000_000, MaxArea} {
			out, err := OutputSize(picture, area)
			if err == nil {
				if h, w := LatentSize(picture.Height, picture.Width, area); out != (Size{8 * w, 8 * h}) || CheckSize(out) != nil {
					t.Errorf("OutputSize(%v, %d) = %v", picture, area, out)
				}
				continue
			}
			m := nearestArea.FindStringSubmatch(err.Error())
			if m == nil {
				t.Errorf("OutputSize(%v, %d): error %q names no area", picture, area, err)
				continue
			}
			numNamed++
			nearest, convErr := strconv.Atoi(m[1])
			if convErr != nil {
				t.Fatal(convErr)
			}
			if _, err := OutputSize(picture, nearest); err != nil {
				t.Errorf("OutputSize(%v, %d) names area %d, which fails: %v", picture, area, nearest, err)
			}
			towards := 1
			if nearest > area {
				towards = -1
			}
			if legal(outputSize(picture, nearest+towards)) {
				t.Errorf("OutputSize(%v, %d) names area %d, but %d is nearer and works", picture, area, nearest, nearest+towards)
			}
		}
	}
	if numNamed < 10 {
		t.Errorf("only %d areas were named", numNamed)
	}
}

func TestOutputSizeRefuses(t *testing.T) {
	for _, tc := range []struct {
		picture Size
		area    int
		words   string
	}{
		{Size{0, 5}, 4096, "at least 1*1"},
		{Size{5, -1}, 4096, "at least 1*1"},
		{Size{5, 5}, 0, "nearest is 256"},
		{Size{100_000, 1}, 4096, "too thin|crop"},
		{Size{math.MaxInt, 1}, MaxArea, "too thin"},
		{Size{1, math.MaxInt}, MinArea, "too thin"},
	} {
		_, err := OutputSize(tc.picture, tc.area)
		wantError(t, tc.picture.String(), err, tc.words)
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"1280*720", "1280x720", "831x480", "*", "9223372036854775807*1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		size, err := ParseSize(s)
		if err != nil {
			return
		}
		if again, err := ParseSize(size.String()); err != nil || again != size {
			t.Errorf("%q gives %v, which gives %v, %v", s, size, again, err)
		}
	})
}

func FuzzOutputSize(f *testing.F) {
	f.Add(1280, 720, 921600)
	f.Add(1, 1000, 4096)
	f.Fuzz(func(t *testing.T, width, height, area int) {
		out, err := OutputSize(Size{width, height}, area)
		if err == nil && (CheckSize(out) != nil || out.Area() > area+area/8) {
			t.Errorf("picture %d*%d, area %d: output %v", width, height, area, out)
		}
	})
}
