"""The layers that the paper on CKA depth (CLP, arXiv 2606.20246) removed from each family."""

from __future__ import annotations

from vla_runtime.errors import BadInput

# By family: layers of the published model, and those removed from language model and expert alike, from 0.
PUBLISHED: dict[str, tuple[int, tuple[int, ...]]] = {
    "pi0": (18, (1, 2, 4, 6, 8, 9)),
    "smolvla": (16, (1, 2, 5, 6, 14, 15)),
}


def published_layers(family: str, depth: int) -> tuple[int, ...]:
    """What to remove of a family's ``depth`` layers; raises `BadInput` where the paper has no such model."""
    if family not in PUBLISHED:
        raise BadInput(f"--prune cka:paper: there are lists for {', '.join(PUBLISHED)}, none for {family}; use cka:0.5")
    published, removed = PUBLISHED[family]
    if depth != published:
        raise BadInput(
            f"--prune cka:paper: the list is for a {family} of {published} layers, this one has {depth}; use cka:0.5"
        )
    return removed
