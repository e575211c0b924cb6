"""What adapters compute, written from the papers' and releases' formulas: loops over tokens, experts and numbers.

Everything is Python's double precision. A token is a list of numbers, a matrix a list of rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = Sequence[float]
Matrix = Sequence[Vector]


def times(matrix: Matrix, x: Vector) -> list[float]:
    return [sum(m * v for m, v in zip(row, x, strict=True)) for row in matrix]


def kept_by_energy(scores: Vector, threshold: float, semantics: str) -> set[int]:
    """The kept directions of one token; ``sorted`` is stable, so of equal scores the lower index comes first."""
    order = sorted(range(len(scores)), key=lambda n: -scores[n])
    total = sum(s * s for s in scores)
    kept = {order[0]}
    energy = scores[order[0]] ** 2
    for n in order[1:]:
        if semantics == "paper" and energy >= threshold * total:
            break
        energy += scores[n] ** 2
        if semantics == "released" and energy > threshold * total:
            break
        kept.add(n)
    return kept


def lora_sp(x: Vector, A: Matrix, B: Matrix, scores: Vector, scale: float, threshold: float, semantics: str) -> Vector:
    """scale · B ((A x) ⊙ keep ⊙ s), from the scores on."""
    if semantics == "paper":
        scores = [max(s, 0.0) for s in scores]
    kept = kept_by_energy(scores, threshold, semantics)
    down = times(A, x)
    gated = [down[n] * scores[n] if n in kept else 0.0 for n in range(len(scores))]
    return [scale * y for y in times(B, gated)]


def softmax(scores: Vector) -> list[float]:
    weights = [math.exp(s - max(scores)) for s in scores]
    return [w / sum(weights) for w in weights]


def best(values: Vector, count: int) -> list[int]:
    return sorted(range(len(values)), key=lambda n: -values[n])[:count]


def release_gates(scores: Vector, routing: str) -> list[float]:
    """One gate per expert, as LoRA-SP's release makes them."""
    gates = softmax(scores)
    if routing == "top1":
        return [1.0 if n in best(gates, 1) else 0.0 for n in range(len(gates))]
    if routing == "top2":
        kept = [g if n in best(gates, 2) else 0.0 for n, g in enumerate(gates)]
        return [k / (sum(kept) + 1e-9) for k in kept]
    return gates


def mixture(x: Vector, A: Sequence[Matrix], B: Sequence[Matrix], router: Matrix, scale: float, routing: str) -> Vector:
    """Σ_e gate_e · scale · B_e A_e x."""
    gates = release_gates(times(router, x), routing)
    result = [0.0] * len(B[0])
    for gate, down, up in zip(gates, A, B, strict=True):
        for n, y in enumerate(times(up, times(down, x))):
            result[n] += gate * scale * y
    return result


def gse(
    x: Vector,
    A: Sequence[Matrix],
    B: Sequence[Matrix],
    scales: Vector,
    router: Matrix,
    generalised: int,
    top_k: int,
) -> Vector:
    """Generalised experts, then the specialised ones that the router puts first."""
    outputs = [[c * y for y in times(up, times(down, x))] for c, down, up in zip(scales, A, B, strict=True)]
    weights = [1.0 / generalised for _ in range(generalised)]
    gates = softmax(times(router, x))
    chosen = best(gates, top_k)
    weights += [g / sum(gates[n] for n in chosen) if e in chosen else 0.0 for e, g in enumerate(gates)]
    return [sum(w * y[n] for w, y in zip(weights, outputs, strict=True)) for n in range(len(B[0]))]
