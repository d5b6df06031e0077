package task

// Defaults are settings, each of which may be missing (nil): those of a
// checkpoint lie over those of the task, which has all of them.
type Defaults struct {
	Size           *Size    // of the output; for tasks that follow a picture, only its area counts
	MaxArea        *int     // pixels of the output, for tasks that follow a picture
	FrameNum       *int     // 4n+1
	Steps          *int     // denoising steps
	Shift          *float64 // of the noise schedule
	GuideScale     *float64 // classifier-free guidance
	Solver         *string  // one of Solvers
	FPS            *int     // frames a second of the video
	NegativePrompt *string  // also stands in for an empty one that a user gives
}

// Over returns d with what it lacks taken from below.
func (d Defaults) Over(below Defaults) Defaults {
	return Defaults{
		Size:           over(d.Size, below.Size),
		MaxArea:        over(d.MaxArea, below.MaxArea),
		FrameNum:       over(d.FrameNum, below.FrameNum),
		Steps:          over(d.Steps, below.Steps),
		Shift:          over(d.Shift, below.Shift),
		GuideScale:     over(d.GuideScale, below.GuideScale),
		Solver:         over(d.Solver, below.Solver),
		FPS:            over(d.FPS, below.FPS),
		NegativePrompt: over(d.NegativePrompt, below.NegativePrompt),
	}
}

func over[T any](above, below *T) *T {
	if above != nil {
		return above
	}
	return below
}

// The shared negative prompt of the official configuration, and what i2v and
// flf2v put before it.
const (
	sharedNegative = "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，" +
		"丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，" +
		"杂乱的背景，三条腿，背景人很多，倒着走"
	i2vNegative   = "镜头晃动，" + sharedNegative // the camera shakes
	flf2vNegative = "镜头切换，" + i2vNegative    // the shot changes
)

// NegativePrompt is the task's official negative prompt. The official code also
// uses it where the user's is empty: there is no run without one.
func (n Name) NegativePrompt() string {
	switch n.Kind() {
	case KindI2V:
		return i2vNegative
	case KindFLF2V:
		return flf2vNegative
	default:
		return sharedNegative
	}
}

// Sizes are those that the official code allows for the task. Here any legal size is
// allowed; these are what the models were trained on.
func (n Name) Sizes() []Size {
	hd := []Size{{720, 1280}, {1280, 720}}
	sd := []Size{{480, 832}, {832, 480}}
	switch n {
	case T2V13B:
		return sd
	case T2I14B:
		return append(append(hd, sd...), Size{1024, 1024})
	default:
		return append(hd, sd...)
	}
}

// DefaultSize is the official command line's default. t2v-1.3B refuses that one
// there, so that it has the size of its official example.
func (n Name) DefaultSize() Size {
	if n == T2V13B {
		return Size{832, 480}
	}
	return Size{1280, 720}
}

// area480p is the area up to which i2v has the lower shift: that of the official 480p sizes.
const area480p = 832 * 480

// DefaultShift is the official shift for an output area: for i2v lower at
// 480p. The official code knows that by the size's name; areas without a name go with the
// nearest below.
func (n Name) DefaultShift(area int) float64 {
	switch {
	case n.Kind() == KindFLF2V:
		return 16
	case n.Kind() == KindI2V && area <= area480p:
		return 3
	default:
		return 5
	}
}

// Official returns the task's official defaults, none of them missing. area is
// that of the output, on which the shift depends; 0 is the task's default.
func Official(n Name, area int) Defaults {
	size := n.DefaultSize()
	maxArea := size.Area()
	if area == 0 {
		area = maxArea
	}
	steps, frames, fps := 50, 81, 16
	if n.Kind() == KindI2V { // and not flf2v
		steps = 40
	}
	if n.Kind() == KindT2I {
		frames = 1
	}
	shift, guide := n.DefaultShift(area), 5.0
	solver, negative := Solvers()[0], n.NegativePrompt()
	return Defaults{&size, &maxArea, &frames, &steps, &shift, &guide, &solver, &fps, &negative}
}
