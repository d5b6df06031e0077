package media

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/wanrun/wanrun/internal/media/ffmpegtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(deathTestEnv) != "" {
		writeUntilKilled()
	}
	goleak.VerifyTestMain(m)
}

// TestPlayersAgree holds what ffprobe says of both encoders' files.
func TestPlayersAgree(t *testing.T) {
	ffmpeg, ffprobe := ffmpegtest.Need(t, "ffmpeg"), ffmpegtest.Need(t, "ffprobe")
	for _, encoder := range []string{EncoderBuiltin, EncoderFFmpeg} {
		t.Run(encoder, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "v.mp4")
			opt := options(20, encoder)
			w := mustCreate(t, path, opt)
			if w.Encoder() != encoder {
				t.Errorf("Encoder() = %q", w.Encoder())
			}
			writeAll(t, w, opt)

			out, err := ffmpegtest.Run(ffmpeg, nil, "-i", path, "-f", "null", "-")
			if err != nil {
				t.Errorf("decode: %v (%s)", err, out)
			}
			out, err = ffmpegtest.Run(ffprobe, nil, "-of", "json", "-show_streams", "-show_format", "-count_frames", path)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Streams []map[string]any
				Format  struct {
					Duration string
					Tags     map[string]string
				}
			}
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			if len(got.Streams) != 1 {
				t.Fatalf("%d streams, want one", len(got.Streams))
			}
			want := map[string]any{
				"codec_name": "h264", "width": 64., "height": 48., "pix_fmt": "yuv420p", "r_frame_rate": "8/1", "avg_frame_rate": "8/1",
				"nb_read_frames": "20", "nb_frames": "20", "duration": "2.500000", "color_range": "tv", "color_space": "smpte170m",
				"color_primaries": "bt709", "color_transfer": "iec61966-2-1", "start_time": "0.000000",
			}
			have := map[string]any{}
			for k := range want {
				have[k] = got.Streams[0][k]
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("stream (-want +got):\n%s", diff)
			}
			if got.Format.Duration != "2.500000" || got.Format.Tags["comment"] != settings {
				t.Errorf("duration %s, comment %q", got.Format.Duration, got.Format.Tags["comment"])
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if moov, mdat := bytes.Index(data, []byte("moov")), bytes.Index(data, []byte("mdat")); moov > mdat {
				t.Error("moov comes after mdat: a browser has to read all before it can start")
			}
		})
	}
}

// TestOfficialSettings shows that the ffmpeg encoder's pictures are those of
// the official writer's command line (imageio, libx264, quality 8), sample for
// sample.
func TestOfficialSettings(t *testing.T) {
	ffmpeg := ffmpegtest.Need(t, "ffmpeg")
	dir := t.TempDir()
	opt := options(20, EncoderFFmpeg)
	ours, official := filepath.Join(dir, "ours.mp4"), filepath.Join(dir, "official.mp4")
	writeAll(t, mustCreate(t, ours, opt), opt)
	var raw []byte
	for i := range opt.NumFrames {
		raw = append(raw, frame(opt.W, opt.H, i)...)
	}
	if _, err := ffmpegtest.Run(ffmpeg, raw, "-y", "-f", "rawvideo", "-vcodec", "rawvideo", "-s", "64x48", "-pix_fmt", "rgb24", "-r", "8.00",
		"-i", "-", "-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-crf", "10", official); err != nil {
		t.Fatal(err)
	}
	var decoded [2][]byte
	for i, path := range []string{ours, official} {
		var err error
		if decoded[i], err = ffmpegtest.Run(ffmpeg, nil, "-i", path, "-f", "rawvideo", "-"); err != nil {
			t.Fatal(err)
		}
	}
	if len(decoded[0]) != 20*64*48*3/2 || !bytes.Equal(decoded[0], decoded[1]) {
		t.Errorf("decoded pictures differ (%d and %d bytes)", len(decoded[0]), len(decoded[1]))
	}
}

// fakeFFmpeg is a shell script in the place of ffmpeg. The trial run has no
// "pipe:3" among its arguments, the real one has.
func fakeFFmpeg(t *testing.T, trial, real string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ffmpeg")
	script := "#!/bin/sh\ncase \"$*\" in *pipe:3*) " + real + ";; *) " + trial + ";; esac\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

const trialWorks = "cat > /dev/null; exit 0"

func TestBrokenFFmpegIsFoundBeforehand(t *testing.T) {
	dir := t.TempDir()
	opt := options(1, EncoderFFmpeg)
	opt.FFmpeg = fakeFFmpeg(t, "echo Starting >&2; echo \"Unknown encoder 'libx264'\" >&2; exit 1", "exit 0")
	if _, err := Create(filepath.Join(dir, "v.mp4"), opt); !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), `exit status 1: "Unknown encoder 'libx264'"`) {
		t.Errorf("Create gives %v, want ffmpeg's last line", err)
	}
	wantNames(t, dir)

	opt.Encoder = EncoderAuto
	w := mustCreate(t, filepath.Join(dir, "v.mp4"), opt)
	if w.Encoder() != EncoderBuiltin {
		t.Errorf("auto chose %q, want builtin", w.Encoder())
	}
	writeAll(t, w, opt)
}

func TestAutoPrefersFFmpeg(t *testing.T) {
	ffmpegtest.Need(t, "ffmpeg")
	if w := mustCreate(t, filepath.Join(t.TempDir(), "v.mp4"), options(1, "")); w.Encoder() != EncoderFFmpeg {
		t.Errorf("auto chose %q", w.Encoder())
	}
}

func TestFFmpegFailsLater(t *testing.T) {
	for _, tc := range []struct{ name, script, want string }{
		{"at once", "echo one >&2; printf 'No space left on device\\n\\n' >&2; exit 1", `exit status 1: "No space left on device"`},
		{"at the end", "cat > /dev/null; echo tail >&2; exit 3", `exit status 3: "tail"`},
		{"in silence", "cat > /dev/null; exit 7", "exit status 7, and printed nothing"},
		{"by a signal", "kill -9 $$", "signal: killed"},
		{"without a file", "cat > /dev/null; exit 0", "empty file"},
		{"with escapes", "cat > /dev/null; printf '\\033[31mred\\n' >&2; exit 1", `\x1b[31mred`},
		{"with much to say", "cat > /dev/null; yes 0123456789 | head -c 1000000 >&2; echo >&2; echo last >&2; exit 1", `"last"`},
		{"early, well", "exit 0", "ended early"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			opt := options(30, EncoderFFmpeg)
			opt.FFmpeg = fakeFFmpeg(t, trialWorks, tc.script)
			w := mustCreate(t, filepath.Join(dir, "v.mp4"), opt)
			var err error
			for i := 0; i < opt.NumFrames && err == nil; i++ {
				err = w.WriteFrame(frame(opt.W, opt.H, i))
			}
			if err == nil {
				err = w.Close()
			}
			if !errors.Is(err, ErrOutput) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want ErrOutput with %q", err, tc.want)
			}
			w.Abort()
			wantNames(t, dir)
		})
	}
}

func TestAbortEndsAHangingFFmpeg(t *testing.T) {
	for _, inClose := range []bool{false, true} {
		dir := t.TempDir()
		opt := options(2, EncoderFFmpeg)
		opt.W, opt.H = 512, 512 // more than a pipe holds
		script := "exec sleep 100"
		if inClose {
			script = "cat > /dev/null; exec sleep 100"
		}
		opt.FFmpeg = fakeFFmpeg(t, trialWorks, script)
		w := mustCreate(t, filepath.Join(dir, "v.mp4"), opt)
		result := make(chan error)
		go func() {
			err := w.WriteFrame(frame(opt.W, opt.H, 0))
			if err == nil {
				err = w.WriteFrame(frame(opt.W, opt.H, 1))
			}
			if err == nil {
				err = w.Close()
			}
			result <- err
		}()
		select {
		case err := <-result:
			t.Fatalf("in Close %v: ended by itself: %v", inClose, err)
		case <-time.After(200 * time.Millisecond):
		}
		w.Abort()
		if err := <-result; !errors.Is(err, ErrOutput) {
			t.Errorf("in Close %v: the blocked call gives %v", inClose, err)
		}
		wantNames(t, dir)
	}
}

func TestTailIsBounded(t *testing.T) {
	var log tail
	for range 100 {
		log.Write(bytes.Repeat([]byte("x"), 3000))
	}
	log.Write([]byte("\nlast\n"))
	if len(log.buf) != maxTail || log.lastLine() != "last" {
		t.Errorf("%d bytes kept, last line %q", len(log.buf), log.lastLine())
	}
	log.Write(bytes.Repeat([]byte("y"), 3*maxTail))
	if len(log.buf) != maxTail {
		t.Errorf("%d bytes kept, want %d", len(log.buf), maxTail)
	}
}
