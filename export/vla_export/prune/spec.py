"""What ``--prune`` may say.

The grammar, where a comma begins another step if a method's name and a colon follow it, and another part if not::

    SPEC    = STEP {"," STEP}              given once or several times
    STEP    = METHOD ":" PART {"," PART}
    cka     = FRACTION | STACK=FRACTION {"," STACK=FRACTION} | "paper"
    gate    = FRACTION | STACK=FRACTION {"," STACK=FRACTION}
    gate-kv = FRACTION
    divergence = ("light" | "moderate" | "aggressive" | RATIO | MODULE=RATIO {"," MODULE=RATIO}) ["," "absolute"]
    auto    = (T | "flops="T | "latency="T) ["," "depth="("cka" | "gate" | "gate-kv")]

FRACTION, RATIO and T lie between 0 and 1. STACK is the name of a stack, ``vlm`` being the language model's; MODULE is
STACK.mlp or STACK.heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from vla_runtime.errors import BadInput

Fractions = float | Mapping[str, float]
DepthScore = Literal["cka", "gate", "gate-kv"]
Preset = Literal["light", "moderate", "aggressive"]
Measure = Literal["flops", "latency"]
_Word = TypeVar("_Word", bound=str)

_ALIASES = {"vlm": "language"}
_UNITS = ("mlp", "heads")
_PRESETS: tuple[Preset, ...] = get_args(Preset)
_MEASURES: tuple[Measure, ...] = get_args(Measure)
_SCORES: tuple[DepthScore, ...] = get_args(DepthScore)
_FORMS = {
    "cka": "expected cka:FRACTION with 0 < FRACTION < 1, for example cka:0.5, or cka:vlm=0.5,expert=0.33 or cka:paper",
    "gate": "expected gate:FRACTION with 0 < FRACTION < 1, for example gate:0.5, or gate:vlm=0.5,expert=0.33",
    "gate-kv": "expected gate-kv:FRACTION with 0 < FRACTION < 1, for example gate-kv:0.5",
    "divergence": "expected divergence:light, moderate, aggressive, a ratio as divergence:0.2, or modules as "
    "divergence:language.mlp=0.3,vision.heads=0.1, and after any of them absolute",
    "auto": "expected auto:T with 0 < T < 1, for example auto:0.6, auto:flops=0.6 or auto:latency=0.6, and after it "
    "depth=cka, depth=gate or depth=gate-kv",
}


@dataclass(frozen=True)
class CkaDepth:
    """Remove layers whose hidden states are alike before and after, by centred kernel alignment.

    fractions: of the layers of every coupled group, or of single stacks.
    """

    fractions: Fractions

    def __str__(self) -> str:
        return f"cka:{_written(self.fractions)}"


@dataclass(frozen=True)
class PublishedDepth:
    """Remove the layers that the paper on CKA depth (arXiv 2606.20246) lists for the family."""

    def __str__(self) -> str:
        return "cka:paper"


@dataclass(frozen=True)
class GateDepth:
    """Remove the layers that the loss is least sensitive to (arXiv 2606.27755).

    fractions: as `CkaDepth.fractions`. keep_memory: language layers lose all but their keys and values, which the
    expert goes on reading at its whole depth.
    """

    fractions: Fractions
    keep_memory: bool

    def __str__(self) -> str:
        return f"gate{'-kv' if self.keep_memory else ''}:{_written(self.fractions)}"


@dataclass(frozen=True)
class DivergenceWidth:
    """Remove channels and heads by how far training has moved them (arXiv 2606.31382).

    Either ``preset``, the paper's ratios, or ``ratios``: one for every module that may be pruned, or by module, as
    ``language.mlp``. absolute: rank by the distance itself, not relative to the base weights.
    """

    preset: Preset | None
    ratios: float | Mapping[str, float]
    absolute: bool

    def __str__(self) -> str:
        amount = _written(self.ratios) if self.preset is None else self.preset
        return f"divergence:{amount}{',absolute' if self.absolute else ''}"


@dataclass(frozen=True)
class AutoPrune:
    """Search depth and width for the smallest action error at ``target``, a fraction of the unpruned ``measure``.

    depth: the score by which layers are proposed.
    """

    target: float
    measure: Measure
    depth: DepthScore

    def __str__(self) -> str:
        return f"auto:{self.measure}={self.target:g},depth={self.depth}"


DepthStep = CkaDepth | PublishedDepth | GateDepth
PruneStep = DepthStep | DivergenceWidth | AutoPrune


def parse_prune(*specs: str) -> list[PruneStep]:
    """Every ``--prune`` of a command line → its steps: depth in the order given, then width.

    Raises `BadInput` naming the part that cannot be meant, a method that is given twice, and for ``auto``, which
    decides on depth and width itself, with anything beside it.
    """
    steps: list[PruneStep] = []
    methods: list[str] = []
    for spec in specs:
        for method, parts in _split(spec):
            if method in methods:
                raise BadInput(f"--prune {spec}: {method} is given twice; give one amount")
            methods.append(method)
            steps.append(_STEPS[method](f"--prune {method}:{','.join(parts)}", parts))
    if "auto" in methods and len(methods) > 1:
        raise BadInput(f"--prune {','.join(specs)}: auto chooses depth and width itself; leave the other methods out")
    return sorted(steps, key=lambda step: isinstance(step, DivergenceWidth))


def _split(spec: str) -> Iterator[tuple[str, list[str]]]:
    """The methods of one ``--prune``, each with its parts."""
    method, parts = "", list[str]()
    for word in (word.strip() for word in spec.split(",")):
        name, colon, first = word.partition(":")
        if (colon and name not in _FORMS) or (not colon and not method):
            known = ", ".join(_FORMS)
            wrong = f"{name} needs an amount" if name in _FORMS else f"unknown method; known are {known}"
            raise BadInput(f"--prune {word or '(empty)'}: {wrong}; {_FORMS.get(name, _FORMS['cka'])}")
        if colon:
            if method:
                yield method, parts
            method, parts = name, [first.strip()]
        else:
            parts.append(word)
    yield method, parts


def _cka(text: str, parts: Sequence[str]) -> PruneStep:
    if list(parts) == ["paper"]:
        return PublishedDepth()
    return CkaDepth(_fractions(text, parts, _FORMS["cka"]))


def _gate(text: str, parts: Sequence[str]) -> PruneStep:
    return GateDepth(_fractions(text, parts, _FORMS["gate"]), keep_memory=False)


def _gate_kv(text: str, parts: Sequence[str]) -> PruneStep:
    form = _FORMS["gate-kv"]
    return GateDepth(_number(text, _only(text, parts, form), form), keep_memory=True)


def _divergence(text: str, parts: Sequence[str]) -> PruneStep:
    form = _FORMS["divergence"]
    absolute = parts[-1] == "absolute"
    amounts = parts[:-1] if absolute else parts
    if not amounts:
        raise BadInput(f"{text}: absolute says how to rank, not how much to remove; {form}")
    preset = _word(amounts[0], _PRESETS) if len(amounts) == 1 else None
    ratios = {} if preset else _fractions(text, amounts, form)
    if isinstance(ratios, Mapping):
        for module in ratios:
            stack, _, unit = module.partition(".")
            if stack in ("expert", "projector"):
                raise BadInput(
                    f"{text}: the {stack} is never narrowed, no trial of it was survived; leave {module} out"
                )
            if not stack or unit not in _UNITS:
                raise BadInput(f"{text}: {module!r} is no module; {form}")
    return DivergenceWidth(preset, ratios, absolute)


def _auto(text: str, parts: Sequence[str]) -> PruneStep:
    form = _FORMS["auto"]
    amount, *options = parts
    name, equals, value = amount.partition("=")
    measure: Measure | None = _word(name, _MEASURES) if equals else "flops"
    if measure is None:
        raise BadInput(f"{text}: {name!r} is no measure; {form}")
    target = _number(text, value if equals else amount, form)
    depth: DepthScore | None = "gate"
    if options:
        name, equals, value = _only(text, options, form).partition("=")
        depth = _word(value, _SCORES) if name == "depth" else None
    if depth is None:
        raise BadInput(f"{text}: {options[0]!r} is no score of depth; {form}")
    return AutoPrune(target, measure, depth)


_STEPS: dict[str, Callable[[str, Sequence[str]], PruneStep]] = {
    "cka": _cka,
    "gate": _gate,
    "gate-kv": _gate_kv,
    "divergence": _divergence,
    "auto": _auto,
}


def _fractions(text: str, parts: Sequence[str], form: str) -> Fractions:
    """One number, or NAME=NUMBER parts, each name once."""
    if "=" not in parts[0]:
        return _number(text, _only(text, parts, form), form)
    found: dict[str, float] = {}
    for part in parts:
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not name:
            raise BadInput(f"{text}: {part or 'nothing'!r} is not NAME=NUMBER; {form}")
        stack, dot, unit = name.partition(".")
        name = f"{_ALIASES.get(stack, stack)}{dot}{unit}"
        if name in found:
            raise BadInput(f"{text}: {name} is given twice; {form}")
        found[name] = _number(text, value, form)
    return found


def _number(text: str, word: str, form: str) -> float:
    try:
        number = float(word)
    except ValueError as error:
        raise BadInput(f"{text}: {word or 'nothing'!r} is not a number; {form}") from error
    if not 0.0 < number < 1.0:
        raise BadInput(f"{text}: {word} is out of range; {form}")
    return number


def _only(text: str, parts: Sequence[str], form: str) -> str:
    if len(parts) > 1:
        raise BadInput(f"{text}: {parts[1] or 'nothing'!r} is one part too many; {form}")
    return parts[0]


def _word(word: str, words: Sequence[_Word]) -> _Word | None:
    return next((known for known in words if known == word), None)


def _written(fractions: Fractions) -> str:
    if isinstance(fractions, Mapping):
        return ",".join(f"{name}={fraction:g}" for name, fraction in fractions.items())
    return f"{fractions:g}"
