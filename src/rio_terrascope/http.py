"""The one place that makes `requests` sessions, and single requests that end in time.

`requests` is generous by default: it adds passwords from ~/.netrc, follows redirects, and sends requests
for this machine to a proxy. A session from here does none of that.
"""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

import certifi
import requests
from requests.adapters import HTTPAdapter, Retry
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.util import create_urllib3_context, make_headers, parse_url

from rio_terrascope import certificates
from rio_terrascope.certificates import Bundle
from rio_terrascope.secret import Secret
from rio_terrascope.settings import stays_here
from rio_terrascope.threads import Signal, start_thread

T = TypeVar("T")

_CHUNK = 16 * 1024  # bytes to read at once


@dataclass(frozen=True)
class Answer:
    """A server's answer to one request.

    Attributes
    ----------
    url : str
        As it was sent.
    status : int
    headers : mapping
        By names in any case.
    body : bytes
        At most as many bytes as were asked for.
    """

    url: str = field(repr=False)
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def __reduce__(self) -> str:
        raise TypeError("an answer cannot be pickled: its body may hold a token")

    @property
    def is_redirect(self) -> bool:
        """Whether the answer leads to another URL. GDAL's curl follows any 3xx with a Location."""
        return 300 <= self.status < 400 and bool(self.headers.get("Location"))


class NoAnswerError(Exception):
    """There was no answer. The message says why, and holds nothing of the request.

    Attributes
    ----------
    may_pass : bool
        Whether another attempt may succeed.
    advice : str
        The next step, if it is known; else empty.
    """

    def __init__(self, reason: str, *, may_pass: bool = False, advice: str = "") -> None:
        super().__init__(reason)
        self.may_pass = may_pass
        self.advice = advice


def ask(
    method: str,
    url: str,
    bundle: Bundle | None,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str | Secret] | None = None,
    access_token: str | Secret | None = None,
    limit: int = 0,
    read: Callable[[Answer], T],
) -> T:
    """Make one request, which ends in time whatever the server does. No redirect is followed.

    A socket's timeout counts from the last byte, so a server that sends a header byte by byte, or
    ``100 Continue`` again and again, would hold the caller without end. So the request runs in a thread,
    and its connection is shut down when the time is over. Another reason is Ctrl-C: its traceback shows
    the caller's frames, and not those of urllib3, whose variables hold the password and the token.

    Parameters
    ----------
    method, url : str
    bundle : Bundle or None
        The certificates to trust; None for certifi's.
    seconds : float
        For everything together: the look-up of the name, the connection and the whole answer.
    headers : mapping, optional
    form : mapping, optional
        Fields to send in the body.
    access_token : str or Secret, optional
        Sent as ``Authorization: Bearer ...``.
    limit : int
        How many bytes of the body to read.
    read : callable
        Takes the `Answer` and returns what is of use in it. It runs in the thread too.

    Returns
    -------
    The result of `read`

    Raises
    ------
    NoAnswerError
        If there is no complete answer in time.
    """
    access_token = Secret.of(access_token)
    exchange = _Exchange()
    sending = threading.Thread(
        target=exchange.run,
        args=(method, url, bundle, seconds, dict(headers or {}), form, access_token, limit, read),
        name="rio-terrascope-request",
        daemon=True,
    )
    try:
        start_thread(sending)
        in_time = exchange.done.wait(seconds)
    except RuntimeError:  # no thread can be started
        raise NoAnswerError("the request could not be made, because Python is ending") from None
    finally:
        exchange.end()
    # not what comes after `end`: a header that is cut off there looks like a complete one
    if not in_time:
        raise NoAnswerError("no answer in time", may_pass=True)
    if exchange.fault is not None:
        raise exchange.fault
    outcome: T = exchange.outcome
    return outcome


class _Exchange:
    """One request in a thread of its own, which another thread can end."""

    def __init__(self) -> None:
        self.done = Signal()
        self.outcome: Any = None
        self.fault: NoAnswerError | None = None
        self._lock = threading.Lock()
        self._ended = False
        self._connections: list[socket.socket] = []

    def connected(self, connection: socket.socket) -> None:
        """Note a new connection, so that `end` can shut it down."""
        with self._lock:
            if self._ended:
                connection.close()
                raise TimeoutError
            # a duplicate, since TLS takes the socket's descriptor away; shutting down holds for both
            self._connections.append(connection.dup())

    def end(self) -> None:
        """Shut the connections down. The thread then ends, if it has not yet."""
        with self._lock:
            self._ended = True
            for connection in self._connections:
                with contextlib.suppress(OSError):  # it is closed already
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()

    def run(
        self,
        method: str,
        url: str,
        bundle: Bundle | None,
        seconds: float,
        headers: dict[str, str],
        form: Mapping[str, str | Secret] | None,
        access_token: Secret | None,
        limit: int,
        read: Callable[[Answer], object],
    ) -> None:
        """Make the request and note its outcome. Nothing is raised.

        No exception of requests is kept, not even as the context of ours: it holds the request,
        and the request holds the password.
        """
        try:
            with (
                # a new session for each request, since they are minutes apart, and a forked
                # child must not share a connection that its parent keeps open
                new_session(url, bundle, access_token=access_token, exchange=self) as session,
                session.request(
                    method,
                    url,
                    data=None if form is None else [(name, _text(value)) for name, value in form.items()],
                    headers=headers,
                    timeout=seconds,
                    stream=True,
                ) as response,
            ):
                body = b""
                for chunk in response.iter_content(_CHUNK) if limit else ():
                    body += chunk
                    if len(body) >= limit:
                        break
                answer = Answer(response.url, response.status_code, response.headers, body[:limit])
                self.outcome = read(answer)
        except Exception as error:
            self.fault = _no_answer(error, bundle)
        finally:
            self.done.set()


def _no_answer(error: Exception, bundle: Bundle | None) -> NoAnswerError:
    """Say why there was no answer, in words that hold nothing of the request."""
    cause = certificates.innermost(error)
    name = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
    if isinstance(error, requests.exceptions.SSLError):
        # the connection ended in the middle of the handshake
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return NoAnswerError(f"the TLS connection failed ({name})", may_pass=True)
        what, advice = certificates.why_refused(error, bundle)
        return NoAnswerError(what, advice=advice)
    if isinstance(error, requests.exceptions.Timeout | TimeoutError):
        return NoAnswerError("no answer in time", may_pass=True)
    if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return NoAnswerError(f"the connection failed ({name})", may_pass=True)
    if isinstance(error, requests.RequestException):
        return NoAnswerError(f"the request could not be made ({type(error).__name__})")
    if isinstance(error, OSError):  # the file of certificates is missing
        what, advice = certificates.why_refused(error, bundle)
        return NoAnswerError(what, advice=advice)
    # requests lets errors of urllib3 and Python pass, for an answer that breaks the rules of HTTP
    return NoAnswerError(f"the answer cannot be understood ({type(error).__name__})")


def new_session(
    url: str,
    bundle: Bundle | None,
    *,
    access_token: str | Secret | None = None,
    exchange: _Exchange | None = None,
) -> requests.Session:
    """Make a session for one server, which sends a secret nowhere else.

    Parameters
    ----------
    url : str
        A URL of the server. If it is on this machine, no proxy is used.
    bundle : Bundle or None
        The certificates to trust; None for certifi's.
    access_token : str or Secret, optional
        Sent as ``Authorization: Bearer ...``. Without one, no credentials are sent at all.
    exchange : _Exchange, optional
        Is told of each connection.

    Returns
    -------
    requests.Session
        It follows no redirects.
    """
    session = _WithoutRedirects()
    secure(session, url, bundle, exchange=exchange)
    session.auth = _Auth(Secret.of(access_token))
    return session


def secure(
    session: requests.Session,
    url: str,
    bundle: Bundle | None,
    *,
    retries: Retry | int = 0,
    exchange: _Exchange | None = None,
) -> None:
    """Set a session's proxies, certificates and retries, and keep passwords of ~/.netrc out of it.

    For a session that another library makes. Parameters are those of `new_session`; `retries` is for
    `requests.adapters.HTTPAdapter`.
    """
    session.trust_env = not stays_here(url)
    session.auth = _Auth(None)
    session.mount("https://", _Adapter(bundle, retries, exchange))
    if exchange is not None:
        session.mount("http://", _Adapter(bundle, retries, exchange))


class _WithoutRedirects(requests.Session):
    """A redirect would carry the body of a request, and so the password, to another host."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class _Auth(AuthBase):
    """Adds the token, if there is one. Without an auth, requests looks for a password in ~/.netrc."""

    def __init__(self, access_token: Secret | None) -> None:
        self._access_token = access_token

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._access_token is not None:
            request.headers["Authorization"] = f"Bearer {self._access_token.reveal()}"
        return request


class _Adapter(HTTPAdapter):
    """Trusts a bundle, whatever `verify` is: requests lets REQUESTS_CA_BUNDLE win over a session's.

    It tells an exchange of each new connection.
    """

    def __init__(self, bundle: Bundle | None, retries: Retry | int, exchange: _Exchange | None) -> None:
        self._bundle = bundle
        self._exchange = exchange
        super().__init__(max_retries=retries)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if self._bundle is not None:
            kwargs["verify"] = self._bundle.path
        return super().send(request, *args, **kwargs)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if self._exchange is None:
            return pool
        connected = self._exchange.connected

        class Connection(pool.ConnectionCls):  # type: ignore[misc]
            """urllib3's connection for this kind of URL, proxy included."""

            def _new_conn(self) -> socket.socket:
                connection: socket.socket = super()._new_conn()
                connected(connection)
                return connection

        pool.ConnectionCls = Connection
        return pool


def new_context(bundle: Bundle | None, *, checked: bool = True) -> ssl.SSLContext:
    """Return what connections over TLS to one server share: loading the certificates takes 20 ms.

    Parameters
    ----------
    bundle : Bundle or None
        The certificates to trust; None for certifi's.
    checked : bool
        Whether the server's certificate is checked at all.

    Raises
    ------
    OSError
        If the certificates cannot be loaded.
    """
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if checked else ssl.CERT_NONE)
    path = bundle.path if bundle is not None else certifi.where()
    if checked:
        context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})
    return context


def new_connection(
    url: str,
    context: ssl.SSLContext | None,
    *,
    proxy: Secret | None,
    seconds: float | None,
    connected: Callable[[socket.socket], None],
) -> HTTPConnection:
    """Return a connection of urllib3 to the server of a URL, which `connect` opens.

    It is not urllib3's pool that makes it: that logs URLs with their queries, which may be signatures.

    Parameters
    ----------
    url : str
    context : ssl.SSLContext or None
        From `new_context`, for a URL that begins with https://.
    proxy : Secret or None
        The URL of the proxy. With http:// URLs, requests name the whole URL.
    seconds : float or None
        To wait for the connection.
    connected : callable
        Is called with the socket of the new connection, before anything is sent.
    """
    to, via = parse_url(url), parse_url(proxy.reveal()) if proxy else None
    if via is not None and via.scheme not in ("http", "https"):
        raise NoAnswerError(f"proxies of the kind {via.scheme}:// are not supported")
    by = via or to
    more: dict[str, Any] = {"timeout": seconds, "proxy": via}
    if "https" in (to.scheme, by.scheme):
        kind: type[HTTPConnection] = HTTPSConnection
        more["ssl_context"] = context
        more["proxy_config"] = ProxyConfig(context, False, None, None) if via else None
    else:
        kind = HTTPConnection

    class Connection(kind):  # type: ignore[misc, valid-type]
        def _new_conn(self) -> socket.socket:
            connection: socket.socket = super()._new_conn()
            connected(connection)
            return connection

    connection: HTTPConnection = Connection((by.host or "").strip("[]"), by.port, **more)
    if via is not None and to.scheme == "https":
        tunnel = (to.host or "").strip("[]"), to.port or 443
        connection.set_tunnel(*tunnel, headers=proxy_headers(proxy), scheme=via.scheme or "http")
    return connection


def proxy_headers(proxy: Secret | None) -> dict[str, str]:
    """Return the headers that a proxy's user name and password make."""
    auth = parse_url(proxy.reveal()).auth if proxy else None
    return make_headers(proxy_basic_auth=unquote(auth)) if auth else {}


def _text(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value
