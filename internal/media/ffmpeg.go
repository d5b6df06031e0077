package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// chooseEncoder returns the ffmpeg program to use, or "" for the builtin
// encoder.
func chooseEncoder(opt Options) (program string, err error) {
	switch opt.Encoder {
	case EncoderBuiltin:
		return "", nil
	case EncoderAuto, "", EncoderFFmpeg:
	default:
		return "", fmt.Errorf("encoder %q is not known, expected auto, ffmpeg or builtin", opt.Encoder)
	}
	program, err = findFFmpeg(opt.FFmpeg)
	if err == nil {
		err = probe(program)
	}
	if err == nil {
		return program, nil
	}
	if opt.Encoder == EncoderFFmpeg {
		return "", fmt.Errorf("%w; the builtin encoder needs no ffmpeg", err)
	}
	return "", nil
}

func findFFmpeg(program string) (string, error) {
	if program == "" {
		program = "ffmpeg"
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("ffmpeg cannot be started: %w", err)
	}
	return path, nil
}

// codecArgs are what the official writer asks for: imageio with libx264 and
// quality 8, which is crf 10. The colour description is added to it; it changes
// no sample, and players need not guess.
var codecArgs = []string{
	"-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "10",
	"-color_primaries", "bt709", "-color_trc", "iec61966-2-1", "-colorspace", "smpte170m", "-color_range", "tv",
}

// rawInput describes the frames that come through standard input. The official
// writer scales sizes that are not multiples of 16 up; here they stay what they are.
func rawInput(w, h, fps int) []string {
	return []string{"-f", "rawvideo", "-pix_fmt", "rgb24", "-s", fmt.Sprintf("%dx%d", w, h), "-r", fmt.Sprint(fps), "-i", "pipe:0"}
}

// commonArgs keep ffmpeg from asking questions and printing its banner.
var commonArgs = []string{"-hide_banner", "-nostdin", "-nostats", "-v", "warning", "-y"}

// probeTimeout bounds the trial run, which takes about 0.1 s.
const probeTimeout = 20 * time.Second

// probe encodes one grey frame with the settings of the real run and throws it
// away: whether this ffmpeg works is known before anything is computed.
func probe(program string) error {
	const side = 64
	args := append(append([]string{}, commonArgs...), rawInput(side, side, 16)...)
	args = append(append(args, codecArgs...), "-f", "null", "-")
	p, err := startProcess(program, args, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, p.kill)
	defer stop()
	_, writeErr := p.stdin.Write(make([]byte, 3*side*side))
	err = p.finish()
	if ctx.Err() != nil {
		return fmt.Errorf("%s did not encode a trial frame within %v", program, probeTimeout)
	}
	if err == nil {
		err = writeErr
	}
	return err
}

// ffmpegEncoder pipes frames to ffmpeg, which writes the temporary file.
type ffmpegEncoder struct {
	program string
	args    []string
	meta    []byte

	mu     sync.Mutex
	proc   *process // started with the first frame
	killed bool
}

func newFFmpegEncoder(program string, t *target, opt Options) *ffmpegEncoder {
	// The settings go through a pipe of their own: an argument has a limit and
	// is seen by every user of the machine. They come first, because ffmpeg opens its
	// inputs in order and would wait for a frame.
	args := append(append([]string{}, commonArgs...), "-f", "ffmetadata", "-i", "pipe:3")
	args = append(args, rawInput(opt.W, opt.H, opt.FPS)...)
	args = append(args, "-map", "1:v:0", "-map_metadata", "0")
	args = append(args, codecArgs...)
	// The file: protocol takes any name literally.
	args = append(args, "-movflags", "+faststart", "-f", "mp4", "file:"+t.temp)
	return &ffmpegEncoder{program: program, args: args, meta: ffmetadata(opt.Metadata)}
}

// ffmetadata is the text form of ffmpeg's metadata, special characters escaped.
func ffmetadata(comment []byte) []byte {
	escape := strings.NewReplacer("\\", "\\\\", "=", "\\=", ";", "\\;", "#", "\\#", "\n", "\\\n")
	text := ";FFMETADATA1\n"
	if len(comment) > 0 {
		text += "comment=" + escape.Replace(string(comment)) + "\n"
	}
	return []byte(text)
}

func (e *ffmpegEncoder) writeFrame(rgb []byte) error {
	p, err := e.process()
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(rgb); err != nil {
		return p.failure(err)
	}
	return nil
}

func (e *ffmpegEncoder) process() (*process, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.killed {
		return nil, errors.New("ffmpeg was ended")
	}
	if e.proc == nil {
		p, err := startProcess(e.program, e.args, e.meta)
		if err != nil {
			return nil, err
		}
		e.proc = p
	}
	return e.proc, nil
}

func (e *ffmpegEncoder) finish() error {
	p, err := e.process()
	if err != nil {
		return err
	}
	return p.finish()
}

func (e *ffmpegEncoder) kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.killed = true
	if e.proc != nil {
		e.proc.kill()
		<-e.proc.done
	}
}

// process is a running ffmpeg.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	log   tail
	done  chan struct{} // closed when it is gone and err is set
	err   error
}

// startProcess starts program; extra, if not nil, is what it reads from file
// descriptor 3. The child dies with this process.
func startProcess(program string, args []string, extra []byte) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Stderr = &p.log
	p.cmd.WaitDelay = time.Second // for pipes that a grandchild holds open
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	var feed *os.File
	if extra != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		defer r.Close()
		p.cmd.ExtraFiles, feed = []*os.File{r}, w
	}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		if feed != nil {
			feed.Close()
		}
		return nil, fmt.Errorf("ffmpeg cannot be started: %w", err)
	}
	if feed != nil {
		// Ends with the child at the latest: then nobody can read any more.
		go func() {
			_, _ = feed.Write(extra)
			feed.Close()
		}()
	}
	return p, nil
}

// finish closes the input and waits for the end.
func (p *process) finish() error {
	p.stdin.Close()
	<-p.done
	if p.err != nil {
		return p.describe()
	}
	return nil
}

// failure explains a failed write: the process is ending or hangs.
func (p *process) failure(write error) error {
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.kill()
		<-p.done
	}
	if p.err == nil {
		return fmt.Errorf("ffmpeg ended early: %w", write)
	}
	return p.describe()
}

func (p *process) describe() error {
	last := p.log.lastLine()
	if last == "" {
		return fmt.Errorf("%s: %w, and printed nothing", p.cmd.Path, p.err)
	}
	return fmt.Errorf("%s: %w: %q", p.cmd.Path, p.err, last)
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// maxTail bounds what is kept of ffmpeg's messages, in bytes.
const maxTail = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[max(0, len(p)-maxTail):]...)
	if over := len(t.buf) - maxTail; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) lastLine() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.buf)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
