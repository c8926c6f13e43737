# The two commands of the README are demo and test; each does its own set-up.
.DEFAULT_GOAL := help
export PYTHON
BIN := $(or $(ROPEWALK_VENV),.venv)/bin

.PHONY: help install demo serve test check

help:
	@echo "make demo    search, validate, fine-tune and evaluate the pocket model over REST"
	@echo "make test    style, types, import order and the whole test suite"
	@echo "make serve   leave a server running on http://127.0.0.1:8000"

install:
	@scripts/install

demo: install
	@$(BIN)/ropewalk demo

serve: install
	@$(BIN)/ropewalk serve

check: install
	@scripts/check

test: install
	@scripts/check
	@scripts/test
