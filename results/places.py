"""Where results lie: what is made on the way, and what is committed."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "out" / "results"
"""Demonstrations, training runs, checkpoints, bundles and evaluations: made where missing, kept where complete."""

FIGURES = ROOT / "docs" / "results"
PICTURES = ROOT / "docs" / "pictures"
POLICY = ROOT / "reference" / "weights" / "policy"
VLM = ROOT / "reference" / "weights" / "vlm"
