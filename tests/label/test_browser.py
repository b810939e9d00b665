"""Law of a MONAI Label server in a real browser: a page of another origin can do nothing through it."""

import json
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from clients import PHANTOM, upright

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PAGE = Path(__file__).with_name("page_of_a_stranger.html")


@pytest.fixture(scope="module")
def browse():
    """The text that a headless browser shows of an address, once its scripts have run."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"there is no browser; one of them is needed: {', '.join(BROWSERS)}")

    def shown(address, folder):
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        command += [
            "--host-resolver-rules=MAP *.example 127.0.0.1",
            "--virtual-time-budget=60000",
            "--dump-dom",
            address,
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
        return re.search("<pre[^>]*>(.*?)</pre>", result.stdout, re.DOTALL)[1]

    return shown


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.mark.parametrize("origin", ["127.0.0.1", "evil.example"])
def test_a_page_of_another_origin_can_do_nothing(origin, browse, server, phantoms, labelled, tmp_path):
    labelled(*upright(phantoms))
    before = {path: path.stat().st_mtime_ns for path in server.studies.rglob("*")}
    case, marker = upright(phantoms)[0], tmp_path / "marker"
    values = {"SERVER": server.address, "MODEL": PHANTOM, "CASE": case, "MARKER": str(marker)}
    (tmp_path / "site").mkdir()
    page = PAGE.read_text()
    for name, value in values.items():
        page = re.sub(rf'"{name}"', json.dumps(value), page).replace(f"touch {name}", f"touch {value}")
    (tmp_path / "site" / "index.html").write_text(page)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "site")) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        text = browse(f"http://{origin}:{site.server_port}/index.html", tmp_path)
        site.shutdown()
    report, end = text.rsplit(" ", 1)
    assert end == "END"
    assert len(json.loads(report)) == 22
    assert set(json.loads(report).values()) == {"not read"}
    assert not marker.exists()
    assert server.get("/train/?check_if_running=true").status_code == 404
    assert {path: path.stat().st_mtime_ns for path in server.studies.rglob("*")} == before


def test_a_page_that_gave_the_server_a_name_of_its_own_is_refused(browse, server, tmp_path):
    port = server.address.rsplit(":")[-1]
    assert "This server is not called 'evil.example" in browse(f"http://evil.example:{port}/info/", tmp_path)
    assert "equivariant by construction" in browse(f"{server.address}/info/", tmp_path)
