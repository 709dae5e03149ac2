"""`Controls`: the methods of `Sandbox` that cause faults."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal

from .journal import ServerName
from .process import ServerProcess

Encoding = Literal["plain", "upper", "percent", "twice percent", "html", "json", "base64", "hex"]


class Controls:
    """Causes faults in requests, tokens and accounts; the base class of `Sandbox`."""

    _process: ServerProcess | None = None

    @property
    def _running(self) -> ServerProcess:
        if self._process is None:
            raise RuntimeError("The sandbox is not running: use it in a `with` block, or call start()")
        return self._process

    # Requests

    def fail(
        self,
        status: int,
        times: int | None = 1,
        *,
        server: ServerName = "data",
        match: str | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        content_type: str | None = None,
        skip: int = 0,
    ) -> None:
        """Answer the next requests with a status of your choice, which may also be 200 with a wrong body.

        Parameters
        ----------
        status : int
            The status to answer with.
        times : int or None
            How many requests to affect. None affects all, until `heal`.
        server : {"sso", "data", "catalogue", "other"}
            The server to affect.
        match : str, optional
            Affect only requests with this text in their path or query.
        method : str, optional
            Affect only requests with this method.
        headers : mapping, optional
            Further response headers, such as Retry-After.
        body : str or bytes, optional
            The response body. The default is a short HTML page like a proxy's, or Keycloak's error JSON
            for 400 and 401 from the login server.
        content_type : str, optional
            The media type of the body.
        skip : int
            How many of the requests that would be affected pass first.
        """
        self._fault(
            "fail",
            times,
            server=server,
            match=match,
            method=method,
            status=status,
            headers=dict(headers or {}),
            body=None if body is None else _base64(body),
            content_type=content_type,
            skip=skip,
        )

    def hang(
        self,
        times: int | None = 1,
        *,
        server: ServerName = "data",
        match: str | None = None,
        method: str | None = None,
        skip: int = 0,
    ) -> None:
        """Do not answer the next requests. `heal` resets their connections. Parameters as for `fail`."""
        self._fault("hang", times, server=server, match=match, method=method, skip=skip)

    def reset(
        self,
        times: int | None = 1,
        *,
        after: int | None = None,
        server: ServerName = "data",
        match: str | None = None,
        method: str | None = None,
        skip: int = 0,
    ) -> None:
        """Break the connections of the next requests with a TCP RST.

        Parameters
        ----------
        times, server, match, method, skip
            As for `fail`.
        after : int, optional
            First send the right headers and this many bytes of the body. HEAD requests are not affected.
        """
        self._fault("reset", times, after=after, server=server, match=match, method=method, skip=skip)

    def truncate(
        self,
        times: int | None = 1,
        *,
        after: int,
        server: ServerName = "data",
        match: str | None = None,
        method: str | None = None,
        skip: int = 0,
    ) -> None:
        """Cut the next bodies short, then close the connection in the regular way.

        Parameters
        ----------
        times, server, match, method, skip
            As for `fail`. HEAD requests are not affected.
        after : int
            How many bytes of the body to send.
        """
        self._fault("truncate", times, after=after, server=server, match=match, method=method, skip=skip)

    def drip(
        self,
        seconds_per_chunk: float,
        times: int | None = 1,
        *,
        server: ServerName = "data",
        match: str | None = None,
        method: str | None = None,
        skip: int = 0,
    ) -> None:
        """Send the next bodies in chunks of 1 KB, with a pause after each.

        Parameters
        ----------
        seconds_per_chunk : float
            The pause.
        times, server, match, method, skip
            As for `fail`. HEAD requests are not affected.
        """
        self._fault(
            "drip", times, seconds=seconds_per_chunk, server=server, match=match, method=method, skip=skip
        )

    def raw(
        self,
        start: bytes,
        times: int | None = 1,
        *,
        repeat: bytes | None = None,
        seconds: float = 0.02,
        server: ServerName = "data",
        match: str | None = None,
        method: str | None = None,
    ) -> None:
        """Send bytes of your choice in place of the next answers, for example half a header.

        Parameters
        ----------
        start : bytes
            Sent at once.
        times, server, match, method
            As for `fail`.
        repeat : bytes, optional
            Sent again and again after that, until `heal`. Without it, the connection is closed.
        seconds : float
            The pause before each repetition.
        """
        self._fault(
            "raw",
            times,
            body=_base64(start),
            repeat=None if repeat is None else _base64(repeat),
            seconds=seconds,
            server=server,
            match=match,
            method=method,
        )

    def wrong_content_range(
        self,
        times: int | None = 1,
        *,
        shifted: bool = False,
        server: ServerName = "data",
        match: str | None = None,
    ) -> None:
        """Answer the next range requests with a Content-Range that is one byte off.

        Parameters
        ----------
        times, server, match
            As for `fail`.
        shifted : bool
            Whether the bytes are one off too, as if a cache had mixed up ranges. The last byte is a zero.
        """
        self._fault("wrong_content_range", times, shifted=shifted, server=server, match=match)

    def multipart(
        self, times: int | None = 1, *, server: ServerName = "data", match: str | None = None, skip: int = 0
    ) -> None:
        """Answer the next range requests with multipart/byteranges, though they ask for one range.

        Parameters are those of `fail`.
        """
        self._fault("multipart", times, server=server, match=match, skip=skip)

    def no_ranges(self, on: bool = True) -> None:
        """Make the data server ignore the Range header: it answers 200 with the whole file."""
        self._running.call("set", name="ranges", value=not on)

    def login_page(self, on: bool = True) -> None:
        """Make the data server redirect to a login page (200, HTML) instead of answering 401."""
        self._running.call("set", name="login_page", value=on)

    def deny(self, match: str) -> None:
        """Make the data server refuse valid tokens (403) for URLs that contain `match`: a missing licence."""
        self._running.call("deny", match=match)

    def latency(self, seconds: float) -> None:
        """Wait this long before each answer, on all servers."""
        self._running.call("set", name="latency", value=seconds)

    def heal(self) -> None:
        """End all faults and restore the accounts. Tokens that were revoked or expired do not come back."""
        self._running.call("heal")

    def _fault(self, kind: str, times: int | None, **fault: Any) -> None:
        self._running.call("fault", kind=kind, times=times, **fault)

    # Tokens and accounts

    def revoke_tokens(self) -> None:
        """Revoke all access tokens issued so far. Refresh tokens still work."""
        self._running.call("end_tokens", state="revoked")

    def expire_tokens(self) -> None:
        """Make all access tokens issued so far expire. Refresh tokens still work."""
        self._running.call("end_tokens", state="expired")

    def end_sessions(self) -> None:
        """Revoke all access and refresh tokens issued so far ("Session not active")."""
        self._running.call("end_sessions")

    def set_password(self, username: str, password: str) -> None:
        """Change the password of an account, or create the account."""
        self._running.call("set_password", username=username, password=password)

    def disable(self, username: str) -> None:
        """Disable an account ("Account disabled"; for its refresh tokens "User disabled")."""
        self._running.call("disable", username=username)

    def require_action(self, username: str) -> None:
        """Refuse an account until its owner has acted ("Account is not fully set up")."""
        self._running.call("require_action", username=username)

    def token_answer(self, body: Mapping[str, object] | str | bytes | None, times: int = 1) -> None:
        """Replace the next successful answers of the token endpoint.

        Parameters
        ----------
        body : mapping, str, bytes or None
            Fields to merge into the right answer, or a body to send instead. None sends an empty body.
        times : int
            How many answers to replace.
        """
        if isinstance(body, Mapping):
            self._running.call("token_answer", fields=dict(body), times=times)
        else:
            self._running.call("token_answer", raw=_base64(body or b""), times=times)

    def echo(self, encoding: Encoding) -> None:
        """Refuse all grants, and repeat the password or refresh token in the description, until `heal`."""
        self._running.call("echo", encoding=encoding)


def _base64(body: str | bytes) -> str:
    return base64.b64encode(body.encode() if isinstance(body, str) else body).decode()
