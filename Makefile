# wanrun: build, test, demo. `make help` lists the targets.
SHELL := /bin/bash -o pipefail
GO    ?= go
empty :=

# oneDNN is used for matrix products and convolutions when its header is found.
DNNL := $(firstword $(wildcard /usr/include/oneapi/dnnl/dnnl.h /usr/include/dnnl.h))
TAGS := $(if $(DNNL),$(if $(shell command -v gcc),onednn))
# Without a C compiler the worker has neither oneDNN nor NVML.
WORKER_CGO := $(if $(shell command -v gcc),1,0)

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X github.com/wanrun/wanrun/internal/version.Version=$(VERSION)

# go-nvml's header marks what newer drivers drop.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

.PHONY: help build test test-race test-memory test-slurm test-kernels cuda-prefix kernels lint demo bench launcher-bench fuzz deps deps-slurm proto verify clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## bin/wanrun and bin/wanworker
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/wanrun ./cmd/launcher
	CGO_ENABLED=$(WORKER_CGO) $(GO) build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/wanworker ./cmd/worker

# Tests that measure how soon processes end run one package at a time, alone.
TIMED := internal/guard internal/launch internal/output internal/watch internal/agents internal/endtoend internal/endtoend/launcher internal/endtoend/memory internal/comm/host
UNTIMED = $(shell $(GO) list ./... | grep -vE '($(subst $(empty) ,|,$(TIMED)))$$')

test: build ## all tests; installs nothing (see deps)
	$(GO) test -tags '$(TAGS)' -timeout 12m $(UNTIMED)
	$(GO) test -p 1 -timeout 12m $(addprefix ./,$(TIMED))
	$(if $(DNNL),$(GO) test -timeout 12m ./internal/backend/... ./internal/model/...,@echo "oneDNN not found: its tests did not run; make deps installs it")

test-race: ## what runs at the same time as something else, under the race detector
	$(GO) test -race -timeout 10m ./internal/control ./internal/worker ./pkg/... ./internal/comm/local ./internal/comm/meta ./internal/parallel ./internal/jobs ./internal/timeline
	$(GO) test -race -short -p 1 -timeout 10m ./internal/launch ./internal/guard ./internal/agents ./internal/output ./internal/comm/host
	$(GO) test -race -short -timeout 10m ./internal/sharded ./internal/generate

test-memory: ## planned against real memory, on a model of more than 1 GB (needs 2 GB of memory and of disk)
	WANRUN_TEST_MEMORY=1 $(GO) test -count=1 -timeout 10m -v -run 'Resident|Soak' ./internal/endtoend/memory ./internal/worker

SLURM_TESTS ?= .
test-slurm: ## the job scripts and their ends on a real Slurm of two virtual nodes (needs deps-slurm)
	WANRUN_TEST_SLURM=1 $(GO) test -count=1 -timeout 10m -run '$(SLURM_TESTS)' ./deploy/slurm

# What the GPU part's builds need, out of git; see docs/gpu.md.
CUDA_PREFIX ?= .cache/cuda

cuda-prefix: ## clang-19, cuda.h and ptxas out of Debian's packages into .cache/cuda (installs nothing)
	internal/cuda/fetch.sh $(CUDA_PREFIX) clang headers tools

kernels: ## regenerate the embedded PTX and assemble it without spills (needs cuda-prefix)
	@test -x $(CUDA_PREFIX)/bin/clang-19 || { echo "no $(CUDA_PREFIX)/bin/clang-19: run make cuda-prefix"; exit 1; }
	internal/cuda/kernels/generate.sh $(abspath $(CUDA_PREFIX))/bin/clang-19 $(wildcard $(abspath $(CUDA_PREFIX))/bin/ptxas)

test-kernels: ## the GPU kernels' own sources on the CPU against float64, and bugs put into them (g++ needed)
	$(GO) test -count=1 -timeout 10m -v ./internal/cuda/kernels | grep -vE '^ *(=== RUN|--- PASS)'

lint: bin/staticcheck ## gofmt, vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet -tags '$(TAGS)' ./...
	bin/staticcheck -tags '$(TAGS)' ./...

bin/staticcheck: tools/go.mod
	@mkdir -p bin
	cd tools && $(GO) build -o ../bin/staticcheck honnef.co/go/tools/cmd/staticcheck

demo: build ## videos from the built-in demo model into out/
	@tools/demo.sh

bench: ## DiT block, attention, VAE, load, ranks, collectives; see docs/log.md
	$(GO) test -tags '$(TAGS)' -run '^$$' -bench . -skip '/go$$' -benchtime 3x ./internal/backend/cpu ./internal/model/... ./internal/weights
	$(GO) test -run '^$$' -bench . -benchtime 2x ./internal/sharded ./internal/parallel
	$(GO) test -run '^$$' -bench . ./internal/comm/...

launcher-bench: ## start, end, line latency and memory of the launcher, beside what is required
	$(GO) test -run '^$$' -bench Table -benchtime 1x ./internal/endtoend/launcher

fuzz: ## every fuzz target for a few seconds
	@tools/fuzz.sh

deps: ## optional Debian packages: oneDNN and ffmpeg (root)
	apt-get update
	apt-get install -y --no-install-recommends gcc libc6-dev libdnnl-dev ffmpeg

deps-slurm: ## Debian packages for test-slurm (root)
	apt-get update
	apt-get install -y --no-install-recommends slurm-wlm slurmctld slurmd slurm-client munge shellcheck

proto: ## regenerate proto/ (needs protobuf-compiler)
	@mkdir -p bin
	cd tools && $(GO) build -o ../bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	PATH=$(CURDIR)/bin:$$PATH protoc --go_out=. --go_opt=module=github.com/wanrun/wanrun \
	  --go-grpc_out=. --go-grpc_opt=module=github.com/wanrun/wanrun proto/wanrun/v1/wanrun.proto proto/wanrun/v1/agents.proto

verify: proto ## generated code is what the generators make
	git diff --exit-code -- proto

clean: ## remove what was built
	rm -rf bin out
