"""Which certificate authorities are trusted: one variable is enough, for the login and for GDAL.

requests looks at REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE. GDAL looks at GDAL_CURL_CA_BUNDLE, and at
CURL_CA_BUNDLE and SSL_CERT_FILE after it, but rasterio sets the first one to certifi's file, so that
GDAL never comes to the others. Here each asks its own variables first, and then those of the other.
"""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REQUESTS_VARIABLE = "REQUESTS_CA_BUNDLE"
GDAL_VARIABLE = "GDAL_CURL_CA_BUNDLE"
VARIABLES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", REQUESTS_VARIABLE, GDAL_VARIABLE)

_FOR_REQUESTS = (REQUESTS_VARIABLE, "CURL_CA_BUNDLE", "SSL_CERT_FILE", GDAL_VARIABLE)
_FOR_GDAL = (GDAL_VARIABLE, "CURL_CA_BUNDLE", "SSL_CERT_FILE", REQUESTS_VARIABLE)

_ADVICE_ON_THE_REST = (
    "check the host's name and this machine's clock; if they are right, tell who runs the host"
)

# OpenSSL's verify codes for a chain that ends with an authority that is not known (x509_vfy.h): a
# self-signed certificate, alone (18) or at the top (19), and an issuer that is missing (20, 21)
_UNKNOWN_AUTHORITY = (18, 19, 20, 21)


@dataclass(frozen=True)
class Bundle:
    """The certificates to trust, and the variable that names them.

    Attributes
    ----------
    path : str
        A file of PEM certificates, or a folder that ``openssl rehash`` has prepared.
    variable : str
        The environment variable that says so.
    """

    path: str
    variable: str

    @property
    def gdal_option(self) -> str:
        """The option that GDAL takes it by; honoured per path (checked in tests/test_certificates.py)."""
        return "GDAL_HTTP_CAPATH" if Path(self.path).is_dir() else GDAL_VARIABLE

    def fault(self) -> str | None:
        """Say why it cannot be used, or None where it can."""
        if Path(self.path).is_dir():
            if self.variable == GDAL_VARIABLE:
                return f"{self.variable} names {self.path}, which is a folder, where GDAL wants a file"
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
    """Return what the login trusts, or None where no variable is set: certifi's authorities.

    Parameters
    ----------
    environ : mapping, optional
        The environment to look at instead of ``os.environ``.
    """
    return _first(_FOR_REQUESTS, os.environ if environ is None else environ)


def for_gdal(environ: Mapping[str, str] | None = None) -> Bundle | None:
    """Return what GDAL is to trust at the origins, or None where no variable is set.

    Parameters
    ----------
    environ : mapping, optional
        The environment to look at instead of ``os.environ``.
    """
    return _first(_FOR_GDAL, os.environ if environ is None else environ)


def named(environ: Mapping[str, str] | None = None) -> list[Bundle]:
    """Return what each variable names, for those that somebody has set."""
    environ = os.environ if environ is None else environ
    return [found for variable in VARIABLES if (found := _first((variable,), environ))]


def is_default(path: str) -> bool:
    """Tell whether a path is certifi's file, which rasterio sets GDAL's variable to, here or in a parent."""
    return Path(path).parts[-2:] == ("certifi", "cacert.pem")


def why_refused(error: BaseException, bundle: Bundle | None) -> tuple[str, str]:
    """Say why a connection over TLS failed, and what to do next.

    Parameters
    ----------
    error : Exception
        What `requests` raised.
    bundle : Bundle or None
        What was trusted.

    Returns
    -------
    tuple of str
        What is wrong with "its certificate", and the advice; neither ends with a full stop.
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
        return what, _advice_on_authority(bundle)
    return f"its certificate is not accepted: {cause.verify_message.rstrip('.')}", _ADVICE_ON_THE_REST


def advice_for_gdal(message: str) -> str | None:
    """Say what to do next about an error of GDAL's, or None where it is not about a certificate."""
    if not re.search(r"CURL error:.*(certificate|trust anchors)", message):
        return None
    bundle = for_gdal()
    if re.search(r"certificate file|trust anchors", message):  # curl could not load the file
        return f"correct {bundle.variable if bundle else GDAL_VARIABLE}, or unset it"
    if re.search(r"issuer|self.signed", message):
        return _advice_on_authority(bundle)
    return _ADVICE_ON_THE_REST


def _advice_on_authority(bundle: Bundle | None) -> str:
    if bundle is None:
        return (
            "where the network has a certificate authority of its own, set SSL_CERT_FILE to the file "
            "with its certificate"
        )
    return (
        f"add the certificate of the network's own authority to {bundle.path}, or let {bundle.variable} "
        "name another file"
    )


def _first(variables: tuple[str, ...], environ: Mapping[str, str]) -> Bundle | None:
    for variable in variables:
        path = environ.get(variable)
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
