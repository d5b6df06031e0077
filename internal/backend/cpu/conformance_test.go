package cpu_test

import (
	"errors"
	"testing"

	"github.com/wanrun/wanrun/internal/backend/backendtest"
	"github.com/wanrun/wanrun/internal/backend/cpu"
	"github.com/wanrun/wanrun/internal/onednn"
	"github.com/wanrun/wanrun/pkg/tensor"
)

func TestConformance(t *testing.T) { conformance(t, cpu.New) }

func TestReferenceConformance(t *testing.T) { conformance(t, cpu.NewReference) }

func TestOneDNNConformance(t *testing.T) {
	b, err := cpu.NewOneDNN(1)
	if errors.Is(err, onednn.ErrNotBuilt) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	conformance(t, func(threads int) *cpu.Backend {
		b, err := cpu.NewOneDNN(threads)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
}

func conformance(t *testing.T, construct func(threads int) *cpu.Backend) {
	withThreads := func(threads int) tensor.Backend {
		b := construct(threads)
		t.Cleanup(b.Close)
		return b
	}
	backendtest.Run(t, func() tensor.Backend { return withThreads(2) }, backendtest.Options{WithThreads: withThreads})
}
