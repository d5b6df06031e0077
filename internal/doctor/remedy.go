package doctor

import (
	"strconv"
	"strings"
)

// lessDevice returns the command line of wanrun that needs less device memory than what
// was asked for, and what is different, the cheapest change first. What wanrun does by
// itself (weights once, in bf16 if asked for, a decode in pieces) is not a change.
func (a asked) lessDevice(phase string) (command, what string) {
	ranks := a.ranks()
	changes := a.ranksChange()
	switch {
	case ranks > 1 && (!a.on("dit-fsdp") || !a.on("t5-fsdp")):
		changes["dit-fsdp"], changes["t5-fsdp"] = "True", "True"
		return a.command(changes), "each rank keeps its share of the weights instead of all of them (--dit-fsdp --t5-fsdp)"
	case !a.ours && (phase == vaeDecode || phase == vaeEncode):
		return a.command(changes), "wanrun encodes and decodes the video in pieces, so that it needs no more memory for more frames"
	case a.values["offload"] == "" || a.values["offload"] == "dit=device":
		changes["offload"] = "dit=host"
		return a.command(changes), "the model's weights rest in host memory, and each layer comes to the device when it is used (--offload dit=host)"
	case a.values["cfg-batch"] != "False":
		changes["cfg-batch"] = "False"
		return a.command(changes), "the two branches of guidance run one after the other (--cfg-batch False)"
	default:
		return a.smaller(changes)
	}
}

// lessHost is the same for host memory.
func (a asked) lessHost() (command, what string) {
	changes := a.ranksChange()
	switch {
	case !a.ours:
		return a.command(changes), "wanrun reads weights from their files where they are needed and never keeps a copy per rank in host memory"
	case a.values["offload"] == "dit=host":
		changes["offload"] = "dit=file"
		return a.command(changes), "the model's weights stay in their files instead of host memory (--offload dit=file)"
	case a.ranks() > 1 && !a.on("dit-fsdp"):
		changes["dit-fsdp"], changes["t5-fsdp"] = "True", "True"
		return a.command(changes), "each rank keeps its share of the weights instead of all of them (--dit-fsdp --t5-fsdp)"
	case a.values["offload"] == "":
		changes["offload"] = "dit=file"
		return a.command(changes), "the model's weights stay in their files and are read when they are used (--offload dit=file)"
	default:
		return a.smaller(changes)
	}
}

// smaller makes a smaller video.
func (a asked) smaller(changes map[string]string) (command, what string) {
	const smallSize, smallFrames, lessFrames = "832*480", 49, 33
	if size := a.values["size"]; size != "832*480" && size != "480*832" {
		if changes["size"] = smallSize; size == "720*1280" {
			changes["size"] = "480*832"
		}
		changes["max-area"] = ""
		return a.command(changes), "a video of 480 lines has less than half the pixels of one of 720 (--size " + changes["size"] + ")"
	}
	frames := smallFrames
	if n := a.number("frames"); n > 0 && n <= smallFrames {
		frames = lessFrames
	}
	changes["frames"] = strconv.Itoa(frames)
	return a.command(changes), "fewer frames (--frames " + changes["frames"] + ")"
}

// ranksChange keeps the degrees of the official program, or chooses ulysses for all ranks.
func (a asked) ranksChange() map[string]string {
	changes := map[string]string{}
	if n := a.ranks(); n > 1 && !a.ours && a.number("ulysses")*max(a.number("ring"), 1) != n {
		changes["ulysses"], changes["ring"] = strconv.Itoa(n), ""
	}
	return changes
}

// heads of the model that was asked for; 0 if it is not known.
func (a asked) heads() int {
	name := a.values["task"] + " " + a.values["ckpt-dir"]
	switch {
	case strings.Contains(name, "1.3B"):
		return 12 // original config, num_heads
	case strings.Contains(name, "14B"):
		return 40
	}
	return 0
}
