"""What a change did to the actions, as a table and in a sentence."""

from __future__ import annotations

from vla_export.actions import ActionEffect
from vla_runtime.report.section import Table


def effect_table(effect: ActionEffect) -> Table:
    rows = tuple((d.name, f"{d.mean_error:.4g} {d.unit}", f"{d.max_error:.4g} {d.unit}") for d in effect.dimensions)
    return Table(("action", "mean error", "largest error"), rows)


def effect_in_words(effect: ActionEffect) -> str:
    return (
        f"Relative error {effect.relative_error:.2%}, cosine {effect.cosine:.4f}, worst of {effect.samples} samples "
        f"{effect.worst_relative_error:.2%}."
    )
