// Package task knows what the official tasks are: their names, what they take,
// their defaults, and which frame numbers, sizes and settings are legal. It
// only computes; where a value comes from is its caller's business.
//
// Every error about a number names the nearest legal one.
package task

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrOtherModel marks a checkpoint that does another task than was asked for.
var ErrOtherModel = errors.New("wrong checkpoint")

// Name is a task by its official name.
type Name string

// The official tasks.
const (
	I2V14B   Name = "i2v-14B"
	T2V14B   Name = "t2v-14B"
	T2V13B   Name = "t2v-1.3B"
	T2I14B   Name = "t2i-14B"
	FLF2V14B Name = "flf2v-14B"
)

// Names lists the tasks.
func Names() []Name { return []Name{I2V14B, T2V14B, T2V13B, T2I14B, FLF2V14B} }

// Parse accepts an official name, in any letter case. The error lists them.
func Parse(s string) (Name, error) {
	for _, n := range Names() {
		if strings.EqualFold(s, string(n)) {
			return n, nil
		}
	}
	names := make([]string, 0, len(Names()))
	for _, n := range Names() {
		names = append(names, string(n))
	}
	return "", fmt.Errorf("unknown task %q; known: %s", s, strings.Join(names, ", "))
}

// The kinds of input that a task can have.
const (
	KindI2V   = "i2v"   // a picture, which is the first frame
	KindT2V   = "t2v"   // text alone
	KindT2I   = "t2i"   // text alone, to one picture
	KindFLF2V = "flf2v" // a first and a last picture
)

// Kind is the task without its model size.
func (n Name) Kind() string {
	kind, _, _ := strings.Cut(string(n), "-")
	return kind
}

// ModelType is the model_type that a checkpoint's config.json has for this task.
func (n Name) ModelType() string {
	if n.Kind() == KindT2I {
		return KindT2V
	}
	return n.Kind()
}

// FollowsPicture says that the output has the aspect of the first picture,
// and a size only as an area.
func (n Name) FollowsPicture() bool { return n.Kind() == KindI2V || n.Kind() == KindFLF2V }

// small is the model dim of the 1.3B checkpoint; that of the 14B ones is 5120.
const small = 1536 // original config, wan_t2v_1_3B

// WithDim tells the text tasks' two model sizes apart by the dim in a checkpoint's
// config.json. Other names come back as they are.
func (n Name) WithDim(dim int) Name {
	switch {
	case n == T2V14B && dim == small:
		return T2V13B
	default:
		return n
	}
}

// Infer says which task the inputs ask for: flf2v for two frames, i2v for an image,
// t2i for a single frame without either, t2v otherwise. modelType is the
// checkpoint's model_type, "" if it is not known; a checkpoint that does another task is an error.
func Infer(hasImage, hasFirst, hasLast bool, frameNum int, modelType string) (Name, error) {
	n := T2V14B
	switch {
	case hasFirst || hasLast:
		n = FLF2V14B
	case hasImage:
		n = I2V14B
	case modelType == KindI2V:
		n = I2V14B // whose missing image is then said
	case modelType == KindFLF2V:
		n = FLF2V14B
	case frameNum == 1:
		n = T2I14B
	}
	return n, n.CheckInputs(hasImage, hasFirst, hasLast, modelType)
}

// CheckInputs says in words what is missing for the task, what it does not take, or
// that the checkpoint is of another. modelType is as in Infer.
func (n Name) CheckInputs(hasImage, hasFirst, hasLast bool, modelType string) error {
	if modelType != "" && modelType != n.ModelType() {
		if !slices.Contains([]string{KindI2V, KindT2V, KindFLF2V}, modelType) {
			return fmt.Errorf("a checkpoint of model type %q cannot be run; those of i2v, t2v and flf2v can", modelType)
		}
		return fmt.Errorf("%w: this is a %s checkpoint, you asked for %s; %s",
			ErrOtherModel, modelType, n.Kind(), remedy[modelType])
	}
	hasFrames := hasFirst || hasLast
	switch n.Kind() {
	case KindI2V:
		if hasFrames {
			return fmt.Errorf("%s takes --image, not --first-frame and --last-frame", n)
		}
		if !hasImage {
			return fmt.Errorf("%s needs a picture: --image FILE", n)
		}
	case KindFLF2V:
		if hasImage {
			return fmt.Errorf("%s takes --first-frame and --last-frame, not --image", n)
		}
		if !hasFirst || !hasLast {
			missing := "--last-frame"
			if !hasFirst {
				missing = "--first-frame"
			}
			return fmt.Errorf("%s needs two pictures, --first-frame FILE and --last-frame FILE; %s is missing", n, missing)
		}
	default:
		if hasImage || hasFrames {
			return fmt.Errorf("%s takes no picture; leave --image, --first-frame and --last-frame out, or use --task %s or %s", n, I2V14B, FLF2V14B)
		}
	}
	return nil
}

// remedy is what to do with a checkpoint that was not meant, by model type.
var remedy = map[string]string{
	KindT2V:   "leave the pictures out, or give another checkpoint with --ckpt-dir",
	KindI2V:   "give one picture with --image, or another checkpoint with --ckpt-dir",
	KindFLF2V: "give --first-frame and --last-frame, or another checkpoint with --ckpt-dir",
}
