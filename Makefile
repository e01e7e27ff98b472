# `make demo` and `make test` are all that a newcomer needs; both set the machine
# up first. `make help` lists the rest.
.PHONY: help setup demo test train-demo lint doc check-cuda gpu-check deny downstream package dist bench guards test-python parity test-slow test-exhaustive ci onnx test-report test-formats test-ranks test-shards wheel test-wheel

CARGO ?= cargo

help:           ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup:          ## install what the build needs; nothing when all is there
	@scripts/setup.sh

demo: setup     ## recognise the demo clip; pictures and tables in target/demo
	$(CARGO) run --release --quiet --example infer -- --out target/demo --annotate png,mp4 --force

test: setup     ## all tests that need neither Python nor a GPU
	$(CARGO) test --release --workspace

test-formats:   ## results in every format, opened by the readers of other programs
	@scripts/setup.sh python
	scripts/test-formats.sh

test-ranks:     ## trainings by several processes over MPI, equal to the bit to those of one
	scripts/test-ranks.sh

train-demo:     ## render faces and train the demo's checkpoint on them again (two hours)
	fixtures/demo/train.sh target/train-demo

lint:           ## formatting and clippy, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	$(CARGO) clippy --release -p mtcae-video -p mtcae-faces -p mtcae-labels -p mtcae-synth -p mtcae-dfer -p mtcae-formats --no-default-features --all-targets -- -D warnings

doc:            ## documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps

check-cuda:     ## all that can be proved of the CUDA path without a GPU or a toolkit
	scripts/check_cuda.sh

gpu-check:      ## pack the program that checks and measures on a GPU
	scripts/gpu_check.sh build

deny:           ## licences, sources and duplicates of all dependencies
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked --debug cargo-deny
	$(CARGO) deny check licenses bans sources

downstream:     ## the crates outside the workspace, as their users write them
	scripts/downstream.sh

package:        ## pack every publishable crate as it would be published, and check that it compiles
	scripts/package.sh

dist:           ## one program with FFmpeg and the default model inside, checked in a bare Debian
	scripts/dist.sh

bench:          ## criterion benchmarks
	$(CARGO) bench

guards:         ## instructions of each kernel, and how much faster than portable it is
	@scripts/setup.sh guards
	scripts/instruction_counts.sh
	$(CARGO) test --release --workspace --test ratios -- --ignored --nocapture

onnx:           ## exported models in ONNX Runtime, beside what this project computes
	@scripts/setup.sh python
	scripts/onnx.sh

test-report:    ## walk through a report's page in headless Chromium; pictures in target/report
	scripts/test-report.sh

wheel: setup    ## the Python package, into target/wheels
	scripts/wheel.sh

test-wheel: setup ## the Python package in fresh environments, with NumPy 1 and 2
	scripts/test-wheel.sh

test-python:    ## what needs PyTorch: fixtures again, rebuild from a checkpoint, full size
	scripts/test-python.sh

parity: test-python ## ViT-L and the cascade at full size against PyTorch

test-slow: setup ## memory over 10,000 labelled frames, 100,000 malformed requests (minutes)
	$(CARGO) test --release -p mtcae-labels --test video -- --ignored --nocapture
	$(CARGO) test --release -p mtcae-serve --test load -- --ignored --nocapture

test-shards: setup ## 20,000 clips by processes that are killed at random, against one process (minutes)
	scripts/test-shards.sh

test-exhaustive: ## kernels at every f32 of their range (minutes)
	$(CARGO) test --release -p mtcae-kernels --features exhaustive

ci:             ## what continuous integration runs
	.ci/run
