//go:build !cgo

package vram

import (
	"context"
	"io/fs"
)

// Library is NVML, which this build has not.
type Library struct{}

// Device is a GPU.
type Device struct{ Facts }

// Open returns ErrNotBuilt.
func Open(string, fs.FS, int) (*Library, error) { return nil, ErrNotBuilt }

// Close does nothing.
func (l *Library) Close() error { return nil }

// Devices returns none.
func (l *Library) Devices() ([]*Device, error) { return nil, ErrNotBuilt }

// Part returns none.
func (l *Library) Part(string) (*Device, error) { return nil, ErrNotBuilt }

// Peers returns none.
func (l *Library) Peers([]*Device) []Peer { return nil }

// Watch returns at once.
func (l *Library) Watch(context.Context, []*Device, func(Event)) error { return ErrNotBuilt }

// Read knows nothing.
func (d *Device) Read() Reading { return unread(ErrNotBuilt.Error()) }
