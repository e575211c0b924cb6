import threading

import numpy as np
import pytest

from vla_runtime_ros.observation_buffer import Matching, NotReadyError, ObservationBuffer


def buffer(timeout: float = 0.5) -> ObservationBuffer[str]:
    return ObservationBuffer(("side", "wrist"), Matching(timeout))


def filled() -> ObservationBuffer[str]:
    observations = buffer()
    for i in range(100):
        observations.put_state(9.0 + i * 0.01, np.full(7, 9.0 + i * 0.01), 9.0)
    observations.put_image("side", 9.90, "s1", 9.9)
    observations.put_image("wrist", 9.80, "w1", 9.9)
    return observations


def test_the_stamp_is_the_oldest_images_and_the_joints_are_those_of_that_moment() -> None:
    snapshot = filled().snapshot(10.0)
    assert snapshot.stamp == 9.80
    assert snapshot.images == {"side": "s1", "wrist": "w1"}
    np.testing.assert_allclose(snapshot.state, 9.80, atol=1e-9)


def test_the_joints_are_those_between_two_measurements() -> None:
    observations = buffer()
    for stamp in (9.7, 9.9):
        observations.put_state(stamp, np.full(7, 10 * stamp), stamp)
    observations.put_image("side", 9.75, "s", 9.9)
    observations.put_image("wrist", 9.85, "w", 9.9)
    np.testing.assert_allclose(observations.snapshot(9.9).state, 97.5, atol=1e-9)


def test_an_offset_moves_a_cameras_images_on_the_joints_clock() -> None:
    observations = ObservationBuffer[str](("side", "wrist"), Matching(0.5, offsets={"side": -0.05}))
    for i in range(100):
        observations.put_state(9.0 + i * 0.01, np.full(7, 9.0 + i * 0.01), 9.0)
    observations.put_image("side", 9.85, "s", 9.9)
    observations.put_image("wrist", 9.82, "w", 9.9)
    snapshot = observations.snapshot(9.95)
    assert snapshot.stamp == pytest.approx(9.80)
    np.testing.assert_allclose(snapshot.state, 9.80, atol=1e-9)
    assert snapshot.spread == pytest.approx(0.02)
    assert observations.stamps() == pytest.approx({"side": 9.80, "wrist": 9.82})


def test_other_offsets_forget_the_images_and_other_tolerances_do_not() -> None:
    observations = filled()
    observations.match(Matching(0.5, 0.2))
    observations.check(10.0)
    observations.match(Matching(0.5, 0.2, {"side": 0.01}))
    with pytest.raises(NotReadyError, match="no image of camera side"):
        observations.check(10.0)


def test_of_a_fast_camera_the_image_taken_with_the_slow_ones_newest() -> None:
    observations = filled()
    for i in range(10):
        observations.put_image("side", 9.90 + i * 0.01, f"s{i}", 9.99)
    observations.put_image("wrist", 9.931, "w2", 9.99)
    snapshot = observations.snapshot(10.0)
    assert snapshot.images == {"side": "s3", "wrist": "w2"}
    assert (snapshot.stamp, snapshot.spread) == (pytest.approx(9.93), pytest.approx(0.001))
    assert not observations.wait_fresh(0.0)  # the slow one has nothing new
    observations.put_image("wrist", 9.96, "w3", 10.0)
    assert observations.wait_fresh(0.0)
    assert observations.figures(10.0)["camera_spread_s"] == pytest.approx(0.001)


def test_cameras_too_far_apart_are_named_with_what_lies_between_them() -> None:
    observations = ObservationBuffer[str](("side", "wrist"), Matching(0.5, 0.08))
    observations.put_state(9.85, np.zeros(7), 9.9)
    observations.put_image("side", 9.90, "s1", 9.9)
    observations.put_image("wrist", 9.80, "w1", 9.9)
    with pytest.raises(NotReadyError, match=r"cameras wrist and side are 0\.100 s apart, more than 0\.08 s"):
        observations.snapshot(10.0)
    assert observations.figures(10.0)["camera_spread_s"] == pytest.approx(0.1)


def test_a_clock_that_was_set_back_is_followed() -> None:
    observations = filled()
    observations.snapshot(10.0)
    for stamp in (5.0, 5.1):
        observations.put_state(stamp, np.full(7, stamp), 5.1)
        observations.put_image("side", stamp, f"s{stamp}", 5.1)
        observations.put_image("wrist", stamp, f"w{stamp}", 5.1)
    assert observations.wait_fresh(0.0)
    assert observations.snapshot(5.1).images == {"side": "s5.1", "wrist": "w5.1"}


def test_an_older_image_does_not_replace_a_newer_one() -> None:
    observations = filled()
    observations.put_image("side", 9.85, "late", 10.0)
    assert observations.snapshot(10.0).images["side"] == "s1"


def test_what_is_missing_is_named() -> None:
    observations = buffer()
    with pytest.raises(NotReadyError, match="camera side"):
        observations.check(0.0)
    observations.put_image("side", 1.0, "s", 1.0)
    with pytest.raises(NotReadyError, match="camera wrist"):
        observations.snapshot(1.0)
    observations.put_image("wrist", 1.0, "w", 1.0)
    with pytest.raises(NotReadyError, match="joint state"):
        observations.snapshot(1.0)


def test_what_is_stale_is_named_with_its_age() -> None:
    observations = filled()
    observations.check(10.3)
    with pytest.raises(NotReadyError, match=r"camera wrist is 0\.60 s old"):
        observations.check(10.4)
    observations.put_image("wrist", 10.4, "w", 10.4)
    observations.put_image("side", 10.4, "s", 10.4)
    observations.check(10.45)
    with pytest.raises(NotReadyError, match="joint state is"):
        observations.check(10.6)


def test_a_stamp_from_the_future_is_a_clock_that_disagrees() -> None:
    observations = filled()
    observations.put_image("side", 10.2, "s", 10.0)
    with pytest.raises(NotReadyError, match="synchronise the clocks"):
        observations.snapshot(10.0)


def test_joints_of_another_moment_are_not_taken() -> None:
    observations = buffer()
    observations.put_image("side", 10.0, "s", 10.0)
    observations.put_image("wrist", 10.0, "w", 10.0)
    observations.put_state(10.51, np.zeros(7), 10.51)
    with pytest.raises(NotReadyError, match="no joint state within"):
        observations.snapshot(10.49)


def test_fresh_means_every_camera_spoke_since_the_last_snapshot() -> None:
    observations = filled()
    assert observations.wait_fresh(0.0)
    observations.snapshot(10.0)
    assert not observations.wait_fresh(0.0)
    observations.put_image("side", 10.0, "s2", 10.0)
    assert not observations.wait_fresh(0.0)
    observations.put_image("wrist", 10.0, "w2", 10.0)
    assert observations.wait_fresh(0.0)


def test_whoever_waits_is_woken_by_the_image_he_lacks() -> None:
    observations = buffer()
    observations.put_image("side", 1.0, "s", 1.0)
    woken: list[bool] = []
    waiting = threading.Thread(target=lambda: woken.append(observations.wait_fresh(10.0)))
    waiting.start()
    observations.put_image("wrist", 1.0, "w", 1.0)
    waiting.join(5.0)
    assert woken == [True]


def test_figures_name_every_input() -> None:
    figures = filled().figures(10.0)
    assert figures["side_age_s"] == pytest.approx(0.1)
    assert figures["wrist_age_s"] == pytest.approx(0.2)
    assert "camera_spread_s" not in figures  # nothing was matched yet
    assert set(figures) == {f"{name}_{what}" for name in ("side", "wrist", "joints") for what in ("rate_hz", "age_s")}
