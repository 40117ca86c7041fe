# hnvgate. `make demo` shows it at work, `make test` checks all of it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# .ci/deps installs what is missing and names the go command to use.
GOBIN_DIR = $(shell .ci/deps | tail -n 1)
WITH_GO = export PATH="$(GOBIN_DIR):$$PATH:/usr/sbin:/sbin";
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.commit=$(COMMIT)
COMMANDS := gatewayd gatewayctl compartmentd hnvlab
FUZZTIME ?= 3s
ROUNDS ?= 5

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 20

.PHONY: deps
deps: ## install what a bare Debian 12 machine lacks
	@.ci/deps

.PHONY: build
build: ## build gatewayd, gatewayctl and hnvlab into bin/
	@mkdir -p bin; $(WITH_GO) \
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/... ./test/lab/cmd/hnvlab

.PHONY: demo
demo: build ## bring up the lab, run the gateway on real packets, show what flowed (root)
	@bin/hnvlab demo

.PHONY: demo-down
demo-down: build ## remove every trace of the demo
	@bin/hnvlab down

.PHONY: test
test: vet check-generated test-unit test-privileged fuzz ## everything that CI runs (root)
	@echo "all checks passed"

.PHONY: vet
vet:
	@$(WITH_GO) go vet ./... && go vet -tags privileged ./... && test -z "$$(gofmt -l $$(git ls-files '*.go') | tee /dev/stderr)"

.PHONY: test-unit
test-unit: ## unit tests, no root, with the race detector
	@$(WITH_GO) .ci/gotest unit -race ./...

.PHONY: test-privileged
test-privileged: build ## engines and scenarios on real packets, in namespaces of their own (root)
	@$(WITH_GO) HNVGATE_BIN=$(CURDIR)/bin .ci/gotest privileged -tags privileged -count=1 -p 1 -timeout 30m $(filter-out $(SCENARIOS),$(PRIVILEGED))
	@$(WITH_GO) HNVGATE_BIN=$(CURDIR)/bin .ci/bothpaths -tags privileged -count=1 -timeout 30m $(SCENARIOS)

SCENARIOS = ./test/scenario

# The packages with privileged tests, each in namespaces that it makes itself.
PRIVILEGED = $(shell git grep -lE '^//go:build.*privileged' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's,^,./,')

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME
	@$(WITH_GO) FUZZTIME=$(FUZZTIME) .ci/fuzz

.PHONY: generate
generate: ## regenerate what is generated
	@$(WITH_GO) go generate ./...

# What go generate writes.
GENERATED = dataplane/drop/drop_gen.go docs/drop-reasons.md dataplane/offload/bpf/reasons.h dataplane/offload/bpf/fastpath.o dataplane/offload/bpf/uplink.o

.PHONY: check-generated
check-generated: ## whether what is committed is what would be generated
	@$(WITH_GO) sums="$$(sha256sum $(GENERATED))"; go generate ./dataplane/drop ./dataplane/offload; \
	diff <(echo "$$sums") <(sha256sum $(GENERATED)) || { echo "generated files are not current: run make generate and commit them"; exit 1; }

.PHONY: lint
lint: ## golangci-lint, as .golangci.yml has it
	@$(WITH_GO) go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run ./...

.PHONY: bench
bench: build ## gateways side by side, into out/bench.json (root); BENCH_ARGS=-quick for a short one, -help for more
	@$(WITH_GO) go run ./test/bench/cmd/benchgateway -bin bin -out out/bench -commit $(COMMIT) $(BENCH_ARGS)

.PHONY: bench-dataplane
bench-dataplane: ## what packets, tables and updates cost, in rounds, into out/bench-dataplane.json
	@$(WITH_GO) go run ./test/bench/cmd/bench -out out/bench-dataplane -rounds $(ROUNDS) -commit $(COMMIT)

.PHONY: bench-s2s
bench-s2s: build ## tunnels to sites and BGP beside wireguard-go, FRR and BIRD, into out/bench-s2s.json (root); BENCH_ARGS=-quick for a short one, -help for more
	@$(WITH_GO) go build -trimpath -o bin/ golang.zx2c4.com/wireguard
	@$(WITH_GO) go run ./test/bench/cmd/benchs2s -bin bin -out out/bench-s2s -commit $(COMMIT) $(BENCH_ARGS)

.PHONY: clean
clean: ## remove what was built
	@rm -rf bin out
