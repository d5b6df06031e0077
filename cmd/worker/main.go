// Command wanworker is one rank of a wanrun job. The launcher starts it; by hand
// it only tells its version and devices.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/version"
	"github.com/wanrun/wanrun/internal/worker"
)

func main() { os.Exit(int(run(os.Args[1:]))) }

func run(args []string) ends.Code {
	if len(args) == 1 && (args[0] == "version" || args[0] == "--version") {
		fmt.Println("wanworker", version.Version)
		return ends.Done
	}
	if len(args) == 1 && args[0] == "plan" {
		return worker.PlanMain(context.Background(), os.Stdin, os.Stdout)
	}
	if len(args) == 1 && args[0] == "devices" {
		return worker.DevicesMain(os.Getenv("WANRUN_NVML"), os.Stdout)
	}
	socket := os.Getenv("WANRUN_CONTROL")
	if len(args) > 0 || socket == "" {
		fmt.Fprintln(os.Stderr, "wanworker is one rank of a job and is started by wanrun; see wanrun --help")
		return ends.Usage
	}
	rank, err := strconv.Atoi(os.Getenv("WANRUN_RANK"))
	size, sizeErr := strconv.Atoi(os.Getenv("WANRUN_WORLD_SIZE"))
	if err := errors.Join(err, sizeErr); err != nil || rank < 0 || rank >= size {
		fmt.Fprintf(os.Stderr, "wanworker: WANRUN_RANK %d of WANRUN_WORLD_SIZE %d (%v)\n", rank, size, err)
		return ends.Usage
	}
	level := zap.WarnLevel
	if err := level.Set(os.Getenv("WANRUN_LOG_LEVEL")); err != nil {
		level = zap.WarnLevel
	}
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeTime = zapcore.ISO8601TimeEncoder
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoder), zapcore.Lock(os.Stderr), level)).With(zap.Int("rank", rank))

	// Ctrl-C is the launcher's to handle: it tells its workers. So are the warnings of a
	// scheduler, which Slurm sends to every process of a step. ffmpeg inherits this.
	signal.Ignore(syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if _, inStep := os.LookupEnv("SLURM_STEP_ID"); inStep {
		// Slurm ends a step by sending this to every process of it; the launcher saves first.
		signal.Ignore(syscall.SIGTERM)
	} else {
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, syscall.SIGTERM)
		go func() {
			<-terminated
			cancel(ends.Errorf(ends.Terminated, "stopped by SIGTERM"))
		}()
	}
	config := worker.Config{Socket: socket, Token: os.Getenv("WANRUN_TOKEN"), Rank: rank, Size: size, Build: version.Version, Log: log,
		NVML: os.Getenv("WANRUN_NVML")}
	if visible, set := os.LookupEnv("CUDA_VISIBLE_DEVICES"); set {
		config.Visible = &visible
	}
	if local, err := strconv.Atoi(os.Getenv("LOCAL_RANK")); err == nil {
		config.LocalRank = local
	}
	err = worker.Run(ctx, config)
	if err != nil {
		log.Debug("ends", zap.Error(err))
	}
	return ends.CodeOf(err)
}
