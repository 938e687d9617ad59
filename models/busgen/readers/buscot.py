"""BUS-CoT (Yu et al. 2026): 11,439 images of lesions with histology and report, cut from eleven public sources.

    BUSCoT/DatasetFiles/lesion_dataset.json: {"trainval_001755@0.png": {image_path: "BUS-Lesion/trainval/001755@0.png",
        pathology_histology: {pathology, subtype: {NAME: {histology}}}, us_report: {BIRADS, LesionEdge, ...}}}
    BUSCoT/DatasetFiles/BUS-Expert_dataset.json: {"001755": {patient_id, image_file: {raw_image}, dataset, ...}}

A patient is the patient_id of the image that the lesion was cut from; where that file or row is missing, the number of
that image. BUS-BRA and BUSI are among the sources: beside them, the same lesion stands under two names.

LesionBoundary and LesionEdge give the margin: an unclear boundary is indistinct, a regular edge circumscribed; an
irregular edge has no one word in BI-RADS and is left out, and so are suspected calcifications, blood flow and
elastography. Calcifications "of the lesion" count as in the mass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from models.busgen.images.cases import Case, Scan
from models.busgen.readers.entries import Entry, entry_of, root_of
from models.busgen.readers.scans import missing, scan_of_files
from models.busgen.readers.tables import json_of
from models.busgen.readers.words import birads_of, pathology_of, subtype_of, text_of, translated
from models.common.errors import DataError

LICENCE = "terms of Figshare and of the eleven sources, not confirmed"
_TABLE, _PATIENTS = "DatasetFiles/lesion_dataset.json", "DatasetFiles/BUS-Expert_dataset.json"

_IN_MASS = (
    "microcalcification",
    "multiplecalcifications",
    "multipleclusteredmicrocalcifications",
    "coarsecalcification",
)
_DESCRIPTORS = {
    "LesionEdge": ("margin", {"regular": "circumscribed"}),
    "EchoCharacteristics": (
        "echo_pattern",
        {
            "lowecho": "hypoechoic",
            "slightlylowecho": "hypoechoic",
            "isoechoic": "isoechoic",
            "highecho": "hyperechoic",
            "heterogeneousecho": "heterogeneous",
            "cysticsolidmixedecho": "complex",
            "noecho": "anechoic",
        },
    ),
    "LesionCalcificationFeatures": (
        "calcifications",
        {"nocalcification": "none", **dict.fromkeys(_IN_MASS, "in_mass")},
    ),
}
_UNCLEAR = {"boundaryunclear": "indistinct", "boundarysomewhatunclear": "indistinct"}
_BOUNDARY = {"LesionBoundary": ("margin", _UNCLEAR)}


def tables(source: Path) -> tuple[Path, ...]:
    root = _root(source)
    return tuple(path for path in (root / _TABLE, root / _PATIENTS) if path.is_file())


def entries(source: Path) -> Iterator[Entry]:
    """Every lesion in the file's order."""
    root = _root(source)
    lesions = json_of(root / _TABLE)
    if not isinstance(lesions, dict) or not all(isinstance(lesion, dict) for lesion in lesions.values()):
        raise DataError(f"{root / _TABLE} is not as BUS-CoT has it\nfits: an object of lesions by their name")
    patients = _patients(root / _PATIENTS)
    for name, lesion in lesions.items():
        image = root / str(lesion.get("image_path") or name)
        yield entry_of(root, image, (), partial(_scan, root, lesion, image, patients))


def _root(source: Path) -> Path:
    return root_of(source, "buscot", _TABLE)


def _patients(path: Path) -> dict[str, str]:
    """The patient of each source image by its number."""
    if not path.is_file():
        return {}
    patients: dict[str, str] = {}
    for number, image in json_of(path).items():
        if text_of(image.get("patient_id")):
            raw = str(_part(image, "image_file").get("raw_image") or number)
            patients[number] = patients[raw.partition("/")[0]] = text_of(image["patient_id"])
    return patients


def _scan(root: Path, lesion: Mapping[str, Any], image: Path, patients: Mapping[str, str]) -> Scan:
    if lost := missing((image,)):
        raise DataError(f"lesion_dataset.json names it, and {lost} is missing; unpack the data set anew")
    histology, report = _part(lesion, "pathology_histology"), _part(lesion, "us_report")
    number = re.sub(r"@\d+$", "", image.stem)  # 001755 of 001755@0.png: several lesions may be cut from one image
    case = Case(
        name=image.relative_to(root).as_posix(),
        source="buscot",
        patient=patients.get(number, f"image {number}"),
        pathology=pathology_of(histology.get("pathology"), "its pathology"),
        subtype=_subtype(_part(histology, "subtype")),
        birads=birads_of(report.get("BIRADS")),
        descriptors={**translated(report, _DESCRIPTORS), **translated(report, _BOUNDARY)},
        licence=LICENCE,
    )
    return scan_of_files(case, image, ())


def _subtype(subtypes: Mapping[str, Any]) -> str:
    """The histology of the first subtype, or its name where it has none."""
    for name in subtypes:
        return subtype_of(_part(subtypes, name).get("histology")) or subtype_of(name)
    return ""


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object within an object; an empty one where it is missing or null."""
    part = values.get(name)
    return part if isinstance(part, Mapping) else {}
