#!/usr/bin/env bash
# Writes a checkpoint of random weights in the official layout; -h lists the flags.
set -euo pipefail
go build -C "$(dirname "$0")/.." -o bin/make-checkpoint ./cmd/make-checkpoint
exec "$(dirname "$0")/../bin/make-checkpoint" "$@"
