"""The one place that makes `requests` sessions.

`requests` is generous by default: it adds passwords from ~/.netrc, follows redirects, and sends requests
for this machine to a proxy. A session from here does none of that.
"""

from typing import Any

import requests
from requests.adapters import HTTPAdapter, Retry
from requests.auth import AuthBase

from rio_terrascope.certificates import Bundle
from rio_terrascope.settings import stays_here


def new_session(url: str, bundle: Bundle | None, *, access_token: str | None = None) -> requests.Session:
    """Make a session for one server, which sends a secret nowhere else.

    Parameters
    ----------
    url : str
        A URL of the server. If it is on this machine, no proxy is used.
    bundle : Bundle or None
        The certificates to trust; None for certifi's.
    access_token : str, optional
        Sent as ``Authorization: Bearer ...``. Without one, no credentials are sent at all.

    Returns
    -------
    requests.Session
        It follows no redirects.
    """
    session = _WithoutRedirects()
    secure(session, url, bundle)
    session.auth = _Auth(access_token)
    return session


def secure(session: requests.Session, url: str, bundle: Bundle | None, *, retries: Retry | int = 0) -> None:
    """Set a session's proxies, certificates and retries, and keep passwords of ~/.netrc out of it.

    For a session that another library makes. Parameters are those of `new_session`; `retries` is for
    `requests.adapters.HTTPAdapter`.
    """
    session.trust_env = not stays_here(url)
    session.auth = _Auth(None)
    session.mount("https://", _Trusting(bundle, retries))


class _WithoutRedirects(requests.Session):
    """A redirect would carry the body of a request, and so the password, to another host."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class _Auth(AuthBase):
    """Adds the token, if there is one. Without an auth, requests looks for a password in ~/.netrc."""

    def __init__(self, access_token: str | None) -> None:
        self._access_token = access_token

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._access_token is not None:
            request.headers["Authorization"] = f"Bearer {self._access_token}"
        return request


class _Trusting(HTTPAdapter):
    """Trusts a bundle, whatever `verify` is: requests lets REQUESTS_CA_BUNDLE win over a session's."""

    def __init__(self, bundle: Bundle | None, retries: Retry | int) -> None:
        self._bundle = bundle
        super().__init__(max_retries=retries)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if self._bundle is not None:
            kwargs["verify"] = self._bundle.path
        return super().send(request, *args, **kwargs)
