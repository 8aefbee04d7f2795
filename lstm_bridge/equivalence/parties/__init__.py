"""Who is compared: anything that can be run on NumPy arrays, with what is known about it.

A real framework is imported only when an object of its own was passed in.
"""

from __future__ import annotations

from lstm_bridge.equivalence.parties.base import Party
from lstm_bridge.equivalence.parties.find import party_of

__all__ = ["Party", "party_of"]
