"""What an installation says about itself."""

from __future__ import annotations

import json

import mlx.core as mx
from click.testing import CliRunner

import lstm_bridge
from lstm_bridge.cli import main
from lstm_bridge.core import native


def test_config_and_info_say_the_same() -> None:
    config = lstm_bridge.config()
    assert config["mlx"] == mx.__version__
    assert config["native"]["serves"] is native.status().serves
    assert config["native"]["serves"] or config["native"]["reason"]
    done = CliRunner().invoke(main, ["info"])
    assert done.exit_code == 0
    assert json.loads(done.output) == config


def test_what_is_turned_off_says_so() -> None:
    with native.disabled():
        status = lstm_bridge.config()["native"]
    assert not status["serves"]
    assert status["reason"]
