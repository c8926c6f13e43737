# The two commands of the README are demo and test; each does its own set-up.
.DEFAULT_GOAL := help
export PYTHON
BIN := $(or $(ROPEWALK_VENV),.venv)/bin

.PHONY: help install install-vllm demo docs serve test test-chaos test-families test-vllm check

help:
	@echo "make demo    search, validate, fine-tune and evaluate the pocket model over REST"
	@echo "make test    style, types, import order and the whole test suite"
	@echo "make test-vllm  the tests of scoring with vLLM, on the CPU, in an environment of their own"
	@echo "make test-chaos  searches while everything that they need is killed or cut off; some 12 minutes on two cores"
	@echo "make test-families  every model family as a tiny model: read, scored, exported, trained; some 3 minutes on two cores"
	@echo "make docs    the documentation as pages, with the reference of the Python package: build/docs/index.html"
	@echo "make serve   leave a server running on http://127.0.0.1:8000"

install:
	@scripts/install

install-vllm:
	@scripts/install-vllm

demo: install
	@$(BIN)/ropewalk demo

serve: install
	@$(BIN)/ropewalk serve

docs: install
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo build/docs/index.html

check: install
	@scripts/check

test: check
	@scripts/test

test-chaos: install
	@scripts/test tests/chaos/long_*.py --timeout 700 -n 0

test-families: install
	@scripts/test tests/families

test-vllm: install-vllm
	@ROPEWALK_VENV=$(or $(ROPEWALK_VLLM_VENV),.venv-vllm) scripts/test tests/vllm --timeout 600 -n 0
