package main

import (
	"sync"

	"github.com/wanrun/wanrun/internal/settings"
)

// names are what the nodes that have joined are called.
type names struct {
	mu sync.Mutex
	by map[int]string
}

// maxName bounds a node's name on the console, in characters.
const maxName = 100

func (n *names) set(node int, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.by == nil {
		n.by = map[int]string{}
	}
	n.by[node] = settings.Shorten(name, maxName)
}

func (n *names) of(node int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.by[node]
}
