package local_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/wanrun/wanrun/internal/comm/commtest"
	"github.com/wanrun/wanrun/internal/comm/local"
	"github.com/wanrun/wanrun/pkg/comm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	commtest.Run(t, func(_ testing.TB, size int, opts func(rank int) comm.Options) []comm.Group {
		return local.New(size, opts)
	})
}

func BenchmarkLocal(b *testing.B) {
	commtest.Bench(b, func(_ testing.TB, size int, opts func(rank int) comm.Options) []comm.Group {
		return local.New(size, opts)
	})
}
