"""The BI-RADS descriptors of a lesion on ultrasound (ACR Atlas, 5th edition), and their numbers in a condition."""

from collections.abc import Iterable, Mapping

from models.common.errors import DataError

DESCRIPTORS: dict[str, tuple[str, ...]] = {
    "shape": ("oval", "round", "irregular"),
    "orientation": ("parallel", "not_parallel"),
    "margin": ("circumscribed", "indistinct", "microlobulated", "angular", "spiculated"),
    "echo_pattern": ("anechoic", "hypoechoic", "isoechoic", "hyperechoic", "complex", "heterogeneous"),
    "posterior": ("none", "enhancement", "shadowing", "combined"),
    "calcifications": ("none", "in_mass", "outside_mass", "intraductal"),
    "halo": ("none", "present"),
}
NOT_KNOWN = 0  # the number of a descriptor that nobody gave; the values count from 1


def numbers_of(descriptors: Mapping[str, str], names: Iterable[str] = DESCRIPTORS) -> list[int]:
    """One number for each of the named descriptors: 0 where it is not known, else the place of its value, from 1.

    Raises DataError for a descriptor or a value that the lexicon does not have.
    """
    for name, value in descriptors.items():
        if name not in DESCRIPTORS:
            raise DataError(f"there is no descriptor '{name}'\nfits: {', '.join(DESCRIPTORS)}")
        if value not in DESCRIPTORS[name]:
            raise DataError(f"{name} is '{value}'\nfits: {', '.join(DESCRIPTORS[name])}")
    return [DESCRIPTORS[name].index(descriptors[name]) + 1 if name in descriptors else NOT_KNOWN for name in names]


def from_numbers(numbers: Iterable[int], names: Iterable[str] = DESCRIPTORS) -> dict[str, str]:
    """The descriptors of these numbers; those not known are left out."""
    pairs = zip(names, numbers, strict=True)
    return {name: DESCRIPTORS[name][number - 1] for name, number in pairs if number != NOT_KNOWN}
