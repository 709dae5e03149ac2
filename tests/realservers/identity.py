"""A token endpoint from another project: django-oauth-toolkit, with accounts, in a folder of its own.

``python identity.py FOLDER PORT LIFETIME KEEP`` serves it until it is stopped. Each token request is logged
as a line in FOLDER/tokens.log, with the grant and the status of the answer. KEEP says whether an access token
stays valid after a refresh: "yes", as with Keycloak, or "no", which is this server's default.
"""

import os
import sys
from pathlib import Path

import django
from django.conf import settings

FOLDER, PORT, LIFETIME = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
KEEP = sys.argv[4] == "yes"
# allows oauthlib plain http: the password crosses only loopback, and nginx adds TLS in front
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"

USERNAME, PASSWORD, CLIENT_ID = "researcher", "correct horse & battery+staple", "public"
RESOURCE_SERVER = ("data-server", "data-server-secret")  # may check tokens


class TokenLog:
    """A middleware that logs grants and statuses, but no secrets."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        if request.path == "/o/token/":
            with open(FOLDER / "tokens.log", "a") as log:
                log.write(f"{request.POST.get('grant_type')} {response.status_code}\n")
        return response


settings.configure(
    SECRET_KEY="for tests",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    # a slow hash of the client's secret would take up to a second at each introspection of a token
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"],
    MIDDLEWARE=[f"{__name__}.TokenLog"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(FOLDER / "db.sqlite3")}},
    OAUTH2_PROVIDER={
        "SCOPES": {"read": "read data"},
        "ACCESS_TOKEN_EXPIRE_SECONDS": LIFETIME,
        "REFRESH_TOKEN_EXPIRE_SECONDS": 3600,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,  # an old one ends the session, as with Keycloak
        "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": False,  # Terrascope documents the password grant
    },
)
django.setup()

from django.http import HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider.oauth2_backends import get_oauthlib_core  # noqa: E402


def check(request):
    """Answer nginx's auth_request: may the bearer of this request read?"""
    valid, asked = get_oauthlib_core().verify_request(request, scopes=["read"])
    if valid:
        return HttpResponse(status=204)
    said = "".join(f', {key}="{value}"' for key, value in getattr(asked, "oauth2_error", {}).items())
    return HttpResponse(status=401, headers={"WWW-Authenticate": f'Bearer realm="data"{said}'})


urlpatterns = [path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")), path("check", check)]


def main():
    import waitress
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from oauth2_provider.models import AccessToken, Application

    if KEEP:  # no setting does this
        AccessToken.revoke = lambda self: None
    call_command("migrate", verbosity=0)
    User.objects.create_user(USERNAME, password=PASSWORD)
    Application.objects.create(
        client_id=CLIENT_ID,
        client_type=Application.CLIENT_PUBLIC,
        authorization_grant_type=Application.GRANT_PASSWORD,
    )
    Application.objects.create(
        client_id=RESOURCE_SERVER[0],
        client_secret=RESOURCE_SERVER[1],
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
    )
    waitress.serve(get_wsgi_application(), host="127.0.0.1", port=PORT, threads=8, _quiet=True)


if __name__ == "__main__":
    main()
