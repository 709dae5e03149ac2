"""`Controls`: what the sandbox can be made to do wrong."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from .journal import ServerName
from .process import ServerProcess


class Controls:
    """The methods of `Sandbox` that make requests, tokens and accounts go wrong."""

    _process: ServerProcess | None = None

    @property
    def _running(self) -> ServerProcess:
        if self._process is None:
            raise RuntimeError("The sandbox is not running: use it in a `with` block, or call start()")
        return self._process

    # Faults: requests

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
    ) -> None:
        """Answer the next requests with a status (any: also 200, with a wrong body).

        Parameters
        ----------
        status : int
            The status.
        times : int or None
            How many requests; None: all, until `heal`.
        server : {"sso", "data", "catalogue", "other"}
            Which server.
        match : str, optional
            Only requests whose path (with its query) contains this.
        method : str, optional
            Only requests with this method.
        headers : mapping, optional
            Further headers of the answer, such as Retry-After.
        body : str or bytes, optional
            The body. By default Keycloak's error JSON for 400 and 401 of the login server, else a short
            HTML page as of a proxy.
        content_type : str, optional
            The body's media type.
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
        )

    def hang(
        self,
        times: int | None = 1,
        *,
        server: ServerName = "data",
        match: str | None = None,
        method: str | None = None,
    ) -> None:
        """Never answer the next requests; `heal` resets their connections. Parameters as for `fail`."""
        self._fault("hang", times, server=server, match=match, method=method)

    def reset(
        self,
        times: int | None = 1,
        *,
        after: int | None = None,
        server: ServerName = "data",
        match: str | None = None,
        method: str | None = None,
    ) -> None:
        """Break the connections of the next requests with a TCP RST.

        Parameters
        ----------
        times, server, match, method
            As for `fail`.
        after : int, optional
            Send the right headers and this many bytes of the body first. HEAD requests are passed over.
        """
        self._fault("reset", times, after=after, server=server, match=match, method=method)

    def truncate(
        self,
        times: int | None = 1,
        *,
        after: int,
        server: ServerName = "data",
        match: str | None = None,
        method: str | None = None,
    ) -> None:
        """End the next bodies before their Content-Length, closing the connection in order.

        Parameters
        ----------
        times, server, match, method
            As for `fail`. HEAD requests are passed over.
        after : int
            Bytes of the body that are sent.
        """
        self._fault("truncate", times, after=after, server=server, match=match, method=method)

    def drip(
        self,
        seconds_per_chunk: float,
        times: int | None = 1,
        *,
        server: ServerName = "data",
        match: str | None = None,
        method: str | None = None,
    ) -> None:
        """Send the next bodies in chunks of 1 KB, with a pause after each.

        Parameters
        ----------
        seconds_per_chunk : float
            The pause.
        times, server, match, method
            As for `fail`. HEAD requests are passed over.
        """
        self._fault("drip", times, seconds=seconds_per_chunk, server=server, match=match, method=method)

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
            Whether the bytes are off too, as where a cache on the way mixes up ranges. The last is a zero.
        """
        self._fault("wrong_content_range", times, shifted=shifted, server=server, match=match)

    def no_ranges(self, on: bool = True) -> None:
        """Let the data server ignore Range: 200 and the whole file."""
        self._running.call("set", name="ranges", value=not on)

    def login_page(self, on: bool = True) -> None:
        """Let the data server redirect to a login page (200, HTML) instead of answering 401."""
        self._running.call("set", name="login_page", value=on)

    def deny(self, match: str) -> None:
        """Let the data server answer 403 to valid tokens where the path contains `match`: no licence."""
        self._running.call("deny", match=match)

    def latency(self, seconds: float) -> None:
        """Wait this long before each answer, on all servers."""
        self._running.call("set", name="latency", value=seconds)

    def heal(self) -> None:
        """End all faults; accounts are again as at the start, but tokens that were ended stay dead."""
        self._running.call("heal")

    def _fault(self, kind: str, times: int | None, **fault: Any) -> None:
        self._running.call("fault", kind=kind, times=times, **fault)

    # Faults: tokens and accounts

    def revoke_tokens(self) -> None:
        """Make every access token so far worth nothing; refresh tokens still work."""
        self._running.call("end_tokens", state="revoked")

    def expire_tokens(self) -> None:
        """Make every access token so far expired; refresh tokens still work."""
        self._running.call("end_tokens", state="expired")

    def end_sessions(self) -> None:
        """Make every access and refresh token so far worth nothing ("Session not active")."""
        self._running.call("end_sessions")

    def set_password(self, username: str, password: str) -> None:
        """Change an account's password, or open an account."""
        self._running.call("set_password", username=username, password=password)

    def disable(self, username: str) -> None:
        """Lock an account ("Account disabled"; for its refresh tokens "User disabled")."""
        self._running.call("disable", username=username)

    def require_action(self, username: str) -> None:
        """Let an account wait for its owner ("Account is not fully set up")."""
        self._running.call("require_action", username=username)

    def token_answer(self, body: Mapping[str, object] | str | bytes | None, times: int = 1) -> None:
        """Replace the next good token answers.

        Parameters
        ----------
        body : mapping, str, bytes or None
            Fields to merge over the right ones, or a body to send instead; None: an empty body.
        times : int
            How many.
        """
        if isinstance(body, Mapping):
            self._running.call("token_answer", fields=dict(body), times=times)
        else:
            self._running.call("token_answer", raw=_base64(body or b""), times=times)


def _base64(body: str | bytes) -> str:
    return base64.b64encode(body.encode() if isinstance(body, str) else body).decode()
