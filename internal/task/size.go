package task

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is that of a picture, in pixels.
type Size struct{ Width, Height int }

// String writes a size as the official command line does.
func (s Size) String() string { return fmt.Sprintf("%d*%d", s.Width, s.Height) }

// Area is the number of pixels.
func (s Size) Area() int { return s.Width * s.Height }

const (
	vaeStride = 8             // pixels of a latent row or column; original config, vae_stride
	sideUnit  = 2 * vaeStride // pixels of a token: patches are 2 x 2 latents
	// MaxSide is where the position table of the official model ends: 1024 tokens.
	MaxSide = 1024 * sideUnit
	// MinArea and MaxArea bound what CheckArea accepts.
	MinArea = sideUnit * sideUnit
	MaxArea = MaxSide * MaxSide
)

// ParseSize reads "1280*720" or "1280x720", width first. Sides are multiples
// of 16 up to MaxSide; the error names the nearest size that is.
func ParseSize(s string) (Size, error) {
	i := strings.IndexAny(s, "*xX")
	if i < 0 {
		return Size{}, fmt.Errorf("size %q is not WIDTH*HEIGHT, as in 1280*720", s)
	}
	width, err := parseSide(s[:i])
	if err != nil {
		return Size{}, fmt.Errorf("width in size %q: %w", s, err)
	}
	height, err := parseSide(s[i+1:])
	if err != nil {
		return Size{}, fmt.Errorf("height in size %q: %w", s, err)
	}
	size := Size{width, height}
	return size, CheckSize(size)
}

func parseSide(s string) (int, error) {
	side, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number from %d to %d, as in 1280*720", s, sideUnit, MaxSide)
	}
	return int(side), nil
}

// CheckSize accepts sides that are multiples of 16, from 16 to MaxSide.
func CheckSize(s Size) error {
	if nearest := (Size{nearestSide(s.Width), nearestSide(s.Height)}); nearest != s {
		return fmt.Errorf("size is %v, want sides that are multiples of %d, from %d to %d; nearest is %v",
			s, sideUnit, sideUnit, MaxSide, nearest)
	}
	return nil
}

func nearestSide(side int) int {
	side = min(max(side, sideUnit), MaxSide)
	return (side + sideUnit/2) / sideUnit * sideUnit
}

// CheckArea accepts what --max-area may be.
func CheckArea(area int) error {
	if nearest := min(max(area, MinArea), MaxArea); nearest != area {
		return fmt.Errorf("area is %d pixels, want %d to %d; nearest is %d", area, MinArea, MaxArea, nearest)
	}
	return nil
}

// LatentSize is the latent height and width for a first picture of height x width pixels: of
// its aspect, at most maxArea pixels and both even, so that whole tokens cover
// it. Thin pictures can come out as 0; OutputSize says what to do then.
//
// It is the official arithmetic in float64, cut down twice: to whole
// latents and to whole patches.
func LatentSize(height, width, maxArea int) (latentHeight, latentWidth int) {
	aspect := float64(height) / float64(width)
	cut := func(side float64) int {
		return int(math.Floor(math.Floor(side/vaeStride)/2) * 2)
	}
	return cut(math.Sqrt(float64(maxArea) * aspect)), cut(math.Sqrt(float64(maxArea) / aspect))
}

// OutputSize is the size of a video that follows a picture of the given size. The
// error, for a picture so thin that a side would be empty or too long, names
// the nearest area that works or says that none does.
func OutputSize(picture Size, maxArea int) (Size, error) {
	if picture.Width < 1 || picture.Height < 1 {
		return Size{}, fmt.Errorf("picture is %v pixels, want at least 1*1", picture)
	}
	if err := CheckArea(maxArea); err != nil {
		return Size{}, err
	}
	out := outputSize(picture, maxArea)
	if legal(out) {
		return out, nil
	}
	// Both sides grow with the area: aim at the shortest short side or the
	// longest long one, and step over what rounding leaves.
	long, short := float64(max(picture.Width, picture.Height)), float64(min(picture.Width, picture.Height))
	nearest, step := int(min(MaxArea, math.Ceil(sideUnit*sideUnit*long/short))), 1
	if max(out.Width, out.Height) > MaxSide {
		nearest, step = int(min(MaxArea, (MaxSide+sideUnit)*(MaxSide+sideUnit)*short/long)), -1
	}
	for range 64 {
		if nearest >= MinArea && nearest <= MaxArea && legal(outputSize(picture, nearest)) {
			return Size{}, fmt.Errorf("a picture of %v pixels gives a video of %v at an area of %d; nearest area is %d",
				picture, out, maxArea, nearest)
		}
		nearest += step
	}
	return Size{}, fmt.Errorf("a picture of %v pixels is too thin for a video at any area; crop it to at most %d times as long as wide",
		picture, MaxSide/sideUnit)
}

func outputSize(picture Size, maxArea int) Size {
	h, w := LatentSize(picture.Height, picture.Width, maxArea)
	return Size{w * vaeStride, h * vaeStride}
}

func legal(s Size) bool { return CheckSize(s) == nil }
