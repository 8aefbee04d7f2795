"""The kernel's threads in forked processes, in several Python threads, and at a process's end."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from lstm_bridge.core import native

pytestmark = [
    pytest.mark.skipif(
        not native.status().serves,
        reason=f"the fused kernel does not serve: {native.status().reason}",
    ),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
]

# Small ones are computed at the call, some of them by several threads; large ones by MLX's thread.
MODELS = """
import multiprocessing, os, sys, threading, warnings
import mlx.core as mx
from lstm_bridge.torch import nn

warnings.simplefilter("ignore", DeprecationWarning)  # of Python, about forks
mx.random.seed(3)
model = nn.LSTM(96, 128)
small, large = mx.random.normal((6, 8, 96)), mx.random.normal((40, 24, 96))
mx.eval(model.parameters(), small, large)

def of_small():
    return model(small)[0].tolist()

def of_large():
    slope = mx.grad(lambda x: model(x)[0].square().sum())
    return [model(large)[0].tolist(), slope(large).tolist()]

def forked(work):
    child = os.fork()
    if child == 0:
        os._exit(17 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def on_a_new_stream(work):
    with mx.stream(mx.new_stream(mx.cpu)):
        return work()
"""


def run(code: str) -> str:
    """What a process prints, which ends by itself and well."""
    done = subprocess.run(
        [sys.executable, "-c", MODELS + textwrap.dedent(code)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_process_has_threads_of_its_own() -> None:
    """MLX's own threads are gone there as well: what is not computed at the call needs a stream."""
    code = """
    before = of_small(), of_large()
    print(forked(lambda: of_small() == before[0]))
    print(forked(lambda: on_a_new_stream(of_large) == before[1]))
    print((of_small(), of_large()) == before)
    """
    assert run(code).split() == ["17", "17", "True"]


def test_a_fork_in_the_middle_of_a_call() -> None:
    code = """
    before, end = of_small(), threading.Event()
    def busy():
        while not end.is_set():
            on_a_new_stream(of_large)
    other = threading.Thread(target=busy)
    other.start()
    print([forked(lambda: of_small() == before) for _ in range(8)] == [17] * 8)
    end.set()
    other.join()
    """
    assert run(code).split() == ["True"]


def test_a_pool_of_forked_workers() -> None:
    code = """
    before = of_small()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = [pool.apply_async(of_small) for _ in range(4)]
        print(all(one.get(timeout=50) == before for one in found))
    """
    assert run(code).split() == ["True"]


@pytest.mark.parametrize(
    "last", ["of_large()", "mx.async_eval(model(large))", "model(small)", "of_large(); sys.exit()"]
)
def test_a_process_ends_right_after_a_call(last: str) -> None:
    assert run(f"of_small()\n{last}") == ""


def test_a_process_ends_beside_a_thread_that_computes() -> None:
    """Where MLX computes, the process aborts: what is computed at the call is ours alone."""
    code = """
    began = threading.Event()
    def busy():
        while True:
            model(small)
            began.set()
    threading.Thread(target=busy, daemon=True).start()
    began.wait()
    """
    assert run(code) == ""


def test_threads_with_streams_of_their_own() -> None:
    code = """
    want, found = (of_small(), of_large()), []
    def work():
        with mx.stream(mx.new_stream(mx.cpu)):
            for _ in range(4):
                found.append((of_small(), of_large()) == want)
    all = [threading.Thread(target=work) for _ in range(3)]
    for one in all: one.start()
    for one in all: one.join()
    print(found == [True] * 12)
    """
    assert run(code).split() == ["True"]
