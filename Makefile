# Isthmus. `make help` lists what there is.
#
# Everything that is fetched or built lands in one ignored folder, .cache (or $ISTHMUS_CACHE); removing it costs only time.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# The Go toolchain that go.mod asks for is fetched when the installed one is older.
export GOTOOLCHAIN := auto
# One set of build settings for everything, so that every package is compiled once: static binaries without paths of
# the machine. The race detector needs cgo and is the one exception.
export GOFLAGS := -trimpath -buildvcs=false
export CGO_ENABLED := 0

CACHE ?= $(or $(ISTHMUS_CACHE),$(CURDIR)/.cache)
export ISTHMUS_CACHE := $(CACHE)
BIN := $(CACHE)/bin
OUT := $(CACHE)/build

# The product's binaries: static, so that an image is one file.
BINARIES := controller gateway nodeproxy agent
GO_BUILD := go build -ldflags '-s -w'

.PHONY: help
help: ## Say what each target does
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Build

.PHONY: tools
tools: ## Fetch and build what the project needs: Kubernetes, etcd, containerd, runc, CNI plugins, CoreDNS (once, about 12 minutes), linter, generators
	@echo "the lab's programs (the lab itself is compiled first, a few minutes the first time)"
	@go run ./cmd/lab build
	@$(MAKE) --no-print-directory $(BIN)/golangci-lint $(BIN)/controller-gen

.PHONY: lab-tools
lab-tools: # What the lab and the control plane's tests need, without linter and generators
	@echo "the lab's programs (the lab itself is compiled first, a few minutes the first time)"
	@go run ./cmd/lab build

$(BIN)/golangci-lint: hack/lint/go.mod hack/lint/go.sum
	@echo "building golangci-lint (once, about 4 minutes)"
	@mkdir -p $(BIN)
	@go build -C hack/lint -ldflags '-s -w' -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/controller-gen: hack/tools/go.mod hack/tools/go.sum
	@mkdir -p $(BIN)
	@go build -C hack/tools -ldflags '-s -w' -o $@ sigs.k8s.io/controller-tools/cmd/controller-gen

.PHONY: build
build: ## Build the product, the lab and the demo's app into .cache/build
	@mkdir -p $(OUT)
	@echo "build $(BINARIES), lab, demo-app, demo"
	@$(GO_BUILD) -o $(OUT)/ $(addprefix ./cmd/,$(BINARIES) lab)
	@$(GO_BUILD) -o $(OUT)/demo-app ./test/e2e/demoapp
	@$(GO_BUILD) -o $(OUT)/demo ./test/e2e/demo

.PHONY: images
images: build ## Write the product's images as OCI archives into .cache/images, for clusters of your own
	@for name in $(BINARIES); do $(OUT)/lab image $(CACHE)/images/$$name.tar isthmus.dev/$$name:dev=$(OUT)/$$name && echo $(CACHE)/images/$$name.tar; done

##@ Check

.PHONY: generate
generate: $(BIN)/controller-gen ## Write deepcopy functions, CRDs, RBAC and wire types anew
	@hack/generate.sh

.PHONY: check
check: check-generate check-source ## Generated files are current, formatting, vet, lint

.PHONY: check-source
check-source: check-format lint
	@go vet -tags 'netns lab' ./...

.PHONY: check-generate
check-generate: generate # Generated files that differ from the committed ones are an error
	@git diff --exit-code --stat -- apis config internal/xds/pb || { echo "generated files are not current: run make generate and commit" >&2; exit 1; }

.PHONY: check-format
check-format:
	@files=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$files" ] || { echo "not gofmt-ed:" >&2; echo "$$files" >&2; exit 1; }

.PHONY: lint
lint: $(BIN)/golangci-lint
	@$(BIN)/golangci-lint run ./...

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what we depend on (needs the vulnerability database's host)
	@go run golang.org/x/vuln/cmd/govulncheck@latest ./...

.PHONY: test
test: lab-tools ## All tests but the lab's own: units under the race detector, real API servers, network namespaces (needs root)
	@[ "$$(id -u)" = 0 ] || { echo "tests that make network namespaces need root: run as root, or run 'go test ./...' for the rest" >&2; exit 1; }
	@packages=$$(go list -tags netns ./... | grep -v '/internal/translate$$') && CGO_ENABLED=1 go test -race -tags netns -vet=off -timeout 30m -p $(TESTS_AT_ONCE) $(LONG_TESTS) $$packages
	@go test -vet=off ./internal/translate ./internal/socket ./internal/relay
	@CGO_ENABLED=1 go test -race -vet=off ./gateway/http -args -library

# internal/socket makes its calls in another way under the race detector, so it is also tested without. What waits most
# begins first, and one package more than there are processors is tested at a time. What go vet says is a part of make check.
LONG_TESTS := ./controllers ./internal/hbone
TESTS_AT_ONCE = $$(($$(nproc) + 1))

.PHONY: test-lab
test-lab: lab-tools ## The lab's own tests: real clusters come up, are broken, and go without a trace (needs root)
	@go test -tags lab -timeout 15m ./lab

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 30s) each
	@hack/fuzz.sh $(or $(FUZZTIME),30s)

.PHONY: bench
bench: ## Run the benchmarks
	@go test -run '^$$' -bench . -benchmem ./internal/... ./nodeproxy/... ./gateway/...

##@ See it work

.PHONY: demo
demo: demo-setup ## Two real clusters, Isthmus on both, one service, double HBONE: each step checked (needs root; leaves the lab up)
	@$(OUT)/demo

.PHONY: demo-setup
demo-setup: lab-tools build

.PHONY: demo-down
demo-down: ## Remove everything the demo made
	@go run ./cmd/lab down --name demo

.PHONY: e2e
e2e: demo-setup ## The demo as a test: run it, then take everything down again and check that nothing is left
	@$(OUT)/demo --down

.PHONY: journey
journey: demo-setup ## Three real clusters: everything is rolled under traffic, and one is lost; every request counts (needs root)
	@$(OUT)/demo --journey --down

.PHONY: conformance
conformance: demo-setup ## Gateway API's own suite, on a cluster of its own (needs root; about 12 minutes, more the first time); RUNS=5 repeats it and sums up the runs in conformance/reports, REPORT=1 writes the report
	@conformance/run.sh $(if $(REPORT),--report) $(if $(RUNS),--runs $(RUNS) --summary conformance/reports/runs.md)

.PHONY: clean
clean: ## Remove what was built, but not the tools
	@rm -rf $(OUT)
