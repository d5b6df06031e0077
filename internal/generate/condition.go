package generate

// maskI2V returns the mask channels [4, T, h, w] that tell the DiT which frames
// are given: the first, and for flf2v the last too. The mask of F frames repeats
// the first four times and is regrouped by four, so latent frame 0 has all four
// channels set, and the last picture only channel 3 of the last latent frame.
// Source: Wan2.1 image2video.py and first_last_frame2video.py, generate.
func maskI2V(frames, h, w int, last bool) []float32 {
	t := (frames-1)/4 + 1
	mask := make([]float32, 4*t*h*w)
	set := func(c, ti int) {
		plane := mask[(c*t+ti)*h*w:][:h*w]
		for i := range plane {
			plane[i] = 1
		}
	}
	for c := range 4 {
		set(c, 0)
	}
	if last {
		set(3, t-1)
	}
	return mask
}
