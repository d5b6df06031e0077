// Package control is the channel between the launcher and its workers: gRPC over
// a Unix socket that only its user can open. The launcher serves; each worker
// attaches once, for its whole life, over one stream: hello, job, progress,
// report. A broken stream ends the other side: no worker outlives its launcher,
// and the launcher knows at once that a worker is gone.
package control

import "time"

// maxMessage bounds a control message: a job with a prompt of 1 MB fits.
const maxMessage = 4 << 20

// helloTimeout is how long a peer that connected may take to say hello.
const helloTimeout = 10 * time.Second
