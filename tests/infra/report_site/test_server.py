"""The site answers with every version, changes nothing, and shows whatever a registry holds as text."""

import socket
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from infra.report_site.server import serve
from models.common.errors import ClusterError
from models.common.report import Report
from tests.fixtures.many_versions import Published, write_registry
from tests.fixtures.pages import Page
from tests.fixtures.report_site import HOSTILE, Site, versions

SPECS = [f"{each.name}@{each.version}" for each in versions()]
PAGES = [
    "/",
    "/?q=hostile",
    f"/?q={quote(HOSTILE)}",
    f"/?name={quote(HOSTILE)}",
    "/compare",
    "/lineage",
    "/lineage?name=relay",
    *(f"/{spec.replace('@', '/')}/" for spec in SPECS),
    *(f"/lineage?of={spec}" for spec in SPECS),
    *(f"/compare?a=hostile@v0.1.0&b={spec}" for spec in SPECS),
    f"/{quote(HOSTILE, safe='')}",
    f"/{quote(HOSTILE, safe='')}/v1/",
    f"/compare?a={quote(HOSTILE)}&b=relay",
]


def _words(text: str) -> str:
    return " ".join(Page(text).text.split())


def test_the_index_has_every_version_and_finds_them(site: Site) -> None:
    index = site.get("/")
    assert index.status == 200
    assert [spec for spec in SPECS if f'href="/{spec.replace("@", "/")}/"' not in index.text] == []
    assert "champion" in index.text
    assert "Registered by other means" in index.text
    found = {
        "relay": {"relay@v0.1.0", "relay@v0.2.0", "relay@v0.3.0"},
        "CHAMPION": {"relay@v0.1.0"},
        "seed=2": {"relay@v0.3.0"},
        "relay tiny": {"relay@v0.3.0"},
        "99.8 solves": {"relay@v0.2.0"},
    }
    for words, specs in found.items():
        text = site.get(f"/?q={quote(words)}").text
        assert {spec for spec in SPECS if f'value="{spec}"' in text} == specs, words
    assert "{{ 7 * 7 }}" in Page(index.text).text
    assert "No version fits" in site.get("/?q=nothing-like-it").text
    assert 'value="maps@v0.1.0"' not in site.get("/?name=relay").text


def test_a_report_is_the_published_page_with_a_way_to_the_others(site: Site, tmp_path: Path) -> None:
    page = next(each for each in versions() if each.version == "v0.2.0").contents(tmp_path)["report.html"].decode()
    answer = site.get("/relay/v0.2.0/")
    assert answer.status == 200
    head, body = page.split("</head>\n<body>\n")
    assert answer.text.startswith(head)
    assert answer.text.endswith(body)
    assert 'href="/compare?a=relay@v0.1.0&amp;b=relay@v0.2.0"' in answer.text, (
        "the champion is what it is compared with"
    )
    assert site.get("/relay/v0.2.0").headers["Location"] == "/relay/v0.2.0/"


def test_two_versions_stand_side_by_side(site: Site) -> None:
    text = _words(site.get("/compare?a=relay%23champion&b=relay@v0.2.0").text)
    assert "relay@v0.1.0 and relay@v0.2.0" in text
    assert "loss A 0.5 B 0.25 B − A −0.25 (−50 %)" in text
    assert "max steps A 100 B 200 B − A +100 (+100 %)" in text
    assert "87.5 points better" in text
    figures = site.get("/compare?a=relay@v0.1.0&b=relay@v0.2.0").text.count("<figure")
    assert figures == 2 * len(versions()[0].report.figures)


def test_versions_of_different_workloads_are_not_compared_in_what_they_measure(site: Site) -> None:
    text = _words(site.get("/compare?a=relay&b=maps").text)
    assert "relay and maps are different workloads" in text
    assert "Metrics" not in text
    assert "Lineage" in text


def test_the_lineage_shows_what_versions_share(site: Site) -> None:
    text = site.get("/lineage?of=relay@v0.2.0").text
    assert text.count('href="/relay/v0.') == 0, "links of the picture are quoted as SVG's own"
    assert text.count("href='/relay/v0.") == 3
    assert "relay-0e1f22334455" in text
    assert "retrained after relay@v0.1.0" in _words(text)
    unknown = _words(site.get("/lineage").text)
    assert "foreign@v1.0.0 was not registered by Orchard" in unknown
    assert "damaged@v0.1.0: the object" in unknown


def test_a_damaged_version_says_so_and_the_others_go_on(site: Site) -> None:
    damaged = site.get("/damaged/v0.1.0/")
    assert damaged.status == 502
    assert "was altered" in damaged.text
    assert "damaged@v0.1.0 cannot be shown" in damaged.text
    assert site.get("/relay/v0.1.0/").status == 200
    compared = site.get("/compare?a=damaged&b=relay")
    assert compared.status == 200
    assert "was altered" in compared.text
    foreign = site.get("/foreign/v1.0.0/")
    assert foreign.status == 502
    assert "dvc artifacts get" in foreign.text
    newer = _words(site.get("/compare?a=newer&b=newer").text)
    assert "cannot read its report.json" in newer


@pytest.mark.parametrize("path", PAGES, ids=range(len(PAGES)))
def test_no_text_becomes_markup_and_nothing_is_fetched(path: str, site: Site) -> None:
    answer = site.get(path)
    page = Page(answer.text)
    names = {name for _, given in page.tags for name in given}
    assert [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "embed", "base", "link")] == []
    assert [name for name in names if name.startswith("on")] == []
    given = [pair for _, given in page.tags for pair in given.items()]
    addresses = [value or "" for name, value in given if name in ("src", "href", "action")]
    assert [address for address in addresses if not address.startswith(("/", "#", "data:"))] == []
    assert [address for address in addresses if address.startswith("//")] == []
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_other_names_for_this_machine_are_refused(site: Site) -> None:
    port = site.server.server_port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1:1", "127.0.0.1", "", f"localhost.evil:{port}"):
        assert site.get("/", Host=host).status == 421, host
    assert site.get("/", Host=f"localhost:{port}").status == 200


def test_it_only_answers_questions(site: Site) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert site.get("/", method).status == 501
    head = site.get("/relay/v0.1.0/", "HEAD")
    assert (head.status, head.text) == (200, "")
    assert int(head.headers["Content-Length"]) == len(site.get("/relay/v0.1.0/").text.encode())
    known = site.get("/relay/v0.1.0/", If_None_Match=head.headers["ETag"])
    assert (known.status, known.text) == (304, "")


@pytest.mark.parametrize(
    "path",
    [
        "/relay/v9.9.9/",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%00/v1/",
        "/relay/v0.1.0/weights.safetensors",
        "/compare?a=relay@&b=relay",
        "/compare?a=relay&b=../relay",
        "/lineage?of=nobody",
        "/?page=none",
        "//[",
        "/?" + "a=b&" * 30,
    ],
)
def test_an_address_of_nothing_is_answered_as_such(path: str, site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    answer = site.get(path)
    assert answer.status in (400, 404)
    assert "<h1>" in answer.text
    assert "Traceback" not in capfd.readouterr().err


def test_it_listens_on_this_machine_only_and_on_free_ports_only(home: Path) -> None:
    with pytest.raises(ClusterError, match="this machine only"):
        serve("0.0.0.0")  # noqa: S104 what is refused
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ClusterError, match="cannot serve reports on port"):
            serve(port=taken.getsockname()[1])


def test_an_empty_registry_and_a_broken_one_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        assert "Nothing is published yet" in Site(server).get("/").text
        assert "Nothing is published yet" in Site(server).get("/lineage").text
        file = tmp_path / "file"
        file.write_text("")
        monkeypatch.setenv("ORCHARD_REGISTRY", str(file))
        server.library.forget()
        assert "is no bare git repository" in Site(server).get("/").text
        assert Site(server).get("/relay/v0.1.0/").status == 404
        server.shutdown()
        thread.join()


def test_two_hundred_versions_are_listed_at_once(home: Path) -> None:
    plain, page = Report(workload="relay", title="t", summary="s", metrics={}), {"report.html": b"<!doctype html>"}
    many = (Published("relay", f"v0.{minor}.0", plain, files=page, seed=minor) for minor in range(1, 206))
    write_registry(home, list(many))
    with serve() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        site = Site(server)
        first = site.get("/")
        assert first.text.count('name="a"') == 200
        assert "1–200 of 205" in first.text
        assert 'value="relay@v0.1.0"' in site.get("/?page=2").text
        assert "1–30 of 205" in site.get("/lineage").text
        began = time.monotonic()
        for _ in range(5):
            site.get("/?q=relay")
        assert time.monotonic() - began < 5, "a list of 200 takes 25 ms on an idle core"
        server.shutdown()
        thread.join()
