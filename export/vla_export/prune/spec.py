"""What ``--prune`` may say."""

from __future__ import annotations

from dataclasses import dataclass

from vla_runtime.errors import BadInput

_FORMS = "expected cka:FRACTION with 0 < FRACTION < 1, for example cka:0.5"


@dataclass(frozen=True)
class CkaDepth:
    """Remove this fraction of the layers, chosen by centred kernel alignment."""

    fraction: float


PruneStep = CkaDepth


def parse_prune(spec: str) -> list[PruneStep]:
    """``cka:0.5``, or several such joined by commas → steps in the order given.

    Raises BadInput for anything else, and for a method given twice.
    """
    steps: list[PruneStep] = []
    for item in spec.split(","):
        step = _parse_step(item.strip())
        if any(type(step) is type(other) for other in steps):
            raise BadInput(f"--prune {spec}: cka is given twice; give one fraction")
        steps.append(step)
    return steps


def _parse_step(item: str) -> PruneStep:
    method, _, amount = item.partition(":")
    if method == "divergence":
        raise BadInput(f"--prune {item}: divergence pruning is not available yet; {_FORMS}")
    if method != "cka":
        raise BadInput(f"--prune {item or '(empty)'}: unknown method; {_FORMS}")
    try:
        fraction = float(amount)
    except ValueError as error:
        raise BadInput(f"--prune {item}: {amount or 'nothing'!r} is not a number; {_FORMS}") from error
    if not 0.0 < fraction < 1.0:
        raise BadInput(f"--prune {item}: {amount} is out of range; {_FORMS}")
    return CkaDepth(fraction)
