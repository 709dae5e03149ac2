"""Which certificate authorities are trusted. One variable is enough, for the login and for GDAL.

requests looks at REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE. GDAL looks at GDAL_CURL_CA_BUNDLE, then at
CURL_CA_BUNDLE and SSL_CERT_FILE; but rasterio sets the first one to certifi's file, so that GDAL never
reaches the others. Here each of the two looks at its own variables first, and then at the other's.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REQUESTS_VARIABLE = "REQUESTS_CA_BUNDLE"
GDAL_VARIABLE = "GDAL_CURL_CA_BUNDLE"
VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", REQUESTS_VARIABLE, GDAL_VARIABLE)

_FOR_REQUESTS = (REQUESTS_VARIABLE, "CURL_CA_BUNDLE", "SSL_CERT_FILE", GDAL_VARIABLE)
_FOR_GDAL = (GDAL_VARIABLE, "CURL_CA_BUNDLE", "SSL_CERT_FILE", REQUESTS_VARIABLE)

ADVICE_ON_THE_REST = (
    "check the host's name and this machine's clock; if they are right, tell the people who run the host"
)

# OpenSSL's verify codes for a chain that ends with an unknown authority (x509_vfy.h): a self-signed
# certificate, alone (18) or at the top (19), and a missing issuer (20, 21)
_UNKNOWN_AUTHORITY = (18, 19, 20, 21)


@dataclass(frozen=True)
class Bundle:
    """The certificates to trust, and the variable that names them.

    Attributes
    ----------
    path : str
        A file of PEM certificates, or a folder that ``openssl rehash`` has prepared.
    variable : str
        The environment variable that names them.
    """

    path: str
    variable: str

    @property
    def gdal_option(self) -> str:
        """The GDAL option that names it; honoured per path (checked in tests/test_certificates.py)."""
        if self.variable != GDAL_VARIABLE and Path(self.path).is_dir():
            return "GDAL_HTTP_CAPATH"
        return GDAL_VARIABLE

    def fault(self) -> str | None:
        """Say why it cannot be used; None if it can."""
        if Path(self.path).is_dir():
            if self.variable == GDAL_VARIABLE:
                return f"{self.variable} names {self.path}, which is a folder; GDAL wants a file"
            return None
        try:
            ssl.create_default_context(cafile=self.path)
        except ssl.SSLError:
            return f"{self.variable} names {self.path}, which holds no certificate"
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            return f"{self.variable} names {self.path}, which cannot be read ({reason})"
        return None


def for_requests(environ: Mapping[str, str] | None = None) -> Bundle | None:
    """Return the certificates that the login trusts; None if no variable is set: certifi's.

    Parameters
    ----------
    environ : mapping, optional
        The environment to look at instead of ``os.environ``.
    """
    return _first(_FOR_REQUESTS, environ)


def for_gdal(environ: Mapping[str, str] | None = None) -> Bundle | None:
    """Return the certificates that GDAL should trust at the origins; None if no variable is set.

    Parameters
    ----------
    environ : mapping, optional
        The environment to look at instead of ``os.environ``.
    """
    return _first(_FOR_GDAL, environ)


def named(environ: Mapping[str, str] | None = None) -> list[Bundle]:
    """Return the certificates that each variable names, if it is set."""
    return [found for variable in VARIABLES if (found := _first((variable,), environ))]


def is_default(path: str) -> bool:
    """Tell whether a path is certifi's file. rasterio sets GDAL's variable to it, here or in a parent."""
    return Path(path).parts[-2:] == ("certifi", "cacert.pem")


def why_refused(error: BaseException, bundle: Bundle | None) -> tuple[str, str]:
    """Say why a connection over TLS failed, and what to do next.

    Parameters
    ----------
    error : Exception
        Raised by `requests`.
    bundle : Bundle or None
        The certificates that were trusted.

    Returns
    -------
    tuple of str
        The reason, and the next step. Neither ends with a period.
    """
    if bundle is not None and (fault := bundle.fault()):
        return fault, f"correct {bundle.variable}, or unset it"
    cause = innermost(error)
    if not isinstance(cause, ssl.SSLCertVerificationError):
        reason = getattr(cause, "reason", None) or type(cause).__name__
        return f"it does not speak TLS as it should ({reason})", "check the URL and its port, and HTTPS_PROXY"
    if cause.verify_code in _UNKNOWN_AUTHORITY:
        where = f"in {bundle.path}, which {bundle.variable} names" if bundle else "here"
        what = f"its certificate was not signed by an authority known {where}"
        return what, advice_on_authority(bundle)
    return f"its certificate is not accepted: {cause.verify_message.rstrip('.')}", ADVICE_ON_THE_REST


def advice_on_authority(bundle: Bundle | None) -> str:
    """Return the next step if a certificate was signed by an authority that the bundle does not have."""
    if bundle is None:
        return (
            "if the network has a certificate authority of its own, set SSL_CERT_FILE to the file "
            "with its certificate"
        )
    return (
        f"add the certificate of the network's own authority to {bundle.path}, or let {bundle.variable} "
        "name another file"
    )


def _first(variables: tuple[str, ...], environ: Mapping[str, str] | None) -> Bundle | None:
    for variable in variables:
        # no variable holds os.environ, which tools that print variables would show, password included
        path = (os.environ if environ is None else environ).get(variable)
        if path and not (variable == GDAL_VARIABLE and is_default(path)):
            return Bundle(path, variable)
    return None


def innermost(error: BaseException) -> BaseException:
    """Return the cause at the bottom of the nested exceptions of requests and urllib3."""
    seen = error
    while True:
        inner = (
            seen.__cause__
            or seen.__context__
            or next((arg for arg in seen.args if isinstance(arg, BaseException)), None)
            or getattr(seen, "reason", None)
        )
        if not isinstance(inner, BaseException) or inner is seen:
            return seen
        seen = inner
