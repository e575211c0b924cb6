# Two commands do everything from a fresh machine: `make demo` and `make test`.
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo test lint clean

demo: $(READY)
	$(PY) -m demo

test: $(READY) lint
	$(PY) -m pytest

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy vla_runtime export/vla_export calibration/vla_calibration evaluation/vla_evaluation ros2_ws/src/vla_runtime/vla_runtime_ros demo reference benchmarks results
	$(VENV)/bin/lint-imports

$(READY): pyproject.toml constraints.txt scripts/install.sh ros2_ws/src/vla_runtime/setup.py
	scripts/install.sh workstation $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) out build
