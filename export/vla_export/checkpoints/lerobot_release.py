"""Which of LeRobot's releases since 0.4 wrote a π0 or π0.5: what they compute changed, what they save did not."""

from __future__ import annotations

from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.key_map import KeyMap

_SINCE_0_5_1 = "use_relative_actions"


def is_0_4(contents: Contents, keys: KeyMap) -> bool:
    """Whether 0.4.0 to 0.4.4 wrote it.

    From 0.5.1 on the config has a field more. 0.5.0 writes the fields and processors of 0.4.4, but no longer ties the
    language model's head to its embedding: its weights hold both, those of 0.4 one of the two.
    """
    if _SINCE_0_5_1 in contents.config:
        return False
    stored = {keys.newest(name) for name in contents.tensors}
    return not all({one, other} <= stored for one, other in keys.stand_ins.items())
