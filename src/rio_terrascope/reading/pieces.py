"""Byte ranges of files: those on their way, those in use, and some that may be needed again."""

from typing import Any

Range = tuple[int, int]
"""Offset and length."""

_MOST_UNUSED = 16 * 2**20  # bytes


class Piece:
    """A byte range of a file.

    Attributes
    ----------
    key : tuple
        The file and the range.
    data : bytes or None
        None while it is on its way.
    waiting : list
        The jobs that wait for it.
    users : int
        How many need it, those that wait included.
    """

    def __init__(self, key: tuple[Any, Range]) -> None:
        self.key = key
        self.data: bytes | None = None
        self.waiting: list[Any] = []
        self.users = 0


class Pieces:
    """The byte ranges that an engine has or waits for, each once. For one thread."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[Any, Range], Piece] = {}
        self._unused: dict[Piece, None] = {}  # the latest last
        self._unused_bytes = 0

    def use(self, file: Any, range_: Range) -> tuple[Piece, bool]:
        """Return a range for one more user, and whether it must be fetched."""
        key = (file, range_)
        piece = self._pieces.get(key)
        is_new = piece is None
        if piece is None:
            piece = self._pieces[key] = Piece(key)
        self._take_up(piece)
        piece.users += 1
        return piece, is_new

    def find(self, file: Any, range_: Range) -> Piece | None:
        """Return a range that is in use or on its way."""
        return self._pieces.get((file, range_))

    def release(self, piece: Piece) -> None:
        """Take one user off a range. Without any, it is kept for a while."""
        piece.users -= 1
        if piece.users or self._pieces.get(piece.key) is not piece:
            return
        self._unused[piece] = None
        self._unused_bytes += piece.key[1][1]
        while self._unused_bytes > _MOST_UNUSED:
            self.drop(next(iter(self._unused)))

    def drop(self, piece: Piece) -> None:
        """Forget a range, so that the next user gets it again."""
        self._take_up(piece)
        if self._pieces.get(piece.key) is piece:
            del self._pieces[piece.key]

    def _take_up(self, piece: Piece) -> None:
        """Take a range off the unused ones, if it is there."""
        if piece in self._unused:
            del self._unused[piece]
            self._unused_bytes -= piece.key[1][1]
