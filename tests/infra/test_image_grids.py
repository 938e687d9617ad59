"""Grids of images on the page and in the picture: every pixel is there, named in words, and nothing is fetched."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infra.image_grids import as_png, shown_rows
from infra.pictures import as_markdown, draw_png
from infra.report_page import write_page
from models.common.image_grid import ImageGrid
from models.common.report import Drawing, Report
from tests.fixtures.reports import extrapolation, stripes

PIXELS = np.random.default_rng(0).integers(0, 256, size=(2, 3, 8, 12), dtype=np.uint8)
NOTES = (("d = 0.10", "d = 0.20", ""), ("d = 0.30", "d = 0.40", "d = 0.50"))


def _grid(**fields: Any) -> ImageGrid:
    return ImageGrid.of("speckle", PIXELS, **fields)


def _report(*figures: Drawing) -> Report:
    return Report(workload="w", title="t", summary="s", metrics={}, figures=figures)


def _page(tmp_path: Path, *figures: Drawing) -> str:
    write_page(_report(*figures), {}, tmp_path / "index.html")
    return (tmp_path / "index.html").read_text()


def _images(page: str) -> list[dict[str, str]]:
    """The attributes of each image element."""
    return [dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in re.findall(r"<img ([^>]*)>", page)]


def _decoded(source: str) -> np.ndarray:
    assert source.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def test_a_png_has_the_bytes_it_was_made_of() -> None:
    png = as_png(PIXELS[0, 0].tobytes(), 12, 8)
    read = Image.open(io.BytesIO(png))
    assert read.mode == "L"
    np.testing.assert_array_equal(np.asarray(read), PIXELS[0, 0])


def test_every_image_stands_on_the_page_in_its_place_and_size(tmp_path: Path) -> None:
    images = _images(_page(tmp_path, _grid(scale=3)))
    assert {(image["width"], image["height"]) for image in images} == {("36", "24")}
    found = np.stack([_decoded(image["src"]) for image in images]).reshape(PIXELS.shape)
    np.testing.assert_array_equal(found, PIXELS)


def test_every_image_is_named_in_words_with_its_note(tmp_path: Path) -> None:
    grid = _grid(row_labels=("real", "made"), column_labels=("benign", "dcis", "normal"), notes=NOTES)
    told = [image["alt"] for image in _images(_page(tmp_path, grid))]
    assert told[0] == "speckle: real, benign, d = 0.10"
    assert told[2] == "speckle: real, normal"
    assert [image["alt"] for image in _images(_page(tmp_path, _grid()))][5] == "speckle: row 2, column 3"
    page = _page(tmp_path, grid)
    for text in ("real", "made", "benign", "dcis", "normal", "d = 0.50"):
        assert f">{text}<" in page


def test_an_empty_place_keeps_its_column(tmp_path: Path) -> None:
    grid = ImageGrid.of("some", [[None, PIXELS[0, 0]], [PIXELS[0, 1], None]])
    [first, second] = shown_rows(grid)
    assert (first.images[0], second.images[1]) == (None, None)
    page = _page(tmp_path, grid)
    assert len(_images(page)) == 2
    assert page.count("<td") == 4


def test_pixels_are_squares_unless_the_grid_is_smooth(tmp_path: Path) -> None:
    assert '<table class="images">' in _page(tmp_path, _grid())
    assert '<table class="images smooth">' in _page(tmp_path, _grid(smooth=True))
    assert "image-rendering: pixelated" in _page(tmp_path, _grid())


def test_no_text_of_a_grid_becomes_markup(tmp_path: Path) -> None:
    bad = '<b>"x"</b>'
    grid = ImageGrid.of(bad, PIXELS[:1, :1], row_labels=(bad,), column_labels=(bad,), notes=((bad,),), caption=bad)
    page = _page(tmp_path, grid)
    assert "<b>" not in page
    assert len(_images(page)) == 1


def test_only_a_page_with_images_may_show_any_and_none_fetches_them(tmp_path: Path) -> None:
    def policy(page: str) -> str:
        [found] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
        return found

    assert policy(_page(tmp_path, extrapolation(), stripes())) == "default-src 'none'; style-src 'unsafe-inline'"
    assert policy(_page(tmp_path, _grid())) == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert "http" not in "".join(image["src"][:30] for image in _images(_page(tmp_path, _grid())))


def test_a_grid_needs_no_table_of_numbers_and_no_colours_of_maps(tmp_path: Path) -> None:
    page = _page(tmp_path, _grid())
    assert "The numbers" not in page
    assert ".ramp-" not in page
    assert "The numbers" in _page(tmp_path, _grid(), extrapolation())


@pytest.mark.parametrize(
    "fields", [{}, {"notes": NOTES, "smooth": True}, {"column_labels": ("costs $5", "_more", "x" * 90)}]
)
def test_a_grid_may_be_the_picture_of_the_run_page(fields: dict[str, Any]) -> None:
    [(title, picture)] = re.findall(
        r"!\[([^\]]*)\]\(data:image/png;base64,([^)]+)\)", as_markdown(_report(_grid(**fields)))
    )
    assert title == "speckle"
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (800, 450)


def test_the_picture_has_the_images_in_their_places() -> None:
    shades = np.array([[0, 100], [200, 50]], np.uint8)
    grid = ImageGrid.of("shades", np.broadcast_to(shades[..., None, None], (2, 2, 8, 8)).copy())
    picture = np.asarray(Image.open(io.BytesIO(draw_png(grid))).convert("L"))
    centres = {int(shade): tuple(np.argwhere(picture == shade).mean(axis=0)) for shade in shades.ravel() if shade}
    assert centres[200][0] == pytest.approx(centres[50][0], abs=2), "of one row"
    assert centres[100][1] == pytest.approx(centres[50][1], abs=2), "of one column"
    assert centres[100][0] < centres[50][0]
    assert centres[200][1] < centres[50][1]
