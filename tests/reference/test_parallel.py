from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from reference.parallel import run_in_processes
from tests.reference.sharing import share


@pytest.mark.parametrize(
    ("count", "gradients", "number"),
    [(1, (1.0, 2.0), 10.0), (2, (1.5, 3.0), 10.0)],
)
def test_every_process_gets_the_mean_gradient_and_the_firsts_number(
    count: int, gradients: tuple[float, float], number: float, tmp_path: Path
) -> None:
    run_in_processes(count, partial(share, tmp_path))
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {str(rank): repr((count, *gradients, number)) for rank in range(count)}
