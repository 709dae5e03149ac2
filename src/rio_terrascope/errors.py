"""The exceptions that this package raises on purpose: one family, and what each of them carries.

::

    TerrascopeError               next_step
    ├── SettingsError             a setting cannot be used
    ├── CredentialsNotFoundError  no username and password were found
    ├── InvalidCredentialsError   the login service refused them, or the login has ended
    ├── TokenEndpointError        no token could be obtained: retry_after
    ├── AccessDeniedError         a URL was refused to a user who is logged in: url, status
    ├── CatalogueError            the catalogue gave no usable answer
    └── AccountConflictError      two accounts for one origin at the same time

    TerrascopeWarning             a UserWarning: something works, but not as it should

`str(error)` is one line for a person: what happened, then the next step. A program reads the
attributes instead. No message or attribute holds a password or a token.
"""


class TerrascopeError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    what : str
        What happened, and at which host.
    next_step : str, optional
        What the user can do about it.

    Attributes
    ----------
    what, next_step
        The parameters; `next_step` is None if there is no advice to give.
    """

    def __init__(self, what: str, *, next_step: str | None = None) -> None:
        # the message alone is in `args`, so that the error can be pickled: Dask sends errors about
        super().__init__(with_next_step(what, next_step) if next_step else what)
        self.what = what
        self.next_step = next_step


class SettingsError(TerrascopeError):
    """A setting cannot be used: a malformed URL, ``http://`` to a real host, options that clash."""


class CredentialsNotFoundError(TerrascopeError):
    """No username and password were found; the message lists where they were looked for."""


class InvalidCredentialsError(TerrascopeError):
    """The login service refused the username and password, or the login has ended and cannot be renewed."""


class TokenEndpointError(TerrascopeError):
    """The token endpoint could not be reached, or its answer is not a token.

    Attributes
    ----------
    retry_after : float or None
        The seconds to wait before the next request, if the endpoint named them.
    """

    def __init__(self, what: str, *, next_step: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(what, next_step=next_step)
        self.retry_after = retry_after


class AccessDeniedError(TerrascopeError):
    """A URL was refused to a user who is logged in: 401, 403, or a login page in place of the file.

    Attributes
    ----------
    url : str or None
        The URL that was to be opened.
    status : int or None
        The HTTP status: 401 or 403; for a login page, the status that it came with.
    """

    def __init__(
        self, what: str, *, next_step: str | None = None, url: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(what, next_step=next_step)
        self.url = url
        self.status = status


class CatalogueError(TerrascopeError):
    """The catalogue could not be reached, or its answer cannot be used."""


class AccountConflictError(TerrascopeError):
    """A second account asked for an origin that another account is reading from in the same process."""


class TerrascopeWarning(UserWarning):
    """Something works, but not as it should. For example, the token cannot be confined to its origins."""


NEXT = "Next: "


def with_next_step(what: str, next_step: str) -> str:
    """Return the one line that says what happened and what to do next."""
    return f"{what.rstrip('.')}. {NEXT}{next_step.rstrip('.')}."


def install_advice(extra: str) -> str:
    """Return the command that installs an extra: from an index, or in a clone of the repository."""
    return f"pip install 'rio-terrascope[{extra}]', or '.[{extra}]' in a clone"
