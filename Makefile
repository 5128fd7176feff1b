# make demo                  the main job on data that it makes itself
# make demo-det              the same for a detector with boxes and masks
# make test                  the tests; STACK=openmmlab for OpenMMLab's own distributions
# make docs                  the documentation as a site, in build/site
# make test TORCH=torch==... another PyTorch, for example a CUDA build
STACK ?= onedl
PYTHON ?= python3
TORCH ?=
TESTS ?= tests
VENV := .venv$(if $(filter onedl,$(STACK)),,-$(STACK))
BIN := $(VENV)/bin

.PHONY: demo demo-det test docs lint setup clean

demo: setup
	$(BIN)/python tools/demo.py

demo-det: setup
	$(BIN)/python tools/demo.py --detection

# Two processes of a thread each take little more than half the time of one. Files stay whole: tests share fixtures.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

docs: setup
	$(BIN)/sphinx-build -W --keep-going -q docs build/site

lint: setup
	$(BIN)/ruff check .

setup:
	@$(PYTHON) tools/dev/setup_env.py $(VENV) --stack $(STACK) $(if $(TORCH),--torch '$(TORCH)')

clean:
	rm -rf .venv .venv-openmmlab work_dirs build *.egg-info
