from vla_runtime_ros.stop_reason import StopReason


def test_the_first_reason_is_kept() -> None:
    reason = StopReason()
    assert reason.text is None
    assert reason.give("the bus went down")
    assert not reason.give("no feedback")
    assert reason.text == "the bus went down"


def test_a_new_start_forgets_it() -> None:
    reason = StopReason()
    reason.give("deactivated")
    reason.clear()
    assert reason.text is None
    assert reason.give("SIGTERM")
