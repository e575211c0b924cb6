"""What single linears become when their branches are merged, and how much of the branches that loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vla_export.adapters.adapter import Branch
from vla_export.adapters.covariance import SAMPLE, WIDEST, TokenStatistics
from vla_export.adapters.layer_tokens import Receive, Tokens, layer_tokens
from vla_export.adapters.least_squares import Affine
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.flow_model import FlowModel
from vla_export.progress import Advance
from vla_export.sample import Sample, sample_actions
from vla_runtime.errors import WorkFailed

# Shares of the mean variance of an input; the one that is best on held-out tokens is taken. Tens of thousands of tokens
# of a narrow linear need next to none. With the largest, a few tokens leave little more than the merge by mean scores.
RIDGES = (1e-4, 1e-2, 1.0, 1e2)
# Bytes of statistics that are gathered at once; more linears take further passes over the samples.
MEMORY = 2 << 30


@dataclass(frozen=True)
class StaticFit:
    """The affine map that a linear's branch becomes, B (K x + k), and what that loses on held-out tokens.

    affine: K and k, float32. ridge: that of the fit, of `RIDGES`. residual: E‖f(x) − B K x − B k‖² / E‖f(x)‖², with f
    the branch. residual_mean_scores: the same for B diag(E gates) A, the merge by mean scores. share: E‖f(x)‖² / E‖y‖²,
    with y the linear's whole output. tokens: seen in calibration; fitted: of them, those the fit is made from;
    held_out: those that judged. computed: per sample, padding included.
    """

    affine: Affine
    ridge: float
    residual: float
    residual_mean_scores: float
    share: float
    tokens: int
    fitted: int
    held_out: int
    computed: float


def routed_linears(model: FlowModel) -> dict[str, RoutedLinear]:
    """Every linear of a policy that carries a branch, by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, RoutedLinear)}


def gated_directions(x: Tensor, branch: Branch) -> tuple[Tensor, Tensor]:
    """x (n, in) → g(x) = (A x) ⊙ gates, which B makes the branch of, and the gates; both (n, directions), float32."""
    x = x.float()
    gates = branch.gating(F.linear(x, branch.router.float()))
    return F.linear(x, branch.A.float()) * gates, gates


def fit_static(
    model: FlowModel,
    calibration: Sequence[Sample],
    held_out: Sequence[Sample],
    flow_steps: int,
    progress: Advance | None = None,
    memory: int = MEMORY,
) -> dict[str, StaticFit]:
    """Fit every branch of ``model`` on the calibration samples and judge it on the held-out ones, by path.

    Every linear is fitted to its own inputs in the policy whose branches are all exact, with the ridge that is best on
    the held-out tokens. So many linears are taken at a time that their statistics stay within ``memory`` bytes, each
    time over all samples; ``progress`` is called after each sample, `passes` times the number of samples in all.

    Raises WorkFailed, naming the linear, where one never runs, or its inputs are not finite.
    """
    linears = routed_linears(model)
    found: dict[str, StaticFit] = {}
    for paths in _together(model, memory):
        branches = {path: linears[path].branch for path in paths}
        gathered = {path: _Gathered(path, branch) for path, branch in branches.items()}
        _run(model, {path: part.receive for path, part in gathered.items()}, calibration, flow_steps, progress)
        judges = {path: _Judge(branches[path], gathered.pop(path)) for path in paths}
        _run(model, {path: judge.receive for path, judge in judges.items()}, held_out, flow_steps, progress)
        found |= {path: judge.verdict(path, len(held_out)) for path, judge in judges.items()}
    return {path: found[path] for path in linears}


def passes(model: FlowModel, memory: int = MEMORY) -> int:
    """How often `fit_static` runs every sample."""
    return len(list(_together(model, memory)))


def _together(model: FlowModel, memory: int) -> Iterator[list[str]]:
    """Paths whose statistics fit into ``memory`` together, the largest first; one that alone does not is alone."""
    sizes = {path: _bytes(linear.in_features) for path, linear in routed_linears(model).items()}
    paths: list[str] = []
    for path in sorted(sizes, key=lambda path: -sizes[path]):
        if paths and sum(sizes[p] for p in paths) + sizes[path] > memory:
            yield paths
            paths = []
        paths.append(path)
    if paths:
        yield paths


def _bytes(width: int) -> int:
    return 8 * width * width if width <= WIDEST else 4 * width * SAMPLE


def _run(
    model: FlowModel,
    receivers: Mapping[str, Receive],
    samples: Sequence[Sample],
    flow_steps: int,
    progress: Callable[[], None] | None,
) -> None:
    with layer_tokens(model, receivers):
        for sample in samples:
            sample_actions(model, sample, flow_steps)
            if progress is not None:
                progress()


class _Gathered:
    """What the calibration tokens of one linear leave behind."""

    def __init__(self, path: str, branch: Branch) -> None:
        self.path, self.branch = path, branch
        self.statistics = TokenStatistics(branch.A.shape[1], len(branch.A))
        self.gates = torch.zeros(len(branch.A), dtype=torch.float64)

    def receive(self, tokens: Tokens) -> None:
        if not tokens.x.isfinite().all():
            raise WorkFailed(f"{self.path}: its inputs are not finite on the calibration samples")
        g, gates = gated_directions(tokens.x, self.branch)
        self.statistics.add(tokens.x, g)
        self.gates += gates.double().sum(0)

    def mean_scores(self) -> Tensor:
        """diag(E gates) A, (directions, in), float64."""
        return (self.gates / self.statistics.tokens)[:, None] * self.branch.A.double()


class _Judge:
    """One linear's candidates against its branch, over the held-out tokens."""

    def __init__(self, branch: Branch, gathered: _Gathered) -> None:
        if not gathered.statistics.tokens:
            raise WorkFailed(f"{gathered.path}: carries an adapter but never ran; the policy does not use this linear")
        self.branch = branch
        self.tokens, self.fitted = gathered.statistics.tokens, gathered.statistics.fitted
        mean_scores = gathered.mean_scores()
        fits = gathered.statistics.fit(mean_scores, RIDGES)
        none = mean_scores.new_zeros(len(mean_scores))
        self.candidates = [Affine(a.matrix.float(), a.offset.float()) for a in (*fits, Affine(mean_scores, none))]
        self.metric = branch.B.double().T @ branch.B.double()
        self.lost = [0.0] * len(self.candidates)
        self.update = self.output = 0.0
        self.held_out = self.computed = 0

    def receive(self, tokens: Tokens) -> None:
        g, _ = gated_directions(tokens.x, self.branch)
        self.held_out += len(g)
        self.computed += tokens.computed
        self.update += self._energy(g)
        self.output += float(tokens.y.double().square().sum())
        for n, candidate in enumerate(self.candidates):
            self.lost[n] += self._energy(g - F.linear(tokens.x.float(), candidate.matrix, candidate.offset))

    def verdict(self, path: str, samples: int) -> StaticFit:
        if not self.held_out:
            raise WorkFailed(f"{path}: never ran on the held-out samples, so its merge cannot be judged")
        *fits, mean_scores = [lost / self.update if self.update else 0.0 for lost in self.lost]
        best = min(range(len(fits)), key=lambda n: fits[n])
        return StaticFit(
            affine=self.candidates[best],
            ridge=RIDGES[best],
            residual=fits[best],
            residual_mean_scores=mean_scores,
            share=self.update / self.output if self.output else 0.0,
            tokens=self.tokens,
            fitted=self.fitted,
            held_out=self.held_out,
            computed=self.computed / samples,
        )

    def _energy(self, g: Tensor) -> float:
        """Σ‖B g‖² over tokens, without computing B g."""
        g = g.double()
        return float(((g @ self.metric) * g).sum())
