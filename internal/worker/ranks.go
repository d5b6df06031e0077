package worker

import (
	"context"

	"go.uber.org/zap"

	"github.com/wanrun/wanrun/internal/comm/host"
	"github.com/wanrun/wanrun/pkg/comm"
)

// join connects this rank to the others of the job. The returned context is done
// when the group has failed, too, so that a rank that computes stops; leave ends
// the membership and returns err, or the error of leaving. One rank has no group.
func (w *worker) join(ctx context.Context) (world comm.Group, joined context.Context, leave func(err error) error, err error) {
	if w.config.Size == 1 {
		return nil, ctx, func(err error) error { return err }, nil
	}
	meet := w.job.GetWorld()
	config := host.Config{Rank: w.config.Rank, Size: w.config.Size, Nodes: w.config.Nodes, Root: meet.GetRoot(), Secret: meet.GetSecret()}
	config.Refused = func(err error) { w.log.Warn("a connection between ranks was refused", zap.Error(err)) }
	world, err = host.Connect(ctx, config)
	if err != nil {
		return nil, ctx, nil, err
	}
	joined, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-world.Done():
			cancel(world.Err())
		case <-joined.Done():
		}
	}()
	return world, joined, func(err error) error {
		if err != nil {
			world.Abort(err)
		}
		cancel(nil)
		<-watched
		if closeErr := world.Close(); err == nil {
			err = closeErr
		}
		return err
	}, nil
}
