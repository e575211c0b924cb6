"""How far an engine may be from the PyTorch reference: the only place these numbers are written."""

from __future__ import annotations

from types import MappingProxyType

from vla_runtime.bundle.manifest import Precision

# Largest ‖engine − reference‖ / ‖reference‖ of the final, normalised chunk over all golden samples.
# fp32: rounding and the order of sums alone; a wrong graph is orders of magnitude beyond.
# fp16: half keeps 11 bits (5e-4 per operation); 2 % of the actions' spread is still below what the arm's own tracking
# error and the flow's noise do, and a broken half export (an overflow, a wrong mask) shows as tens of percent.
# int8: 8 bits of weights and activations, scaled per channel, leave a relative error of a few percent after ten steps;
# beyond 5 % of the actions' spread a quantised graph has lost more than rounding (a saturated activation, a bad scale).
CHUNK_ERROR = MappingProxyType[Precision, float]({"fp32": 1e-4, "fp16": 2e-2, "int8": 5e-2})
