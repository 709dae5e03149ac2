"""`Secret`: a password or token that no traceback, log record or repr shows.

Tools such as ``pytest -l``, rich and Sentry show the local variables of a traceback. They walk through
dicts, lists and strings, and take the `repr` of anything else. So a secret is none of these until the
moment when its bytes are sent.
"""

import base64
import functools
import html
import os
import re
from collections.abc import Callable, ItemsView, Mapping
from typing import Any, TypeVar, overload
from urllib.parse import unquote_plus

T = TypeVar("T")

_LAYERS = 3  # an encoding inside an encoding inside an encoding
_PART = 8  # characters of a secret that must not be shown either


class Secret:
    """A text that only `reveal` shows.

    Parameters
    ----------
    text : str
    """

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        self._reveal: Callable[[], str] = lambda: text  # a closure: tools show attributes, but no cells

    @overload
    @classmethod
    def of(cls, value: "str | Secret") -> "Secret": ...
    @overload
    @classmethod
    def of(cls, value: "str | Secret | None") -> "Secret | None": ...
    @classmethod
    def of(cls, value: "str | Secret | None") -> "Secret | None":
        """Return a text as a secret. A secret and None stay as they are."""
        return cls(value) if isinstance(value, str) else value

    def reveal(self) -> str:
        """Return the text. Call this inside the expression that uses it, so that no variable holds it."""
        return self._reveal()

    def is_in(self, text: str) -> bool:
        """Tell whether a text contains the secret or a part of one, plain or encoded as servers encode.

        The encodings are percent-encoding, HTML and backslash escapes, base64 and hex. Case, punctuation
        and spaces do not count.
        """
        decoded = {text}
        for _ in range(_LAYERS):
            decoded |= {decode(one) for one in decoded for decode in _DECODERS}
        forms = [_folded(one) for one in decoded]
        raw = self.reveal().encode("utf-8", "surrogatepass")
        # in base64, the characters depend on how many bytes stand before the secret
        based = (
            base64.b64encode(bytes(before) + raw).decode().rstrip("=")[(0, 2, 3)[before] : -1]
            for before in range(3)
        )
        return (bool(self) and any(self.reveal() in one for one in decoded)) or any(
            _share(mine, form) for mine in map(_folded, (self.reveal(), raw.hex(), *based)) for form in forms
        )

    def __repr__(self) -> str:
        return "<secret>"

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.reveal())

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a secret cannot be pickled")


class SecretText(Secret):
    """A secret that `str` reveals, for libraries that call it. Its `repr` is still opaque."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.reveal()

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (self.reveal(),)


def hides(*names: str) -> Callable[[type[T]], type[T]]:
    """Decorate a dataclass: these fields read as str or None, while the instance holds a `Secret`.

    Parameters
    ----------
    *names : str
        Fields with ``repr=False``.
    """

    def decorate(cls: type[T]) -> type[T]:
        for name in names:
            setattr(cls, name, _Hidden(name))
        return cls

    return decorate


class _Hidden:
    """The attribute of a class that `hides` makes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        value = self if instance is None else vars(instance)[self._name]
        return value.reveal() if isinstance(value, Secret) else value

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self._name] = Secret.of(value)


class Variables:
    """Environment variables by name. Its repr shows none of them: one may be TERRASCOPE_PASSWORD.

    Parameters
    ----------
    environ : mapping, optional
        The variables; ``os.environ`` if not given.
    """

    def __init__(self, environ: "Mapping[str, str] | Variables | None" = None) -> None:
        self._environ: Mapping[str, str] | None = None
        self._environ = environ._environ if isinstance(environ, Variables) else environ

    def __repr__(self) -> str:
        return "<environment variables>"

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...
    def get(self, name: str, default: str | None = None) -> str | None:
        """Return a variable's value, or the default if it is not set."""
        return (os.environ if self._environ is None else self._environ).get(name, default)

    def items(self) -> ItemsView[str, str]:
        """Return all names and values."""
        return (os.environ if self._environ is None else self._environ).items()


def also_half_made(to_text: Callable[[Any], str]) -> Callable[[Any], str]:
    """Decorate a ``__repr__``, for objects whose ``__init__`` has raised: tracebacks show them too."""

    @functools.wraps(to_text)
    def __repr__(self: Any) -> str:
        try:
            return to_text(self)
        except AttributeError:
            return f"<{type(self).__name__}, half made>"

    return __repr__


def _folded(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _share(mine: str, text: str) -> bool:
    """Tell whether a text holds `mine`, or a part that is long enough to tell it."""
    if len(mine) <= _PART:
        return bool(mine) and mine in text
    parts = {mine[at : at + _PART] for at in range(len(mine) - _PART + 1)}
    return any(text[at : at + _PART] in parts for at in range(len(text) - _PART + 1))


def _unescaped(text: str) -> str:
    r"""Resolve ``\u0041``, ``%u0041``, ``\x41`` and quoted-printable's ``=41``."""
    text = re.sub(r"(?:\\|%)u\{?([0-9a-fA-F]{4})\}?", lambda found: chr(int(found[1], 16)), text)
    return unquote_plus(re.sub(r"(?:\\x|=)([0-9a-fA-F]{2})", r"%\1", text))


_DECODERS: tuple[Callable[[str], str], ...] = (
    unquote_plus,
    lambda text: unquote_plus(text, "latin-1"),
    html.unescape,
    _unescaped,
)
