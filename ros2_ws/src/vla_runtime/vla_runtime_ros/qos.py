"""Quality of service of every kind of stream, in one place, with the reason for each."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _keep(depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


COMPRESSED_IMAGE = _keep(1, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
"""A JPEG fits into a few packets, so best effort loses next to none and never waits; only the newest counts."""

RAW_IMAGE = _keep(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""A raw image is many packets: best effort loses most images on a loopback, reliable delivers them all, later."""

IMAGE_SOURCE = _keep(2, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""What a camera offers: a reliable writer serves reliable and best-effort readers alike."""

JOINT_STATE_SOURCE = _keep(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

JOINT_STATE = _keep(50, ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE)
"""A stream with a next sample in 10 ms: a lost one is not worth waiting for."""

CHUNK = _keep(5, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""Few and precious, but an old one is worth nothing to who comes late; deep enough that a second policy's chunks cannot
push out those of the one that is followed."""

HEARTBEAT = _keep(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""Without a deadline or a lease of DDS's own: an endpoint that offers less is not connected at all, without a word, and
their clock is not the one by which the arm's watchdogs judge."""

TASK = _keep(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""Volatile, or `ros2 topic pub` with its defaults would not be heard."""

STATE = _keep(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.TRANSIENT_LOCAL)
"""Published on change only: who comes late must still learn the present state, and changes that follow each other
closely must all arrive."""

DIAGNOSTICS = _keep(10, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)

DRIVER_COMMAND = _keep(1, ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE)
"""What the arm's drivers ask for; of targets, only the newest counts."""
