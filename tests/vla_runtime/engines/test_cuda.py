"""The CUDA driver, where there is one; where there is none, that is said."""

from __future__ import annotations

import numpy as np
import pytest

from vla_runtime.engines import cuda
from vla_runtime.errors import WorkFailed

reason = cuda.missing()


@pytest.mark.skipif(reason is None, reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    assert "GPU" in reason or "CUDA" in reason
    with pytest.raises(WorkFailed, match="CUDA cannot be used"):
        cuda.Driver()


@pytest.mark.gpu
@pytest.mark.skipif(reason is not None, reason=str(reason))
def test_what_goes_up_comes_down():
    driver = cuda.Driver()
    assert driver.device_name
    assert float(driver.compute_capability) >= 5
    stream = driver.new_stream()
    sent = np.arange(1000, dtype=np.float32).reshape(10, 100)
    pointer = driver.allocate(sent.nbytes)
    driver.upload(sent, pointer, stream)
    received = driver.download(pointer, sent.shape, np.float32, stream)
    driver.synchronise(stream)
    assert np.array_equal(received, sent)
    driver.free(pointer)
    driver.delete_stream(stream)
