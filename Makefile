# Everything here makes its own environment in .venv; nothing has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LMDEPLOY := .venv-lmdeploy
LMDEPLOY_READY := $(LMDEPLOY)/.ready

export HF_HUB_OFFLINE ?= 1
export NO_MKDOCS_2_WARNING := 1

# Two processes with one thread each: threads that spin for one another are slower on two cores.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest \
	--numprocesses $(JOBS) --dist worksteal --durations 10

.PHONY: help demo test test-slow test-lmdeploy packaging resolve docs lint format typing bench nano-train nano-export nano-eval clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

demo: $(READY) ## Ask the embedded model about images, a page and a video, offline
	$(BIN)/python cookbook/demo.py

test: $(READY) ## Run the tests except the slow ones (6 minutes on 2 cores)
	$(PYTEST) -m 'not slow and not packaging'

test-slow: $(READY) ## Run the slow tests: random schemas, damaged files, notebooks, nano, its training
	$(PYTEST) -m 'slow and not packaging'

test-lmdeploy: $(LMDEPLOY_READY) ## Run LMDeploy's front end over an engine for CPUs
	PYTHONPATH=tests/integration/lmdeploy OMP_NUM_THREADS=1 $(LMDEPLOY)/bin/python -m pytest \
		-p lmdeploy_setup -m lmdeploy tests/integration/lmdeploy

packaging: $(READY) ## Build the distributions and install every extra in clean environments
	$(BIN)/python -m pytest -m packaging --durations 5 tests/packaging

docs: $(READY) ## Build the site below build/site
	$(BIN)/mkdocs build --strict --quiet

resolve: $(LMDEPLOY_READY) ## Check that pip alone can install the extra lmdeploy
	$(LMDEPLOY)/bin/pip install --quiet --dry-run --ignore-installed '.[lmdeploy]'

lint: $(READY) typing ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## Format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

typing: $(READY) ## Check types, also of the Python in the README and in docs
	$(BIN)/mypy
	$(BIN)/python tests/check_pages.py

BENCH ?=

bench: $(READY) ## Measure the table of docs/guides/performance.md (BENCH="--rows tiles,video"; minutes)
	$(BIN)/python -m benchmarks $(BENCH)

RUN ?= training/runs/nano
STEPS ?= 12000
WEIGHTS := langchain_internvl/nano
NANO := PYTHONPATH=training/nano $(BIN)/python -m nano_training

nano-train: $(READY) ## Train nano further (RUN=folder, STEPS=number); resumes a run
	$(NANO).train $(RUN) --start $(WEIGHTS) --steps $(STEPS)

nano-export: $(READY) ## Write the weights of a run into the package (RUN=folder)
	$(NANO).export $(RUN) $(WEIGHTS)

nano-eval: $(READY) ## Score nano on held-out data, and write its card
	$(NANO).evaluate $(WEIGHTS) --out training/nano/report.json
	$(NANO).card $(WEIGHTS) training/nano/report.json

clean: ## Remove the environments and caches
	rm -rf $(VENV) $(LMDEPLOY) .cache build .mypy_cache .ruff_cache .pytest_cache .hypothesis dist

# torch first and exactly: resolved together with the others, pip may take a far larger build.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all]' --group test --group lint --group docs --group packaging --group bench
	$(BIN)/pip install --quiet --no-deps --constraint constraints.txt lmms-eval # its scores; without torchvision
	touch $@

# LMDeploy wants another torch and a GPU; its front end wants neither. xgrammar without triton.
$(LMDEPLOY_READY): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv --clear $(LMDEPLOY)
	$(LMDEPLOY)/bin/pip install --quiet --upgrade 'pip>=25.1'
	$(LMDEPLOY)/bin/pip install --quiet torch==2.13.0
	$(LMDEPLOY)/bin/pip install --quiet --constraint constraints.txt \
		--editable '.[video,documents,cli]' --group lmdeploy-front-end
	$(LMDEPLOY)/bin/pip install --quiet --no-deps torchvision==0.28.0 xgrammar==0.2.8 \
		apache-tvm-ffi opencv-python-headless einops lmdeploy==0.18.0
	find $(LMDEPLOY) -name '_turbomind*.so' -delete
	touch $@
