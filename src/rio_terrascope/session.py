"""`TerrascopeSession`: a login as rasterio's session."""

from typing import Any

from rasterio.session import Session

from rio_terrascope.auth.tokens import TokenSource
from rio_terrascope.gdal.options import HEADERS, without_authorization
from rio_terrascope.secret import Secret, also_half_made
from rio_terrascope.settings import Settings


class TerrascopeSession(Session):
    """A login as rasterio's session, for ``rasterio.Env(session=TerrascopeSession())``.

    It works as ``terrascope_env(scope="env")`` does: every host that GDAL contacts inside that Env
    receives the token, and a dataset keeps the token that it was opened with. Prefer `terrascope_env`.

    Parameters
    ----------
    username, password, settings, tokens
        As for `terrascope_env`.

    Raises
    ------
    CredentialsNotFoundError
        If no username and password are found.
    """

    def __init__(
        self,
        username: str | None = None,
        password: str | Secret | None = None,
        *,
        settings: Settings | None = None,
        tokens: TokenSource | None = None,
    ) -> None:
        password = Secret.of(password)
        self._tokens = tokens or TokenSource(username, password, settings=settings)

    @also_half_made
    def __repr__(self) -> str:
        return f"<TerrascopeSession, {self._tokens!r}>"

    @classmethod
    def hascreds(cls, config: dict[str, Any]) -> bool:
        """Tell whether GDAL options hold an Authorization header already."""
        headers = str(config.get(HEADERS, ""))
        return headers != without_authorization(headers)

    @property
    def credentials(self) -> dict[str, str]:
        """The result of `get_credential_options`, under the name that rasterio's sessions use."""
        return self.get_credential_options()

    def get_credential_options(self) -> dict[str, str]:
        """Return GDAL_HTTP_HEADERS with a token that is valid now. A token near its end is renewed.

        Raises
        ------
        InvalidCredentialsError, TokenEndpointError
            If there is no valid token, and the login service gives none.
        """
        return {HEADERS: f"Authorization: Bearer {self._tokens.get().access_token}"}
