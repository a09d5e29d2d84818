# make demo        detection on the photos of demo/images (or IMAGES=...), into demo/output
# make test        the tests (PYTEST_ARGS=... for pytest)
# make benchmark   the main ratios to other libraries, into benchmark-quick.json, in three minutes
# make lint        style of Python and C++
# make cuda-check  compile all CUDA code for one GPU generation, warnings are errors
# make asan        operator tests under the address sanitizer
# make clean       remove the virtual environment and everything built
#
# Everything is installed into .venv, by PYTHON. Another torch goes into another directory:
#     make cuda-check VENV=.venv-oldest TORCH="torch==2.11.* torchvision==0.26.*"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= "torch>=2.11" torchvision
IMAGES ?= demo/images
OUTPUT ?= demo/output
DEMO_ARGS ?=
PYTEST_ARGS ?=
CXX ?= c++

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WITH_TOOLS := $(VENV)/.with_tools
CSRC := $(wildcard csrc/*.cpp csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu csrc/*/*.cuh)
HAS_NVCC := $(or $(shell command -v nvcc),$(wildcard $(CUDA_HOME)/bin/nvcc /usr/local/cuda/bin/nvcc))

.PHONY: demo test benchmark install lint cuda-check asan clean

demo: $(INSTALLED)
	$(BIN)/maskrcnn predict $(IMAGES) --output $(OUTPUT) $(DEMO_ARGS)

test: $(WITH_TOOLS)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

benchmark: $(WITH_TOOLS)
	$(BIN)/python benchmarks --quick --output benchmark-quick.json

install: $(WITH_TOOLS)

# torch and torchvision are named in one command, so that pip chooses two that fit each other.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install "setuptools>=77" wheel ninja $(TORCH)

$(INSTALLED): $(BIN)/python pyproject.toml setup.py $(CSRC)
	$(BIN)/python -m pip install -q --no-build-isolation -e .
	touch $@

$(WITH_TOOLS): $(INSTALLED)
	$(BIN)/python -m pip install -q --no-build-isolation -e ".[dev]"
	touch $@

lint: $(WITH_TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CSRC)

cuda-check: $(INSTALLED)
ifeq ($(HAS_NVCC),)
	@echo "cuda-check: skipped, there is no nvcc on this machine"
else
	FORCE_CUDA=1 MASKRCNN_NO_CUDA=0 TORCH_CUDA_ARCH_LIST=9.0 NVCC_FLAGS="-Werror all-warnings" \
	  $(BIN)/python setup.py build_ext --build-lib build/cuda-check --build-temp build/cuda-check-temp
	.ci/check_symbols build/cuda-check/maskrcnn_lib/*.so
endif

asan: $(WITH_TOOLS)
	SANITIZE=address MASKRCNN_NO_CUDA=1 \
	  $(BIN)/python setup.py build_ext --build-lib build/asan --build-temp build/asan-temp
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0 \
	  MASKRCNN_LIBRARY_DIR=build/asan/maskrcnn_lib MASKRCNN_REQUIRE_OPS=1 \
	  $(BIN)/python -m pytest tests/layers tests/evaluation/test_average_precision.py -q $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info demo/output maskrcnn_lib/*.so
