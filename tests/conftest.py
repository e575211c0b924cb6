"""For every test: threads that wait without spinning, and no deadline, as torch's first call outlasts any."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
