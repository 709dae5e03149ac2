"""Files that only their owner can read, replaced whole."""

import os
from pathlib import Path


def replace_private_file(path: Path, text: str) -> None:
    """Write a file (0600) in one step: a reader finds the old text or the new one, never a part.

    The caller makes sure that only one process writes it at a time.

    Raises
    ------
    OSError
        If it cannot be written, for example because the disk is full. The old file is then unchanged.
    """
    new = path.with_name(f"{path.name}.next")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
