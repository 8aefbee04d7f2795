"""Every stream on a CPU is served, in the thread whose it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

from lstm_bridge.core import native
from lstm_bridge.torch import nn

pytestmark = pytest.mark.skipif(
    not native.status().serves, reason=f"the fused kernel does not serve: {native.status().reason}"
)
STREAMS: list[Callable[[mx.Device], Any]] = [
    mx.default_stream,
    mx.new_stream,
    mx.new_thread_local_stream,
    mx.new_thread_unsafe_stream,
]


def work() -> list[Any]:
    """What is computed at the call, what is left to the stream, and a gradient."""
    model = nn.LSTM(16, 32, num_layers=2, bidirectional=True)
    model.update({name: a * 0 + 0.1 for name, a in model.parameters().items()})
    small = mx.arange(96.0).reshape(3, 2, 16) / 96
    large = mx.broadcast_to(small[:, :1], (3, 200, 16)) + 0
    slope = mx.grad(lambda x: model(x)[0].square().sum())(large)
    mx.eval(small)
    return [model(small)[0].tolist(), model(large)[0].tolist(), slope.tolist()]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in another thread"])
def test_streams(stream: Callable[[mx.Device], Any], elsewhere: bool) -> None:
    found: list[Any] = []

    def on_it() -> None:
        with mx.stream(stream(mx.Device(mx.cpu, 0))):
            assert native.serving() is not None
            found.extend(work())

    if elsewhere:
        thread = threading.Thread(target=on_it)
        thread.start()
        thread.join()
    else:
        on_it()
    assert found == work()


def test_a_stream_that_is_one_per_thread() -> None:
    """Made in one thread, used in three."""
    stream, found = mx.new_thread_local_stream(mx.cpu), []

    def on_it() -> None:
        with mx.stream(stream):
            found.append(work())

    threads = [threading.Thread(target=on_it) for _ in range(2)]
    for thread in threads:
        thread.start()
    on_it()
    for thread in threads:
        thread.join()
    assert found == [work()] * 3
