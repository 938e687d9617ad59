"""The folder that becomes a version: weights, config, numbers, report page, lineage, under one manifest."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra import fingerprint, manifests
from infra.report_page import write_page
from models.common.config import Config
from models.common.errors import CheckpointError
from models.common.handles import Checkpoint, Evaluation
from models.common.report import Report


def assemble(
    folder: Path,
    checkpoint: Checkpoint,
    evaluation: Evaluation,
    config: Config,
    lineage: dict[str, Any],
    parts: Mapping[str, Checkpoint],
) -> None:
    """Writes the artifact's folder, unless an earlier attempt of the same run already has.

    parts: trained stages that belong to the version besides the one that it is named after, such as adapters; each
    has a folder of its name in it. Raises CheckpointError where the folder is there and damaged.
    """
    if folder.exists():
        try:
            manifests.verify(folder)
        except manifests.ManifestError as damage:
            raise CheckpointError(f"{damage}\ndelete {folder} and run again with the same --run-key") from None
        return
    report = Report.read(evaluation.folder)
    with manifests.committed(folder, {"workload": report.workload}) as draft:
        _copy_trained(checkpoint, draft)
        for name, part in parts.items():
            _copy_trained(part, draft / name)
        _write_json(draft / "config.json", config.model_dump(mode="json"))
        _write_json(draft / "metrics.json", report.metrics)
        _write_json(draft / "lineage.json", lineage)
        report.write(draft)
        write_page(report, fingerprint.shortened(lineage), draft / "report.html")


def _copy_trained(checkpoint: Checkpoint, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    shutil.copyfile(checkpoint.folder / "weights.safetensors", folder / "weights.safetensors")
    shutil.copyfile(checkpoint.folder / "config.json", folder / "stage.json")


def _write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
