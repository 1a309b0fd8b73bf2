"""What keeps other pages, and other people, away from a page that is meant for one.

Belongs here: who may ask, and what a browser may do with the answer. Of several locks each holds by
itself: names of the host other than ours are refused (DNS rebinding), so are requests of other
origins, and nothing but the first page is answered without the secret of a session, which no other
page can read (CSRF).
"""

import secrets
from collections.abc import Mapping, Sequence

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
SESSION = "x-session"  # header with the secret of a session
# Plotly sets styles; scripts come from files of ours alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def refusal(
    method: str, path: str, headers: Mapping[str, str], query: Mapping[str, str],
    hosts: Sequence[str], token: str,
) -> str:  # fmt: skip
    """Returns why a request is refused; '' if it is not.

    Args:
        method: of the request.
        path: of the address.
        headers: by name in lower case.
        query: of the address.
        hosts: names under which the page is served; empty for any, which `token` then guards.
        token: that the first page must be asked for with; '' for none.
    """
    host = headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if hosts and name.lower() not in hosts:
        return f"the page is served as {hosts[0]} alone"
    if headers.get("origin", f"http://{host}") != f"http://{host}":
        return "asked for by another page"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and (
        method != "GET" or headers.get("sec-fetch-dest") != "document"
    ):
        return "asked for by another page"
    if path == "/":
        if method not in ("GET", "HEAD"):
            return "the page can be looked at alone"
        if headers.get("sec-fetch-dest", "document") != "document":
            return "the page opens in a window of its own alone"
        if token and not secrets.compare_digest(query.get("token", "").encode(), token.encode()):
            return "the address must end in ?token= and the token given at the start"
    return ""
