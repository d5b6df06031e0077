package launch

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/wanrun/wanrun/internal/output"
	wanrunv1 "github.com/wanrun/wanrun/proto/wanrun/v1"
)

// Renderer shows how far a run is. Its methods and the logger's are called from one
// goroutine.
type Renderer interface {
	Progress(rank int, p *wanrunv1.Progress)
	// Clear takes a bar off the screen; nothing is shown after it.
	Clear()
	// Log is for the launcher's own lines.
	Log() *zap.Logger
}

// Look says how a run is shown.
type Look struct {
	Format  string     // "json", "plain" or "terminal"
	Verbose bool       // log debug lines too
	Quiet   bool       // only warnings, errors and what workers print
	Width   func() int // the terminal's, in columns
}

// NewRenderer returns the renderer that writes to the console's stderr. log, which may
// be nil, gets the logger's lines of all levels as JSON, with times.
func NewRenderer(console *output.Console, look Look, log io.Writer) Renderer {
	level := zap.InfoLevel
	switch {
	case look.Quiet:
		level = zap.WarnLevel
	case look.Verbose:
		level = zap.DebugLevel
	}
	w := console.Writer()
	logger := plainLogger(w, level)
	if look.Format == "json" {
		logger = jsonLogger(w, level)
	}
	if log != nil {
		logger = zap.New(zapcore.NewTee(logger.Core(), jsonLogger(log, zap.DebugLevel).Core()))
	}
	switch look.Format {
	case "json":
		return &jsonLines{log: logger, quiet: look.Quiet}
	case "terminal":
		return &terminal{w: w, status: console.Status, log: logger, quiet: look.Quiet, width: look.Width}
	default:
		return &plain{w: w, log: logger, quiet: look.Quiet}
	}
}

func plainLogger(w io.Writer, level zapcore.Level) *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "msg", LevelKey: "level", ConsoleSeparator: " ",
		EncodeLevel: func(l zapcore.Level, out zapcore.PrimitiveArrayEncoder) {
			if l == zap.InfoLevel {
				out.AppendString("wanrun:")
			} else {
				out.AppendString("wanrun: " + l.String() + ":")
			}
		}, EncodeDuration: zapcore.StringDurationEncoder})
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(w), level))
}

func jsonLogger(w io.Writer, level zapcore.Level) *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg", LevelKey: "level", TimeKey: "time",
		EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeTime: zapcore.RFC3339NanoTimeEncoder,
		EncodeDuration: zapcore.SecondsDurationEncoder})
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(w), level))
}

// meters has one meter for each rank.
type meters map[int]*meter

func (m meters) update(rank int, p *wanrunv1.Progress) (now, ended *meter) {
	if m[rank] == nil {
		m[rank] = &meter{}
	}
	ended = m[rank].update(p)
	return m[rank], ended
}

// lead takes a message and returns rank 0's meters to show, with the most memory that
// any rank has; now is nil for the messages of other ranks, which go with rank 0.
func (m meters) lead(rank int, p *wanrunv1.Progress) (now, ended *meter) {
	now, ended = m.update(rank, p)
	if rank != 0 {
		return nil, nil
	}
	return m.widest(now), m.widest(ended)
}

func (m meters) widest(one *meter) *meter {
	if one == nil {
		return nil
	}
	wide := *one
	for _, other := range m {
		wide.device, wide.rss = max(wide.device, other.device), max(wide.rss, other.rss)
	}
	return &wide
}

// unitNames are what the phases count.
var unitNames = map[string]string{"denoise": "step", "vae_decode": "latent frame", "write": "file"}

// figures describes a meter: "5/12, 0.45 s/step, ETA 3.2 s, device 45 MiB, RSS 120 MiB".
func (m *meter) figures() string {
	var parts []string
	if m.total > 1 {
		parts = append(parts, fmt.Sprintf("%d/%d", m.done, m.total))
		if unit := unitNames[m.phase]; unit != "" && m.done > 0 {
			parts = append(parts, formatSeconds(m.perUnit())+"/"+unit)
		}
		if eta, ok := m.eta(); ok && !m.finished() {
			parts = append(parts, "ETA "+formatSeconds(eta))
		}
	}
	if m.finished() {
		parts = append(parts, "done in "+formatSeconds(m.seconds()))
	}
	if m.device > 0 {
		parts = append(parts, "device "+formatBytes(m.device))
	}
	if m.rss > 0 {
		parts = append(parts, "RSS "+formatBytes(m.rss))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
}

// line is a meter as a line of text.
func (m *meter) line() string { return fmt.Sprintf("%-13s %s", m.phase, m.figures()) }

// plain shows progress as lines: at a phase's end, and within it each few seconds.
type plain struct {
	w      io.Writer
	log    *zap.Logger
	quiet  bool
	meters meters
	phase  string  // of the last message
	shown  float64 // the worker's time at the last line of that phase, or at its start
}

// plainInterval is the time in seconds between two lines of a phase.
const plainInterval = 5

func (p *plain) Progress(rank int, m *wanrunv1.Progress) {
	if p.meters == nil {
		p.meters = meters{}
	}
	meter, ended := p.meters.lead(rank, m)
	if p.quiet || meter == nil {
		return
	}
	if ended != nil {
		fmt.Fprintln(p.w, ended.line())
	}
	if p.phase != meter.phase {
		p.phase, p.shown = meter.phase, meter.began
	}
	if meter.finished() || meter.elapsed-p.shown >= plainInterval {
		p.shown = meter.elapsed
		fmt.Fprintln(p.w, meter.line())
	}
}

func (p *plain) Clear()           {}
func (p *plain) Log() *zap.Logger { return p.log }

// jsonLines shows everything as JSON objects, one a line.
type jsonLines struct {
	log    *zap.Logger
	quiet  bool
	meters meters
}

func (j *jsonLines) Progress(rank int, m *wanrunv1.Progress) {
	if j.meters == nil {
		j.meters = meters{}
	}
	meter, _ := j.meters.update(rank, m)
	if j.quiet {
		return
	}
	fields := []zap.Field{zap.Int("rank", rank), zap.String("phase", meter.phase), zap.Int("done", meter.done),
		zap.Int("total", meter.total), zap.Float64("elapsed_seconds", meter.elapsed),
		zap.Int64("device_bytes", meter.device), zap.Int64("rss_bytes", meter.rss)}
	if eta, ok := meter.eta(); ok {
		fields = append(fields, zap.Float64("eta_seconds", eta))
	}
	j.log.Info("progress", fields...)
}

func (j *jsonLines) Clear()           {}
func (j *jsonLines) Log() *zap.Logger { return j.log }
