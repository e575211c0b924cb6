"""What can go wrong with the arm and its bus."""

from __future__ import annotations

from tests.faults import injections as do
from tests.faults import refusals
from tests.faults.case import DISABLED, ENABLE, HOLDING, PERIOD, RESUME, STOPPING, Fault, Refusal, harmless, variant
from tests.faults.world import SETTINGS, STEP

_AT_ONCE = 2 * STEP + PERIOD

_SILENT = Fault(
    "CAN bus",
    "",
    do.nothing,
    HOLDING,
    r"^arm feedback is 0\.1\d\d s old, limit 0\.100 s",
    SETTINGS.feedback_timeout + PERIOD,
    "`feedback_timeout`, 0.1 s",
    RESUME,
)
_MOTOR = variant(
    _SILENT, "", do.nothing, group="Motors", within=0.025 + _AT_ONCE, because="status at 40 Hz", mend=do.motors_well
)
_CONTROLLER = variant(
    _MOTOR,
    "",
    do.nothing,
    group="Arm controller",
    within=_AT_ONCE,
    because="status at 200 Hz",
    mend=do.arm(condition=None),
)

CASES: tuple[Fault | Refusal, ...] = (
    variant(_SILENT, "the arm falls silent", do.arm(silent=True), mend=do.arm(silent=False)),
    variant(_SILENT, "everything it says comes 0.3 s late", do.arm(delay=0.3), mend=do.arm(delay=0.0)),
    variant(_SILENT, "cut in both directions", do.arm(silent=True, deaf=True), mend=do.arm(silent=False, deaf=False)),
    variant(
        _SILENT,
        "bus-off",
        do.bus_off,
        reason="^the arm reports the CAN bus is off: nothing reaches the arm$",
        within=_AT_ONCE,
        because="the adapter's error frame",
        mend=do.arm(silent=False, deaf=False),
    ),
    variant(
        _SILENT,
        "no frame is taken",
        do.sends_refused,
        reason="did not take frame 0x151",
        within=2 * PERIOD,
        because="the next command",
        mend=do.sends_taken,
    ),
    variant(
        _SILENT,
        "the arm hears nothing and still speaks",
        do.arm(deaf=True),
        state=STOPPING,
        reason=r"^joint\d is 0\.3\d rad from its command, limit 0\.30 rad$",
        within=1.0,
        because="0.3 rad at the speed of the motion",
        mend=do.arm(deaf=False),
    ),
    variant(
        _SILENT,
        "its posture is frozen, with fresh frames",
        do.arm(frozen=True),
        state=STOPPING,
        reason=r"^joint\d is 0\.3\d rad from its command, limit 0\.30 rad$",
        within=1.0,
        because="0.3 rad at the speed of the motion",
        mend=do.arm(frozen=False),
    ),
    harmless("CAN bus", "1000 frames of garbage", do.garbage),
    variant(
        _SILENT,
        "pushed 0.5 rad away, and stuck there",
        do.pushed(0.5),
        group="Arm",
        state=STOPPING,
        reason=r"^joint1 is 0\.\d\d rad from its command, limit 0\.30 rad$",
        within=_AT_ONCE,
        because="feedback at 200 Hz",
        mend=do.released,
    ),
    variant(_MOTOR, "collision protection", do.motor(3, 4), reason="^the arm reports joint 3: collision protection$"),
    variant(_MOTOR, "stalled", do.motor(2, 7), reason="^the arm reports joint 2: stalled$"),
    variant(_MOTOR, "motor too hot", do.motor(1, 1), reason="^the arm reports joint 1: motor too hot$"),
    variant(_MOTOR, "driver too hot", do.motor(5, 3), reason="^the arm reports joint 5: driver too hot$"),
    variant(_MOTOR, "over current", do.motor(6, 2), reason="^the arm reports joint 6: driver over current$"),
    variant(
        _MOTOR, "supply voltage too low", do.motor(4, 0), reason="^the arm reports joint 4: supply voltage too low$"
    ),
    variant(
        _MOTOR,
        "one motor loses its power",
        do.arm(unpowered=0b100),
        state=DISABLED,
        reason="^the arm reports its motors off$",
        goes_on=ENABLE,
        mend=do.arm(unpowered=0),
    ),
    variant(
        _CONTROLLER,
        "emergency stop pressed",
        do.arm(condition=0x01),
        reason="^the arm reports emergency stop$",
    ),
    variant(
        _CONTROLLER,
        "a joint does not communicate",
        do.arm(condition=0x05),
        reason="^the arm reports a joint does not communicate$",
    ),
    variant(_CONTROLLER, "collision", do.arm(condition=0x07), reason="^the arm reports collision$"),
    variant(_CONTROLLER, "too hot", do.arm(condition=0x0E), reason="^the arm reports controller too hot$"),
    Refusal("Arm controller", "firmware too old", refusals.connected("S-V1.4-7"), "speaks another protocol"),
    Refusal("Arm controller", "firmware unreadable", refusals.connected("S-V9.x-1"), "is not a version such as"),
    Refusal("Arm controller", "firmware not told", refusals.connected(""), "did not tell its firmware version"),
)
