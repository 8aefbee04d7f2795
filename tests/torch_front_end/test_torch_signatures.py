"""Signatures are torch's: against those recorded from torch 2.13.0, and against the live ones."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest

from lstm_bridge.torch import nn
from lstm_bridge.torch.nn.utils import rnn

RECORDED_VERSION = "2.13.0"

RECORDED = {
    "LSTM": "input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, "
    "bidirectional=False, proj_size=0, device=None, dtype=None",
    "LSTM.forward": "input, hx=None",
    "LSTM.reset_parameters": "",
    "LSTM.flatten_parameters": "",
    "LSTM.extra_repr": "",
    "LSTMCell": "input_size, hidden_size, bias=True, device=None, dtype=None",
    "LSTMCell.forward": "input, hx=None",
    "Linear": "in_features, out_features, bias=True, device=None, dtype=None",
    "Linear.forward": "input",
    "Module.state_dict": "*, destination=None, prefix='', keep_vars=False",
    "Module.load_state_dict": "state_dict, strict=True, assign=False",
    "Module.train": "mode=True",
    "Module.eval": "",
    "PackedSequence": "data, batch_sizes=None, sorted_indices=None, unsorted_indices=None",
    "PackedSequence.to": "*args, **kwargs",
    "PackedSequence.pin_memory": "",
    "PackedSequence.is_pinned": "",
    "invert_permutation": "permutation",
    "pack_padded_sequence": "input, lengths, batch_first=False, enforce_sorted=True",
    "pad_packed_sequence": "sequence, batch_first=False, padding_value=0.0, total_length=None",
    "pad_sequence": "sequences, batch_first=False, padding_value=0.0, padding_side='right'",
    "unpad_sequence": "padded_sequences, lengths, batch_first=False",
    "pack_sequence": "sequences, enforce_sorted=True",
    "unpack_sequence": "packed_sequences",
}
"""Names, order, kinds and defaults. ``Module.state_dict``: without torch's deprecated ``*args``."""


def plain(signature: inspect.Signature) -> str:
    """Names, kinds and defaults, without annotations and self."""
    parameters = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in signature.parameters.values()
        if p.name != "self"
    ]
    return str(inspect.Signature(parameters))[1:-1]


def find(name: str, nn: Any, rnn: Any) -> Any:
    head, *rest = name.split(".")
    found = getattr(nn, head, None) or getattr(rnn, head)
    for part in rest:
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", RECORDED)
def test_signature_is_the_recorded_one(name: str) -> None:
    assert plain(inspect.signature(find(name, nn, rnn))) == RECORDED[name]


@pytest.mark.parametrize("name", RECORDED)
def test_the_recorded_signature_is_the_live_one(name: str) -> None:
    torch = pytest.importorskip("torch", reason="the live signatures need torch")
    if not torch.__version__.startswith(RECORDED_VERSION):
        pytest.skip(f"recorded from torch {RECORDED_VERSION}, here is {torch.__version__}")
    live = find(name, torch.nn, torch.nn.utils.rnn)
    if name == "LSTM":
        live = typing.get_overloads(live.__init__)[0]
    signature = plain(inspect.signature(live))
    assert signature.replace("*args, destination", "*, destination") == RECORDED[name]


def test_every_public_name_of_the_packing_module_is_here() -> None:
    torch_rnn = pytest.importorskip("torch.nn.utils.rnn", reason="the live names need torch")
    assert sorted(rnn.__all__) == sorted(torch_rnn.__all__)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.LSTMCell, nn.Linear])
def test_notes_name_real_arguments_and_give_reasons(layer: Any) -> None:
    assert set(layer.ARGUMENT_NOTES) <= set(inspect.signature(layer).parameters)
    assert all("because" in note for note in layer.ARGUMENT_NOTES.values())
