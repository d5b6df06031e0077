package h264

import "testing"

// BenchmarkEncode codes 832x480, the usual size of a video, at the default
// quality. It reports bytes a picture, the first one included.
//
//	go test -run '^$' -bench Encode ./internal/media/h264
func BenchmarkEncode(b *testing.B) {
	const w, h, numFrames = 832, 480, 12
	for _, bc := range []struct {
		name         string
		key, threads int
	}{{"motion", 0, 1}, {"motion-2-threads", 0, 2}, {"intra", 1, 1}} {
		b.Run(bc.name, func(b *testing.B) {
			var frames [numFrames][]byte
			for i := range frames {
				frames[i] = smoothClip(w, h, i)
			}
			e, err := NewEncoder(Config{Width: w, Height: h, FPS: 16, KeyInterval: bc.key, Threads: bc.threads})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(3 * w * h)
			b.ReportAllocs()
			size, n := 0, 0
			for b.Loop() {
				// There and back, so that motion has no jumps.
				i := n % (2*numFrames - 2)
				sample, _, err := e.Encode(frames[min(i, 2*numFrames-2-i)])
				if err != nil {
					b.Fatal(err)
				}
				size += len(sample)
				n++
			}
			b.ReportMetric(float64(size)/float64(n), "B/frame")
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "frames/s")
		})
	}
}
