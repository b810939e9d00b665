"""Who may speak to the server: its own pages and clients, by one of its names, and with its token where it has one."""

import secrets
from collections.abc import Collection
from urllib.parse import urlsplit

from names import check_name
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Guard", "Settings", "is_token", "too_large"]

_NAMES = ("image", "id", "label", "tag", "session_id")  # parameters of a query that become parts of a path
_WITHOUT_TOKEN = ("/auth/", "/auth/token")  # where a client asks whether it needs one, and gets it


class Settings(BaseSettings):
    """What ``label/serve.py`` tells the server, by environment variables ``LABEL_...``."""

    model_config = SettingsConfigDict(env_prefix="LABEL_")

    address: str = "http://127.0.0.1:8000"
    hosts: list[str] = ["127.0.0.1", "localhost"]
    token: str = ""
    max_upload_mb: int = 1024
    end_with_stdin: bool = False


class Guard:
    """Refuses what strangers send, before anything else reads it.

    A page of the web can let the browser of an annotator send requests here. The browser names the page's origin in
    them, or says that another site asks; and where the page gave this computer a name of its own, that is their host.

    Starlette's TrustedHostMiddleware answers 400, and does not say what is legal.

    Args:
        app: what answers the others.
        hosts: names and addresses of this server.
        token: what each request must bear; without it none has to.
        max_mb: the largest request that says how large it is. Starlette's limit counts the others.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str, max_mb: int) -> None:
        self.app = app
        self.max_mb = max_mb
        self.hosts = {host.lower() for host in hosts}
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _host_name(host) not in self.hosts or len(headers.getlist("host")) > 1:
            legal = ", ".join(sorted(self.hosts))
            return _answer(403, f"This server is not called {host!r}, but {legal}. --hosts adds a name.")
        is_own = headers.get("origin", f"//{host}").lower().partition("//")[2] == host.lower()
        if not is_own or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _answer(403, "Requests of other web pages are refused. Use 3D Slicer, or a client that is no page.")
        if self.token and scope["path"] not in _WITHOUT_TOKEN and not self._has_token(headers):
            return _answer(
                401,
                "A token is needed: it is printed where the server was started. 3D Slicer asks for it as the password "
                "of any user; other clients send it as `Authorization: Bearer TOKEN`.",
                {"WWW-Authenticate": "Bearer"},
            )
        if int(headers.get("content-length", "0")) > self.max_mb << 20:
            return too_large(self.max_mb)
        query = QueryParams(scope["query_string"])
        try:
            for name in _NAMES:
                for value in query.getlist(name):
                    check_name(value)
        except ValueError as error:
            return _answer(400, f"{name}: {error}")
        return None

    def _has_token(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and is_token(token, self.token)


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def is_token(given: str, token: str) -> bool:
    """Whether a token is that of the server, in a time that does not tell how much of it is right."""
    return secrets.compare_digest(given.encode(), token.encode())


def too_large(max_mb: int) -> JSONResponse:
    """The answer to an upload beyond the limit."""
    return _answer(413, f"The request is too large; legal are {max_mb} MB, which --max_upload_mb raises.")


def _answer(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
