package agents

import (
	"sync/atomic"
	"time"
)

// vigil notices that the other side is silent.
type vigil struct {
	began time.Time
	heard atomic.Int64 // the last message, since began
	waits atomic.Bool  // somebody is reading; what comes while nobody does is heard later
}

func newVigil() *vigil { return &vigil{began: time.Now()} }

// listen notes that somebody waits for the next message.
func (v *vigil) listen() {
	v.heard.Store(int64(time.Since(v.began)))
	v.waits.Store(true)
}

// hear notes that it came.
func (v *vigil) hear() {
	v.waits.Store(false)
	v.heard.Store(int64(time.Since(v.began)))
}

// watch calls dead once if nothing was heard for t.lost, and returns then or when stop is
// closed. Time in which this process itself was held up, so that what had come could not
// be read, does not count.
func (v *vigil) watch(stop <-chan struct{}, t timing, dead func(silence time.Duration)) {
	tick := time.NewTicker(t.pulse / 2)
	defer tick.Stop()
	last := time.Since(v.began)
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		now := time.Since(v.began)
		if late := now - last - t.pulse/2; late > t.pulse {
			v.heard.Add(int64(late))
		}
		last = now
		if silence := now - time.Duration(v.heard.Load()); silence > t.lost && v.waits.Load() {
			dead(silence)
			return
		}
	}
}
