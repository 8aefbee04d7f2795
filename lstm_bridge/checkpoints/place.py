"""Where in a file something is wrong: builds the typed refusals of every reader here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lstm_bridge.errors import BridgeError, ConfigError, ContainerError, HeaderError, TensorError

GET_AGAIN = "get the file again from where it was made"


@dataclass(frozen=True, slots=True)
class Place:
    """A file, and optionally a part inside it, that error messages name.

    Args:
        file: the file as the caller named it.
        member: the part inside the container.
    """

    file: Path
    member: str | None = None

    def inside(self, member: str) -> Place:
        """Return the place of ``member`` inside this one."""
        return replace(self, member=member if self.member is None else f"{self.member}:{member}")

    def container(
        self, expected: str, got: str, fix: str = GET_AGAIN, tensor: str | None = None
    ) -> ContainerError:
        """Return the error for a damaged or hostile container."""
        return ContainerError(
            self.file, member=self.member, tensor=tensor, expected=expected, got=got, fix=fix
        )

    def header(
        self, expected: str, got: str, fix: str = GET_AGAIN, tensor: str | None = None
    ) -> HeaderError:
        """Return the error for a header that breaks its format's rules."""
        return HeaderError(
            self.file, member=self.member, tensor=tensor, expected=expected, got=got, fix=fix
        )

    def tensor(self, name: str, expected: str, got: str, fix: str = GET_AGAIN) -> TensorError:
        """Return the error for one tensor."""
        return TensorError(
            self.file, member=self.member, tensor=name, expected=expected, got=got, fix=fix
        )

    def config(self, expected: str, got: str, fix: str = GET_AGAIN) -> ConfigError:
        """Return the error for an architecture description."""
        return ConfigError(self.file, member=self.member, expected=expected, got=got, fix=fix)

    @contextmanager
    def guarded(self, expected: str) -> Iterator[None]:
        """Turn what a third-party parser raises on damaged bytes into a ``ContainerError``."""
        try:
            yield
        except BridgeError:
            raise
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise self.container(expected, f"damage: {error}") from error
