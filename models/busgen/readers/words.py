"""The words of data sets in ours: pathologies, subtypes, BI-RADS categories, yes and no."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from models.busgen.images.cases import PATHOLOGIES
from models.common.errors import DataError

_UNKNOWN = frozenset({"", "nan", "none", "null", "n/a", "na", "unknown", "not available", "not applicable"})

# What several data sets call by several names. A name that stands here alone is kept with "_" for spaces.
_SUBTYPES = {
    "dcis": ("ductal_carcinoma_in_situ", "ductal_carcinoma_in_situ_dcis", "intraductal_carcinoma", "dcis_pure"),
    "lcis": ("lobular_carcinoma_in_situ", "lobular_carcinoma_in_situ_lcis"),
    "invasive_ductal_carcinoma": (
        "idc",
        "infiltrating_ductal_carcinoma",
        "invasive_carcinoma_of_no_special_type",
        "invasive_carcinoma_of_no_special_type_nst",
        "invasive_breast_carcinoma_of_no_special_type",
        "invasive_ductal_carcinoma_idc",
    ),
    "invasive_lobular_carcinoma": ("ilc", "infiltrating_lobular_carcinoma", "invasive_lobular_carcinoma_ilc"),
    "mucinous_carcinoma": ("colloid_carcinoma",),
    "phyllodes_tumour": ("phyllodes_tumor", "phylloides_tumor", "phylloides_tumour"),
}
_SUBTYPE_OF = {name: subtype for subtype, names in _SUBTYPES.items() for name in names}

# Subtypes that name a folder of their own, and what they are.
PATHOLOGY_OF_SUBTYPE = {
    "dcis": "malignant",
    "invasive_ductal_carcinoma": "malignant",
    "invasive_lobular_carcinoma": "malignant",
    "mucinous_carcinoma": "malignant",
    "fibroadenoma": "benign",
    "cyst": "benign",
}


def text_of(value: Any) -> str:
    """A cell's text, whole numbers without a point; empty where it says that nothing is known."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = " ".join(str("" if value is None else value).split())
    return "" if text.lower() in _UNKNOWN else text


def pathology_of(value: Any, where: str) -> str:
    """One of PATHOLOGIES; raises DataError where the value is none."""
    word = text_of(value).lower()
    if word not in PATHOLOGIES:
        raise DataError(f"{where} is '{text_of(value)}'; fits: {', '.join(PATHOLOGIES)}")
    return word


def subtype_of(value: Any) -> str:
    """A histology in lower case with "_" between its words, one name for one thing: "DCIS" and its long name agree."""
    word = re.sub(r"[^0-9a-z]+", "_", text_of(value).lower()).strip("_")
    return _SUBTYPE_OF.get(word, word)


def birads_of(value: Any) -> str:
    """A BI-RADS category as text in lower case: "4a"."""
    return re.sub(r"^bi-?rads\s*:?\s*", "", text_of(value).lower())


def yes(value: Any, where: str) -> bool:
    """Whether a cell says yes; empty says no. Raises DataError for anything else."""
    word = text_of(value).lower()
    if word in ("yes", "y", "true", "1"):
        return True
    if word in ("", "no", "n", "false", "0"):
        return False
    raise DataError(f"{where} is '{word}'; fits: yes, no")


def translated(row: Mapping[str, Any], tables: Mapping[str, tuple[str, Mapping[str, str]]]) -> dict[str, str]:
    """The descriptors of a row whose columns these tables translate; words without a counterpart are left out.

    tables: column -> (descriptor, its word there -> ours).
    """
    found = ((name, table.get(text_of(row.get(column)).lower())) for column, (name, table) in tables.items())
    return {name: word for name, word in found if word is not None}
