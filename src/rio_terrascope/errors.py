"""The exceptions of the package: one family, each message ends with what to do next."""


class TerrascopeError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(TerrascopeError):
    """A setting cannot be used as it is: a malformed URL, ``http://`` to a real host, a clash of options."""


class CredentialsNotFoundError(TerrascopeError):
    """No username and password were found; the message lists where they were looked for."""


class InvalidCredentialsError(TerrascopeError):
    """The login service refused the username and password, or the login has ended and cannot be renewed."""


class TokenEndpointError(TerrascopeError):
    """The token endpoint could not be reached, or gave an answer that is not a token.

    Attributes
    ----------
    retry_after : float or None
        Seconds that the endpoint asked to be left alone for, if it did.
    """

    def __init__(self, *args: object, retry_after: float | None = None) -> None:
        super().__init__(*args)
        self.retry_after = retry_after


class AccessDeniedError(TerrascopeError):
    """A URL was refused to a user who is logged in: 401, 403, or a login page in place of the file."""


class CatalogueError(TerrascopeError):
    """The catalogue could not be reached, or gave an answer that is none."""


class AccountConflictError(TerrascopeError):
    """A second account asked for an origin that another account is reading from in the same process."""


class TerrascopeWarning(UserWarning):
    """Something works, but not as it should: the token cannot be confined to its origins, say."""


def install_advice(extra: str) -> str:
    """Return the command that installs an extra: from an index, or in a clone of the repository."""
    return f"pip install 'rio-terrascope[{extra}]', or '.[{extra}]' in a clone"
