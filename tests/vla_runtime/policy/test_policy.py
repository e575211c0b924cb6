"""A whole policy on a toy bundle: observation in, actions in the robot's units out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Unit
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime.policy.policy import Observation, Policy
from vla_runtime.policy.rtc import PreviousChunk, Rtc, RtcForm

STATE = np.array([0.2, 1.1, -0.9, 0.1, -0.2, 0.3, 0.04])


def observation(**changes: Any) -> Observation:
    images = {name: np.full((48, 64, 3), 90, np.uint8) for name in ("side", "wrist")}
    return Observation(**{"images": images, "state": STATE, **changes})


@pytest.fixture
def policy(toy_bundle: Callable[..., Bundle]) -> Policy:
    return thinking(toy_bundle(ramp=0.1))


def thinking(bundle: Bundle, rtc: Rtc | None = None) -> Policy:
    policy = Policy(bundle, OnnxRuntimeEngine(bundle, threads=1), rtc=rtc)
    policy.set_task("reach the red cube")
    return policy


def test_actions_are_in_the_robots_units(policy: Policy) -> None:
    actions = policy.infer(observation())
    assert actions.shape == (16, 7)
    np.testing.assert_allclose(actions[0], STATE, atol=0.02)
    np.testing.assert_allclose(actions[-1, :6] - actions[0, :6], 0.1, atol=0.02)
    np.testing.assert_allclose(actions[:, 6], STATE[6], atol=0.002)


def test_the_same_seed_gives_the_same_actions_and_noise_decides(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle()

    def chunks(seed: int) -> list[NDArray[np.float64]]:
        policy = Policy(bundle, OnnxRuntimeEngine(bundle, threads=1), seed=seed)
        policy.set_task("reach the red cube")
        return [policy.infer(observation()) for _ in range(2)]

    np.testing.assert_array_equal(chunks(3), chunks(3))
    first, second = chunks(3)
    assert not np.array_equal(first, second)
    assert not np.array_equal(chunks(3), chunks(4))


def test_given_noise_replaces_the_drawn_one(policy: Policy) -> None:
    noise = np.zeros((1, 16, 8), np.float32)
    np.testing.assert_array_equal(policy.infer(observation(), noise), policy.infer(observation(), noise))
    with pytest.raises(BadInput, match="noise"):
        policy.infer(observation(), noise[:, :3])


def test_cameras_are_taken_by_name_not_by_order(policy: Policy) -> None:
    noise = np.zeros((1, 16, 8), np.float32)
    dark, light = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    one = policy.infer(observation(images={"side": dark, "wrist": light}), noise)
    other = policy.infer(observation(images={"wrist": light, "side": dark}), noise)
    np.testing.assert_array_equal(one, other)


def test_every_stage_is_timed(policy: Policy) -> None:
    policy.infer(observation())
    counts = {stage: len(policy.spans.seconds(stage)) for stage in policy.spans.stages()}
    assert counts == {"tokens": 1, "images": 1, "state": 1, "encode": 1, "denoise": 5, "actions": 1, "total": 1}


@pytest.mark.parametrize("units", [("deg", "mm"), ("0.001deg", "0.001mm")])
def test_the_robot_never_sees_the_policys_units(toy_bundle: Callable[..., Bundle], units: tuple[Unit, Unit]) -> None:
    """Two policies that differ only in the units they were trained with move the arm alike."""
    noise = np.ones((1, 16, 8), np.float32)
    expected = thinking(toy_bundle("si")).infer(observation(), noise)
    found = thinking(toy_bundle("other", units=units)).infer(observation(), noise)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("units", [("rad", "m"), ("0.001deg", "0.001mm")])
def test_relative_actions_count_from_the_observed_state(
    toy_bundle: Callable[..., Bundle], units: tuple[Unit, Unit]
) -> None:
    noise = np.ones((1, 16, 8), np.float32)
    absolute = thinking(toy_bundle("absolute", units=units)).infer(observation(), noise)
    relative = thinking(toy_bundle("relative", units=units, relative=True)).infer(observation(), noise)
    np.testing.assert_allclose(relative - absolute, np.tile([*STATE[:6], 0], (16, 1)), atol=1e-6)


def test_a_state_in_the_text_is_read_with_every_observation(toy_bundle: Callable[..., Bundle]) -> None:
    policy = thinking(toy_bundle(state_in_text=True))
    assert "tokens" not in policy.spans.stages()
    noise = np.zeros((1, 16, 8), np.float32)
    once, again = (policy.infer(observation(), noise) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    moved = np.where(np.arange(7) == 2, STATE - 0.3, STATE)
    assert not np.array_equal(policy.infer(observation(state=moved), noise), once)
    assert len(policy.spans.seconds("tokens")) == len(policy.spans.seconds("total")) == 3


def test_a_task_too_long_beside_a_state_is_refused_before_there_is_one(toy_bundle: Callable[..., Bundle]) -> None:
    policy = thinking(toy_bundle(state_in_text=True))
    with pytest.raises(BadInput, match="with a state of 8 numbers takes .* at most 96"):
        policy.set_task("x" * 60)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"images": {**observation().images, "overhead": np.zeros((4, 4, 3), np.uint8)}}, "'overhead'.*side, wrist"),
        ({"images": {"side": np.zeros((4, 4, 3), np.uint8)}}, "'wrist' has no image.*side, wrist"),
        ({"images": {**observation().images, "wrist": np.zeros((4, 4, 3))}}, "'wrist'.*uint8"),
        ({"state": STATE[:6]}, "7 numbers .joint1.*gripper"),
        ({"state": np.where(np.arange(7) == 2, np.nan, STATE)}, "not finite: joint3"),
    ],
)
def test_refuses_what_the_policy_was_not_trained_with(policy: Policy, changes: Any, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        policy.infer(observation(**changes))


def test_refuses_to_act_without_a_task(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle()
    with pytest.raises(BadInput, match="no task"):
        Policy(bundle, OnnxRuntimeEngine(bundle, threads=1)).infer(observation())


def test_a_refused_task_leaves_the_old_one(policy: Policy) -> None:
    noise = np.zeros((1, 16, 8), np.float32)
    before = policy.infer(observation(), noise)
    with pytest.raises(BadInput, match="limit"):
        policy.set_task("x" * 10_000)
    np.testing.assert_array_equal(policy.infer(observation(), noise), before)


def test_actions_that_are_not_finite_never_leave(policy: Policy) -> None:
    with pytest.raises(WorkFailed, match="not finite"):
        policy.infer(observation(), np.full((1, 16, 8), np.inf, np.float32))


FORMS: tuple[RtcForm, ...] = ("hard", "identity", "guided")
ELSEWHERE = STATE + np.array([0.3, -0.2, 0.3, 0.2, -0.3, 0.2, 0.02])


@pytest.mark.parametrize("units", [("rad", "m"), ("0.001deg", "0.001mm")])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_chunk_continues_the_former_one(
    toy_bundle: Callable[..., Bundle], form: RtcForm, relative: bool, units: tuple[Unit, Unit]
) -> None:
    """Another noise and another state would lead elsewhere: the frozen actions are, or come nearer to, the former's."""
    policy = thinking(toy_bundle(guided=True, relative=relative, units=units), Rtc(form))
    former = policy.infer(observation(), np.ones((1, 16, 8), np.float32))
    moved = observation(state=ELSEWHERE)
    noise = np.full((1, 16, 8), -1, np.float32)
    free = policy.infer(moved, noise)
    previous = PreviousChunk(former[4:], frozen=3)
    found = policy.infer(moved, noise, previous)
    scale = np.array([0.3, 0.4, 0.4, 0.3, 0.3, 0.3, 0.02])
    if form == "hard":
        np.testing.assert_array_equal(found[:3], former[4:7])
        np.testing.assert_allclose(found[3:], free[3:], rtol=1e-6)
    else:
        nearer = np.abs(found - former[4:7].mean(0)) / scale
        assert (nearer[:3] < 0.98 * (np.abs(free - former[4:7].mean(0)) / scale)[:3]).all()
    np.testing.assert_allclose(found[12:], free[12:], atol=1e-6)


def test_the_gradient_makes_a_difference(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle(guided=True)
    noise = np.ones((1, 16, 8), np.float32)
    previous = PreviousChunk(np.tile(ELSEWHERE, (12, 1)), frozen=3)
    identity, guided = (
        thinking(bundle, Rtc(form)).infer(observation(), noise, previous) for form in ("identity", "guided")
    )
    assert np.abs(identity - guided)[:3].max() > 0.01


@pytest.mark.parametrize("form", FORMS)
def test_without_a_former_chunk_nothing_is_continued(toy_bundle: Callable[..., Bundle], form: RtcForm) -> None:
    bundle = toy_bundle(guided=True)
    noise = np.ones((1, 16, 8), np.float32)
    np.testing.assert_array_equal(
        thinking(bundle, Rtc(form)).infer(observation(), noise), thinking(bundle).infer(observation(), noise)
    )


def test_guided_is_refused_where_there_is_no_graph_for_it(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle()
    with pytest.raises(BadInput, match="fp32 cannot do guided real-time chunking: export the bundle with --rtc"):
        thinking(bundle, Rtc("guided"))
    for form in ("hard", "identity"):
        thinking(bundle, Rtc(form))


def test_a_former_chunk_is_never_ignored(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle()
    with pytest.raises(BadInput, match="opened without real-time chunking"):
        thinking(bundle).infer(observation(), previous=PreviousChunk(np.tile(STATE, (4, 1)), 1))
    with pytest.raises(BadInput, match="6 numbers per action, the policy's have 7"):
        thinking(bundle, Rtc("hard")).infer(observation(), previous=PreviousChunk(np.tile(STATE[:6], (4, 1)), 1))


def test_a_former_chunk_that_outlasts_the_new_one_freezes_all_of_it(toy_bundle: Callable[..., Bundle]) -> None:
    former = np.tile(ELSEWHERE, (40, 1))
    found = thinking(toy_bundle(), Rtc("hard")).infer(observation(), previous=PreviousChunk(former, frozen=30))
    np.testing.assert_array_equal(found, former[:16])
