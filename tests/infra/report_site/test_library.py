"""What was fetched is kept, verified each time it is read, and never needed to be right."""

from pathlib import Path

import pytest

from infra import artifacts
from infra.report_site.library import Library
from models.common.errors import RegistryError
from tests.fixtures.many_versions import Published, write_registry


def _registered(home: Path) -> None:
    write_registry(home, [Published("relay", "v0.1.0"), Published("relay", "v0.2.0", lineage={"seed": 2})])


def _kept(home: Path, name: str) -> list[Path]:
    return list((home / "reports").glob(f"*/{name}"))


def test_a_page_is_fetched_once(home: Path) -> None:
    _registered(home)
    library = Library()
    version = library.find("relay@v0.1.0")
    page = library.page(version)
    assert page == artifacts.read_files("relay@v0.1.0", ["report.html"])["report.html"]
    (home / "remote").rename(home / "remote-away")
    assert Library().page(version) == page
    assert library.page_file(version).read_bytes() == page
    with pytest.raises(RegistryError):
        library.page(library.find("relay@v0.2.0"))


@pytest.mark.parametrize("name", ["report.html", "manifest.json"])
def test_a_kept_file_that_was_altered_is_fetched_again(name: str, home: Path) -> None:
    _registered(home)
    library = Library()
    version = library.find("relay@v0.1.0")
    page = library.page(version)
    (file,) = _kept(home, name)
    file.write_bytes(b"<script>")
    assert library.page(version) == page
    assert file.read_bytes() != b"<script>"


def test_weights_are_not_fetched(home: Path) -> None:
    _registered(home)
    library = Library()
    facts = library.facts(library.find("relay"))
    assert facts.files["weights.safetensors"] == len(b"weights of relay@v0.2.0")
    assert _kept(home, "config.json")
    assert not _kept(home, "weights.safetensors")


def test_a_record_that_names_a_path_for_its_hash_keeps_nothing_there(home: Path, tmp_path: Path) -> None:
    _registered(home)
    version = Library().find("relay").but(sha256="../../escaped")
    with pytest.raises(RegistryError, match="another manifest"):
        Library().page(version)
    assert not list(tmp_path.rglob("*escaped*"))


def test_the_versions_are_read_again_when_they_may_have_changed(home: Path) -> None:
    _registered(home)
    library = Library()
    assert len(library.listing().versions) == 2
    artifacts.promote("relay", "v0.1.0")
    library.forget()
    assert library.find("relay#champion").version == "v0.1.0"


def test_a_registry_that_went_away_is_told_and_what_it_had_is_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _registered(home)
    library = Library()
    assert not library.listing().problem
    monkeypatch.setenv("ORCHARD_REGISTRY", str(home / "remote"))
    library.forget()
    listing = library.listing()
    assert len(listing.versions) == 2
    assert "is no bare git repository" in listing.problem
    assert "shown is what it had at" in listing.problem
