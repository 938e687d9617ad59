"""The tables about the images that a run rests on: who is where, and what was left out and why."""

from __future__ import annotations

from collections import Counter, defaultdict

from models.busgen.findings import Found
from models.busgen.images.audit import kind_of
from models.busgen.images.splits import SPLITS, patient_of
from models.common.report import Table

_MOST_FILES = 50  # that are named one by one


def data_tables(found: Found) -> list[Table]:
    """The images by split and class, the audit, and the quarantined files where there are any."""
    tables = [split_table(found), audit_table(found)]
    return [*tables, quarantine_table(found)] if _quarantined(found) else tables


def split_table(found: Found) -> Table:
    """Images and patients of each split and class."""
    classes = found.config.generation.generator.conditions.classes
    patients: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for case in found.images.cases:
        patients[case.split, case.label(classes)].append(patient_of(case))
    order = sorted(patients, key=lambda cell: (SPLITS.index(cell[0]), cell[1]))
    rows = [
        (split, label, f"{len(patients[split, label]):,}", f"{len(set(patients[split, label])):,}")
        for split, label in order
    ]
    told = [
        f"{split} {len({name for (of, _), names in patients.items() if of == split for name in names}):,}"
        for split in SPLITS
    ]
    return Table(
        title="Images by split",
        columns=("split", "class", "images", "patients"),
        rows=tuple(rows),
        caption=f"A patient is in one split only. Patients: {', '.join(told)}.",
    )


def audit_table(found: Found) -> Table:
    """How many images were found, kept and left out, and for which reasons."""
    left_out, copies = _quarantined(found), found.images.audit.get("copies", {})
    kept = Counter(case.source for case in found.images.cases)
    lost = Counter((one.get("source", ""), kind_of(one["reason"])) for one in left_out)
    rows = [
        ("found", f"{len(found.images) + len(left_out):,}"),
        ("kept", f"{len(found.images):,}"),
        *((f"kept, {source}", f"{count:,}") for source, count in sorted(kept.items()) if len(kept) > 1),
        ("quarantined", f"{len(left_out):,}"),
        *((f"quarantined, {source}: {kind}", f"{count:,}") for (source, kind), count in sorted(lost.items())),
    ]
    if copies:
        rows += [
            ("groups of equal images", f"{len(copies['exact']):,}"),
            ("near copies of two patients", f"{len(copies['near']):,}"),
            ("frames like another of the same patient", f"{copies['alike_frames']:,}"),
        ]
    flags = found.images.audit.get("flags", {})
    rows += [(f"flagged {flag}", f"{count:,}") for flag, count in sorted(flags.items())]
    return Table(
        title="Audit of the images",
        columns=("", "images"),
        rows=tuple(rows),
        caption="Quarantined images are used by nothing. Copies were looked for before patients were split.",
    )


def quarantine_table(found: Found) -> Table:
    """Each quarantined file with its reason; beyond the first ones how many more there are."""
    left_out = _quarantined(found)
    rows = [(one["file"], one.get("source", ""), " ".join(one["reason"].split())) for one in left_out[:_MOST_FILES]]
    if more := len(left_out) - len(rows):
        rows.append((f"and {more:,} more", "", "audit.json of the prepared images names each"))
    return Table(title="Quarantined images", columns=("file", "source", "reason"), rows=tuple(rows))


def _quarantined(found: Found) -> list[dict[str, str]]:
    return found.images.audit.get("quarantined", [])
