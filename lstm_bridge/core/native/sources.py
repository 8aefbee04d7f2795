"""A digest of the kernel's sources: what setup.py compiles in, and what is compared at the import.

It stands alone, since setup.py runs it before there is a package.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

KINDS = (".cpp", ".hpp", ".inc")


def digest() -> str:
    """Return a digest of the sources beside this file, or an empty string if there are none."""
    sources = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in KINDS)
    if not sources:
        return ""
    whole = sha256()
    for path in sources:
        content = path.read_bytes()
        whole.update(f"{path.name} {len(content)}\n".encode())
        whole.update(content)
    return whole.hexdigest()
