"""Settings that hold for every test."""

from __future__ import annotations

import os
import random

# Before mlx, torch or keras are imported: Metal's TF32-like paths would blur float32 parity.
os.environ.setdefault("MLX_ENABLE_TF32", "0")
os.environ.setdefault("KERAS_BACKEND", "torch")

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,  # the same cases on every machine; `make sweep` looks for new ones
)
settings.register_profile(
    "sweep", settings.get_profile("default"), max_examples=500, derandomize=False
)
settings.load_profile(os.environ.get("LSTM_BRIDGE_PROFILE", "default"))


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    """Small tensors on many threads cost more than they give, and xdist already fills the cores."""
    torch = pytest.importorskip("torch", reason="parity tests need the live framework")
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test starts from the same random state, whatever ran before it in its process."""
    random.seed(0)
    np.random.seed(0)
    mx.random.seed(0)
    torch = pytest.importorskip("torch", reason="parity tests need the live framework")
    torch.manual_seed(0)
