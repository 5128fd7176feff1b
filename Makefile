# make demo                  the main job on data that it makes itself
# make demo-det              the same for a detector with boxes and masks
# make test                  the tests; STACK=openmmlab for OpenMMLab's own distributions
# make docs                  the documentation as a site, in build/site
# make lint                  ruff
# make dist                  the source distribution and the wheel, in dist, with their files and metadata checked
# make check-dist            the same, then the wheel in fresh environments: beside PyTorch alone and beside the stack
# make test TORCH=torch==... another PyTorch, for example a CUDA build
STACK ?= onedl
PYTHON ?= python3
TORCH ?=
TESTS ?= tests
VENV := .venv$(if $(filter onedl,$(STACK)),,-$(STACK))
BIN := $(VENV)/bin
# Over a hundred processes are started, and find modules compiled: the packages' are when they are imported first.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo demo-det test docs lint dist check-dist setup clean

demo: setup
	$(BIN)/python tools/demo.py

demo-det: setup
	$(BIN)/python tools/demo.py --detection

# Two processes of a thread each take little more than half the time of one. Files stay whole: tests share fixtures.
# They begin in the order of tests/conftest.py.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

docs: setup
	$(BIN)/sphinx-build -W --keep-going -q docs build/site

lint: setup
	$(BIN)/ruff check .

dist: setup
	$(BIN)/python tools/dev/build_dist.py dist

check-dist: dist
	$(BIN)/python tools/dev/check_dist.py dist --stack $(STACK)

setup:
	@$(PYTHON) tools/dev/setup_env.py $(VENV) --stack $(STACK) $(if $(TORCH),--torch '$(TORCH)')

clean:
	rm -rf .venv .venv-openmmlab work_dirs build dist *.egg-info
