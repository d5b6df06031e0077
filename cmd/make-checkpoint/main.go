// Command make-checkpoint writes a checkpoint of random weights in the official Wan2.1
// layout, of an official size or a smaller one: for trying how much memory and time a
// model of that size takes. The videos that it makes are noise.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/synthetic"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func main() { os.Exit(int(run(os.Args[1:]))) }

func run(args []string) ends.Code {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, o, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return ends.Done
	case err != nil:
		fmt.Fprintln(os.Stderr, "make-checkpoint:", err)
		return ends.Usage
	}
	total := o.Bytes()
	if !o.Sparse {
		if err := room(dir, total); err != nil {
			fmt.Fprintln(os.Stderr, "make-checkpoint:", err)
			return ends.OutputLost
		}
	}
	done, shown := int64(0), int64(0)
	o.Progress = func(n int64) {
		if done += n; done-shown >= 1<<30 {
			shown = done
			fmt.Fprintf(os.Stderr, "%d of %d MiB\n", done>>20, total>>20)
		}
	}
	if err := synthetic.Write(ctx, dir, o); err != nil {
		fmt.Fprintln(os.Stderr, "make-checkpoint:", err)
		return ends.OutputLost
	}
	fmt.Printf("%s: %d MiB of weights\n", dir, total>>20)
	return ends.Done
}

var dtypes = map[string]tensor.DType{"fp32": tensor.F32, "bf16": tensor.BF16, "fp16": tensor.F16}

// parse reads the flags, of which all sizes default to those of the task.
func parse(args []string) (dir string, o synthetic.Options, err error) {
	f := flag.NewFlagSet("make-checkpoint", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "make-checkpoint [FLAGS] DIR writes random weights in the official layout.\n")
		f.PrintDefaults()
	}
	task := f.String("task", "t2v-1.3B", "the model: "+strings.Join(synthetic.Tasks, ", "))
	dtype := f.String("dtype", "fp32", "of the DiT's file: fp32, bf16 or fp16")
	tokenizer := f.String("tokenizer", "", "folder of tokenizer files; the demo model's if not given")
	f.BoolVar(&o.Sparse, "sparse", false, "zeros that take no room on disk in place of random matrices")
	f.Uint64Var(&o.Seed, "seed", 1, "of the weights")
	f.Int64Var(&o.Shard, "shard-bytes", 0, "the most bytes of a file of the DiT; 0 makes one file")
	sizes := map[string]*int{}
	for _, s := range []struct{ name, what string }{
		{"layers", "blocks of the DiT"}, {"dim", "width of the DiT"}, {"ffn-dim", "of the DiT"}, {"heads", "of the DiT"},
		{"t5-layers", "blocks of T5"}, {"t5-dim", "width of T5"}, {"t5-ffn-dim", "of T5"}, {"t5-heads", "of T5"}, {"t5-vocab", "tokens of T5"},
		{"vae-dim", "channels of the VAE's first stage"},
		{"clip-layers", "blocks of CLIP"}, {"clip-dim", "width of CLIP"}, {"clip-heads", "of CLIP"},
	} {
		sizes[s.name] = f.Int(s.name, 0, s.what+"; 0 is the task's own")
	}
	if err := f.Parse(args); err != nil {
		return "", o, err
	}
	if f.NArg() != 1 {
		return "", o, fmt.Errorf("want one folder, got %q", f.Args())
	}
	var known bool
	if o.DType, known = dtypes[*dtype]; !known {
		return "", o, fmt.Errorf("unknown type %q; want fp32, bf16 or fp16", *dtype)
	}
	if o.Spec, err = synthetic.Official(*task); err != nil {
		return "", o, err
	}
	s := &o.Spec
	for name, to := range map[string]*int{"layers": &s.DiT.NumLayers, "dim": &s.DiT.Dim, "ffn-dim": &s.DiT.FFNDim, "heads": &s.DiT.NumHeads,
		"t5-layers": &s.T5.NumLayers, "t5-dim": &s.T5.Dim, "t5-ffn-dim": &s.T5.FFNDim, "t5-heads": &s.T5.NumHeads, "t5-vocab": &s.T5.VocabSize,
		"vae-dim": &s.VAE.Dim, "clip-layers": &s.CLIP.NumLayers, "clip-dim": &s.CLIP.Dim, "clip-heads": &s.CLIP.NumHeads} {
		if v := *sizes[name]; v != 0 {
			*to = v
		}
	}
	if *sizes["t5-dim"] != 0 {
		s.T5.AttnDim = s.T5.Dim
	}
	if *sizes["clip-dim"] != 0 {
		s.CLIP.MLPDim = 4 * s.CLIP.Dim
	}
	*s = synthetic.Fit(*s)
	if *tokenizer != "" {
		o.Tokenizer = os.DirFS(*tokenizer)
		if _, err := fs.ReadDir(o.Tokenizer, "."); err != nil {
			return "", o, fmt.Errorf("tokenizer: %w", err)
		}
	}
	return f.Arg(0), o, synthetic.Validate(*s)
}

// room refuses to fill the disk that dir will be on.
func room(dir string, need int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("free disk space of %q: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; need > free {
		return fmt.Errorf("the weights have %d MiB, the disk of %q has room for %d; --sparse takes none", need>>20, dir, free>>20)
	}
	return nil
}
