package picture

// ClipInput is the picture as CLIP's visual tower gets it: resized from its
// original size straight to size x size, aspect ignored, brought to [0, 1]
// (overshoot kept) and normalised. Result [size, size, 3].
func ClipInput(p Planes, size int, mean, std [3]float32) []float32 {
	out := BicubicHWC(p, size, size)
	for i, x := range out {
		ch := i % 3
		x = float32(x*0.5) + 0.5
		out[i] = (x - mean[ch]) / std[ch]
	}
	return out
}
