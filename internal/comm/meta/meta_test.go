package meta_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/wanrun/wanrun/internal/comm/commtest"
	"github.com/wanrun/wanrun/internal/comm/meta"
	"github.com/wanrun/wanrun/pkg/comm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	commtest.RunAgreement(t, func(_ testing.TB, size int, opts func(rank int) comm.Options) []comm.Group {
		return meta.New(size, opts)
	})
}
