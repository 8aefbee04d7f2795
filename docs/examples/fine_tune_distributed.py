"""Fine-tunes a saved model on several machines, each with its share of every batch.

Run by itself it trains on one machine; under ``mlx.launch`` on all of them, with the same result::

    mlx.launch --hosts mac1,mac2 fine_tune_distributed.py model data.npz tuned --steps 100
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

import lstm_bridge


def fine_tune(
    source: Path, data: Path, target: Path, steps: int = 100, each_alone: bool = False
) -> None:
    """Train a model to map ``x`` to ``y`` and save it.

    Args:
        source: folder that ``lstm_bridge.save`` wrote.
        data: ``.npz`` file of ``x [N, …]`` and ``y [N, …]``; N a multiple of the processes.
        target: folder to write, by the first process.
        steps: steps of Adam. Default: 100.
        each_alone: do not average gradients, to see what that is good for. Default: False.
    """
    group = mx.distributed.init()
    model = lstm_bridge.load(source)
    with np.load(data) as arrays:
        x, y = (mx.array(arrays[name]) for name in ("x", "y"))
    # Every process takes each size()-th row: the mean of the shares' means is the batch's mean.
    x, y = x[group.rank() :: group.size()], y[group.rank() :: group.size()]

    step = nn.value_and_grad(model, lambda x, y: mx.mean((model(x) - y) ** 2))
    optimizer = optim.Adam(learning_rate=1e-2)
    for _ in range(steps):
        loss, gradients = step(x, y)
        if not each_alone:
            gradients = nn.average_gradients(gradients, group)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state, loss)
    if group.rank() == 0:
        lstm_bridge.save(model, target, force=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("source", "data", "target"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--each-alone", action="store_true")
    fine_tune(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
