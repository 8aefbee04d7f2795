"""Models written as people write them, as MLX models: values and gradients, in both modes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import lstm_bridge

torch = pytest.importorskip("torch", reason="ports start from live torch modules")

_SPEC = importlib.util.spec_from_file_location(
    "people_networks", Path(__file__).with_name("people_networks.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
people = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(people)


def without_dropout(module: Any) -> Any:
    for layer in module.modules():
        if isinstance(getattr(layer, "dropout", None), float):
            layer.dropout = 0.0
        if hasattr(layer, "p"):
            layer.p = 0.0
    return module


def draw_of(network: Any) -> Any:
    """Return what draws a network's inputs: another batch and another length each time."""

    def draw(seed: int) -> tuple[Any, ...]:
        found: tuple[Any, ...] = network.draw(people.Drawer(seed), 2 + seed % 3, 3 + 2 * seed)
        return found

    return draw


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", people.NETWORKS)
def test_a_network_as_people_write_it_is_torchs(
    given_values: Any, compared: Any, failures: Any, name: str, mode: str
) -> None:
    network = people.NETWORKS[name]
    module = without_dropout(given_values(network())).train(mode == "train")
    ported = lstm_bridge.port(module, getattr(network, "example", None))
    verdicts = compared(module, ported, draw_of(network), draws=getattr(network, "draws", 6))
    assert any(key.startswith("d ") for key in verdicts)
    assert failures(verdicts) == []
    assert set(ported.state_dict()) == set(module.state_dict())


def test_optional_inputs_may_be_left_out(given_values: Any, compared: Any, failures: Any) -> None:
    for name in ("OwnHidden", "CharRNN", "AnyRank", "SelfAttention", "ManualLSTM"):
        network = people.NETWORKS[name]
        module = given_values(network()).eval()
        ported = lstm_bridge.port(module)
        verdicts = compared(module, ported, lambda s, n=network: draw_of(n)(s)[:1], draws=6)
        assert failures(verdicts) == []


def test_states_may_be_given(given_values: Any, compared: Any, failures: Any) -> None:
    module = given_values(people.ManualLSTM()).eval()
    ported = lstm_bridge.port(module)

    def draw(seed: int) -> tuple[Any, ...]:
        rng = people.Drawer(seed)
        return rng.randn(2, 3 + seed, 3), (rng.randn(2, 4), rng.randn(2, 4))

    assert failures(compared(module, ported, draw)) == []


def test_a_rank_and_a_kind_of_state_are_asked_for_at_every_call(
    given_values: Any, compared: Any, failures: Any
) -> None:
    module = given_values(people.AnyRank()).eval()
    ported = lstm_bridge.port(module)

    def one(seed: int) -> tuple[Any, ...]:
        return (people.Drawer(seed).randn(4, 3),)

    def as_list(seed: int) -> tuple[Any, ...]:
        rng = people.Drawer(seed)
        return rng.randn(2, 4, 3), [rng.randn(1, 2, 4), rng.randn(1, 2, 4)]

    def as_tensor(seed: int) -> tuple[Any, ...]:
        rng = people.Drawer(seed)
        return rng.randn(2, 4, 3), rng.randn(1, 2, 4)

    for draw in (one, as_list, as_tensor):
        assert failures(compared(module, ported, draw, gradients=False)) == []


def turn_back(ported: Any) -> None:
    """Let the loop's step read from the other end."""
    ported.cell.weight_hh = ported.cell.weight_hh[::-1]


def test_a_spoilt_loop_is_caught(given_values: Any, compared: Any, failures: Any) -> None:
    module = given_values(people.CellLoop()).eval()
    ported = lstm_bridge.port(module)
    draw = draw_of(people.CellLoop)
    assert failures(compared(module, ported, draw)) == []
    turn_back(ported)
    assert failures(compared(module, ported, draw, gradients=False)) != []


@pytest.mark.parametrize("name", ["CellLoop", "ManualLSTM", "AnyRank", "Seq2Seq", "ScheduledNoise"])
def test_loops_and_branches_are_saved_without_torch(
    given_values: Any, compared: Any, failures: Any, tmp_path: Path, name: str
) -> None:
    network = people.NETWORKS[name]
    module = given_values(network()).eval()
    lstm_bridge.save(
        lstm_bridge.port(module, getattr(network, "example", None)), tmp_path / "model"
    )
    again = lstm_bridge.load(tmp_path / "model")
    assert failures(compared(module, again, draw_of(network), gradients=False)) == []
