"""The published data sets in small: a maker for each, which writes its exact layout and gives its folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.busgen.readers.making import HEIGHT, WIDTH, patch, save, save_sheet, speckle


def busi(folder: Path) -> Path:
    root = folder / "Dataset_BUSI_with_GT"
    for number in (1, 2, 10):
        save(root / "benign" / f"benign ({number}).png", speckle(number))
        save(root / "benign" / f"benign ({number})_mask.png", patch(2, 3, 8, 10))
    save(root / "benign" / "benign (10)_mask_1.png", patch(12, 20, 18, 29))
    save(root / "malignant" / "malignant (1).png", np.repeat(speckle(20)[..., None], 3, axis=-1))
    save(root / "malignant" / "malignant (1)_mask.png", patch(1, 1, 5, 5))
    save(root / "normal" / "normal (1).png", speckle(30))
    save(root / "normal" / "normal (1)_mask.png", np.zeros((HEIGHT, WIDTH), dtype=bool))
    return root


def busbra(folder: Path) -> Path:
    root = folder / "BUSBRA"
    rows = [
        ("bus_0001-l", "1", "Fibroadenoma", "benign", "3", "GE Logiq 7", '"[3,2,7,6]"'),
        ("bus_0001-r", "1", "Fibroadenoma", "benign", "3", "GE Logiq 7", '"[3,2,7,6]"'),
        ("bus_0002-l", "2", "Ductal carcinoma in situ", "malignant", "5", "Toshiba", f'"[3,2,{WIDTH - 2},6]"'),
    ]
    lines = ["ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"]
    for number, row in enumerate(rows):
        lines.append(",".join((*row[:6], str(WIDTH), str(HEIGHT), "left", row[6])))
        save(root / "Images" / f"{row[0]}.png", speckle(number))
        save(root / "Masks" / f"mask_{row[0][4:]}.png", patch(2, 3, 8, 10))
    (root / "bus_data.csv").write_text("\n".join(lines) + "\n")
    return root


def breast(folder: Path) -> Path:
    root = folder / "BrEaST"
    pictures = root / "BrEaST-Lesions_USG-images_and_masks"
    alpha = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    rows: list[dict[str, Any]] = []
    for number, classification in ((1, "benign"), (2, "malignant"), (3, "normal")):
        lesion = classification != "normal"
        name = f"case{number:03d}"
        save(pictures / f"{name}.png", np.stack([speckle(number)] * 3 + [alpha], axis=-1))
        masks = [f"{name}_tumor.png", f"{name}_tumor2.png"] if number == 2 else [f"{name}_tumor.png"] * lesion
        for place, mask in enumerate(masks):
            grey = patch(2 + 9 * place, 3, 8 + 9 * place, 10).astype(np.uint8) * 255
            save(pictures / mask, np.stack([grey, grey, grey, alpha], axis=-1))
        save(pictures / f"{name}_other1.png", patch(0, 0, 2, 2))
        rows.append(
            {
                "CaseID": number,
                "Image_filename": f"{name}.png",
                "Mask_tumor_filename": "&".join(masks) or None,
                "Mask_other_filename": f"{name}_other1.png",
                "Pixel_size": 0.0076,
                "Age": 50,
                "Shape": "irregular" if lesion else "not applicable",
                "Margin": ["circumscribed", "not circumscribed - angular&indistinct", "not applicable"][number - 1],
                "Echogenicity": "complex cystic/solid" if lesion else "not applicable",
                "Posterior_features": "no" if lesion else "not applicable",
                "Halo": "yes" if lesion else "not applicable",
                "Calcifications": "indefinable" if number == 1 else "in a mass" if lesion else "not applicable",
                "BIRADS": ["3", "4A", "1"][number - 1],
                "Diagnosis": ["Fibroadenoma", "Ductal carcinoma in situ (DCIS)", "not applicable"][number - 1],
                "Classification": classification,
            }
        )
    save_sheet(root / "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx", rows)
    return root


def udiat(folder: Path) -> Path:
    root = folder / "DatasetB"
    for number in (1, 2):
        save(root / "original" / f"{number:06d}.png", speckle(number))
        save(root / "GT" / f"{number:06d}.png", patch(2, 3, 8, 10))
    save_sheet(root / "DatasetB.xlsx", [{"Image": 1, "Type": "Benign"}, {"Image": 2, "Type": "Malignant"}])
    return root


def uclm(folder: Path) -> Path:
    root = folder / "BUS-UCLM"
    rows = [
        ("ALWI_000.png", "Normal", "No;No;No"),
        ("ALWI_001.png", "Benign", "No;Yes;No"),
        ("BETA_000.png", "Malignant", "Yes;No;Yes"),
    ]
    for number, (name, label, _) in enumerate(rows):
        colours = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
        colours[patch(2, 3, 8, 10)] = {"Normal": (0, 0, 0), "Benign": (0, 255, 0), "Malignant": (255, 0, 0)}[label]
        if label == "Malignant":
            colours[patch(12, 20, 18, 29)] = (0, 255, 0)
        save(root / "images" / name, speckle(number))
        save(root / "masks" / name, colours)
    lines = [f"{name};{WIDTH}x{HEIGHT};{label};{flags}" for name, label, flags in rows]
    (root / "INFO.csv").write_text("\n".join(["Image;Resolution;Label;Doppler;Marks;Combined", *lines]) + "\n")
    return root


def buscot(folder: Path) -> Path:
    root = folder / "BUSCoT"
    lesions, images = {}, {}
    for number, (histology, edge, boundary) in enumerate(
        [("DCIS", "Irregular", "BoundaryUnclear"), ("Fibroadenoma", "Regular", "BoundaryClear")]
    ):
        name = f"{number:06d}@0.png"
        save(root / "BUS-Lesion" / "trainval" / name, speckle(number))
        lesions[f"trainval_{name}"] = {
            "image_path": f"BUS-Lesion/trainval/{name}",
            "pathology_histology": {
                "pathology": ("Malignant", "Benign")[number],
                "subtype": {histology: {"histology": histology}},
            },
            "us_report": {
                "BIRADS": ("4C", "3")[number],
                "LesionEdge": edge,
                "LesionBoundary": boundary,
                "EchoCharacteristics": "SlightlyLowEcho",
                "LesionCalcificationFeatures": ("MultipleClusteredMicrocalcifications", None)[number],
            },
        }
        images[f"{number:06d}"] = {"patient_id": f"P{number}", "image_file": {"raw_image": f"{number:06d}/raw.png"}}
    (root / "DatasetFiles").mkdir()
    (root / "DatasetFiles" / "lesion_dataset.json").write_text(json.dumps(lesions))
    (root / "DatasetFiles" / "BUS-Expert_dataset.json").write_text(json.dumps(images))
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "busi": busi,
    "busbra": busbra,
    "breast": breast,
    "udiat": udiat,
    "uclm": uclm,
    "buscot": buscot,
}
