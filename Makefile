# Every target has a plain twin for machines without make: see README, "Without make".
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
REQUIREMENTS ?= requirements/cpu.txt
export HF_HUB_OFFLINE ?= 1
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Many containers set it; each process would then compile torch and transformers for itself, some 20 s of a slow core.
unexport PYTHONDONTWRITEBYTECODE

# Every experiment of the study at tiny scale, one run each, on one phantom whose 6 validation operations give each
# criterion an interval (4 have positives of it); started again, it continues where it was.
OUT ?= results/experiments
EXPERIMENTS ?= all

.PHONY: demo test loggers docs notebook long quick fuzz seeds check install clean experiments embedded bench-gpu

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml $(REQUIREMENTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r $(REQUIREMENTS)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: install
	$(BIN)/calot demo

# Two processes of one thread each: torch's own threads wait for each other by spinning.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not long"

# The packages of every tracking service (`--log`), in an environment of their own, where tests read back what they have.
loggers: $(VENV)/loggers/.installed

$(VENV)/loggers/.installed: requirements/loggers.txt pyproject.toml $(VENV)/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/loggers
	$(BIN)/uv pip install --quiet --python $(VENV)/loggers/bin/python -r requirements/loggers.txt
	$(BIN)/uv pip install --quiet --python $(VENV)/loggers/bin/python --no-deps --editable .
	@touch $@

# The documentation as a site (results/site), with every link and anchor checked, and its notebook executed again.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --site-dir $(abspath results/site)

notebook: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(BIN)/python docs/site/execute.py

$(VENV)/.docs: requirements/docs.txt $(VENV)/.installed
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements/docs.txt
	@touch $@

# Kills, five seeds, the full size, every experiment's receipt: what takes longest. CI runs these too.
long: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m long

quick: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow and not long"

# The property tests alone, with many new random examples; it prints its seed, and `make fuzz SEED=N` is the same again.
fuzz: install
	CALOT_HYPOTHESIS=random OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m property $(if $(SEED),--hypothesis-seed=$(SEED))

# The property tests as `make test` has them, ten times, with ten seeds in place of the same examples each time.
seeds: install
	for seed in 1 2 3 4 5 6 7 8 9 10; do CALOT_HYPOTHESIS=seeded OMP_NUM_THREADS=1 $(BIN)/python -m pytest \
	  --numprocesses 2 --dist loadfile -m property --hypothesis-seed=$$seed || exit 1; done

check: install
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_architecture.py

experiments: install
	test -f $(OUT)/phantom/phantom.json || (rm -rf $(OUT)/phantom && $(BIN)/calot data phantom $(OUT)/phantom --videos 30 --mean-frames 40 --seed 7)
	$(BIN)/calot study --data $(OUT)/phantom --out $(OUT)/runs --experiments $(EXPERIMENTS) --seeds 1 --resume; \
	  status=$$?; test $$status -gt 1 || $(BIN)/calot report $(OUT)/runs; \
	  $(BIN)/calot experiments costs $$($(BIN)/python -m calot.studying.listed) --data $(OUT)/phantom | tee $(OUT)/costs.md; exit $$status

# The encoder that comes with calot, again: 110 phantom operations of a seed of their own, 25 minutes of pretraining.
embedded: install
	test -f $(OUT)/pretraining/phantom.json || $(BIN)/calot data phantom $(OUT)/pretraining --recipe phantom-pretraining --workers 2
	cd $(OUT) && OMP_NUM_THREADS=1 $(abspath $(BIN))/calot pretrain pretraining p01_masked_prediction --scale tiny --seed 0 --out embedded \
	  backbone.weights=None train.lr=1e-3 train.adaptation.lr=1e-3 train.batch=16 train.epochs=10 train.warmup=1 train.decayed=all objective.momentum=0.996

# Full-size ViT-L on the machine's GPU; without one the tiny size on the CPU, by the same code.
bench-gpu: install
	$(BIN)/calot bench gpu

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
