//go:build !amd64

package cpu

import "github.com/wanrun/wanrun/pkg/tensor"

func fastKernels() (kernels, bool) { return kernels{}, false }

func widenFast([]float32, tensor.DType, []uint16) int { return 0 }

func narrowFast([]uint16, tensor.DType, []float32) int { return 0 }
