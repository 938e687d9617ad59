"""Makes the pictures of docs/ from those that the browser tests keep: `make pictures` runs these tests first."""

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "test-output" / "browser"
PICTURES = ROOT / "docs" / "pictures"
COLOURS = 128  # a page has few; a picture stays small so
SHOWN = {  # of which kept picture, and how much of its height
    "form": ("form-refused-light", 1130),
    "run": ("run-trains-light", 1150),
    "result": ("result-light", 1300),
    "compare": ("compare-light", 1250),
}


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    for name, (kept, height) in SHOWN.items():
        whole = Image.open(KEPT / f"{kept}.png").convert("RGB")
        shown = whole.crop((0, 0, whole.width, min(whole.height, height)))
        shown.quantize(COLOURS).save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
