"""Tests of the fused kernel need it, or say why it is not there."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from lstm_bridge.core import native

for _name in ("ways", "conditioning", "problems", "one_state", "judging"):
    _spec = spec_from_file_location(f"native_{_name}", Path(__file__).with_name(f"{_name}.py"))
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[f"native_{_name}"] = module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[f"native_{_name}"])

STATUS = native.status()


@pytest.fixture(params=STATUS.variants or ("none",))
def variant(request: pytest.FixtureRequest) -> str:
    """Every instruction set's code that this processor runs, in force."""
    if not STATUS.serves:
        pytest.skip(f"the fused kernel does not serve: {STATUS.reason}")
    with native.using(request.param):
        yield request.param
