package task

import "fmt"

const (
	frameStride = 4 // frames of a latent frame, after the first; original config, vae_stride
	// MaxFrames is where the position table of the official model ends: 1024 latent frames.
	MaxFrames = 1023*frameStride + 1
)

// CheckFrames accepts 4n+1 frames from 1 to MaxFrames. The error names the nearest legal numbers.
func CheckFrames(frames int) error {
	if frames < 1 || frames > MaxFrames {
		return fmt.Errorf("frame number is %d, want 4n+1 from 1 to %d; nearest is %d", frames, MaxFrames, min(max(frames, 1), MaxFrames))
	}
	if below := (frames-1)/frameStride*frameStride + 1; below != frames {
		return fmt.Errorf("frame number is %d, want 4n+1; nearest are %d and %d", frames, below, below+frameStride)
	}
	return nil
}

// CheckFrames is the function of that name, and for a task that makes a
// picture accepts 1 alone.
func (n Name) CheckFrames(frames int) error {
	if n.Kind() == KindT2I && frames != 1 {
		return fmt.Errorf("frame number is %d, but %s makes one picture; nearest is 1", frames, n)
	}
	return CheckFrames(frames)
}

// LatentFrames is how many latent frames a legal number of frames has.
func LatentFrames(frames int) int { return (frames-1)/frameStride + 1 }
