import ipaddress
from pathlib import Path

import can
import pytest

from vla_runtime.arms.can_bus import CanSpec, isolate, open_bus, parse_spec
from vla_runtime.errors import BadInput, WorkFailed


def message(identifier=0x155):
    return can.Message(arbitration_id=identifier, data=bytes(8), is_extended_id=False)


def test_every_form_names_its_interface():
    assert parse_spec("can0") == CanSpec("socketcan", "can0")
    assert parse_spec("virtual:bench") == CanSpec("virtual", "bench")
    assert parse_spec("udp:bench").interface == "udp_multicast"


def test_a_udp_group_stays_on_the_machine_and_depends_on_the_name():
    group = ipaddress.IPv6Address(parse_spec("udp:a").channel)
    assert group.is_multicast
    assert group.packed[:2] == b"\xff\x11"  # transient, interface-local scope
    assert parse_spec("udp:a") == parse_spec("udp:a")
    assert parse_spec("udp:a") != parse_spec("udp:b")


@pytest.mark.parametrize(
    "spec", ["", "udp:", "virtual:", "tcp:a", "udp:a b", "can0:1", "../can0", "a" * 16, "239.1.1.1"]
)
def test_a_bad_spec_is_refused_with_the_allowed_forms(spec):
    with pytest.raises(BadInput, match=r"'can0'.*'virtual:NAME'.*'udp:NAME'"):
        parse_spec(spec)


def test_a_bus_that_does_not_exist_fails_with_the_remedy():
    with pytest.raises(WorkFailed, match="sudo ip link set nosuchcan up type can bitrate 1000000"):
        open_bus("nosuchcan")


def test_udp_groups_do_not_hear_each_other_and_peers_do():
    with open_bus("udp:one") as one, open_bus("udp:one") as peer, open_bus("udp:two") as other:
        one.send(message())
        assert peer.recv(2).arbitration_id == 0x155
        other.send(message(0x156))
        assert other.recv(2).arbitration_id == 0x156  # heard itself, so what was sent to "one" has long passed by
        assert other.recv(0) is None


def test_without_isolation_groups_do_hear_each_other():
    """Why `isolate` exists; when this fails, python-can or Linux has changed and `isolate` may go."""
    spec = parse_spec("udp:leak")
    with (
        can.Bus(interface="udp_multicast", channel=spec.channel) as leaky,
        open_bus("udp:source") as source,
    ):
        source.send(message())
        assert leaky.recv(2) is not None
        isolate(leaky, spec)
        source.send(message(0x156))
        leaky.send(message(0x157))
        assert leaky.recv(2).arbitration_id == 0x157


def test_udp_frames_never_leave_the_machine():
    def transmitted():
        lines = [line.split(":") for line in Path("/proc/net/dev").read_text().splitlines() if ":" in line]
        return {name.strip(): int(fields.split()[9]) for name, fields in lines if name.strip() != "lo"}

    with open_bus("udp:quiet") as bus:
        before = transmitted()
        for _ in range(5000):
            bus.send(message())
        after = transmitted()
    assert all(after[name] - before[name] < 2500 for name in before)  # the machine's own traffic goes on meanwhile


def test_virtual_buses_of_one_name_meet():
    with open_bus("virtual:meet") as a, open_bus("virtual:meet") as b:
        a.send(message())
        assert b.recv(1).arbitration_id == 0x155
