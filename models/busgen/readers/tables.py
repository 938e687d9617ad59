"""The tables that come with data sets: CSV, Excel sheets and JSON, as rows."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from models.common.errors import DataError


def csv_rows(path: Path, needed: Collection[str], delimiter: str = "") -> Iterator[dict[str, str]]:
    """The rows of a CSV file by column; raises DataError where needed columns are missing.

    delimiter: "," or ";" as the header has them where none is given.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            rows = csv.DictReader(file, delimiter=delimiter or (";" if header.count(";") > header.count(",") else ","))
            columns = [name.strip() for name in rows.fieldnames or ()]
            _require(path, columns, needed)
            rows.fieldnames = columns
            for number, row in enumerate(rows, start=2):
                if None in row or None in row.values():
                    raise DataError(f"{path}, row {number}: it does not have the header's {len(columns)} cells")
                yield {name: cell.strip() for name, cell in row.items()}
    except (UnicodeDecodeError, csv.Error) as fault:
        raise DataError(f"{path} is no table of text ({fault})\nfits: CSV in UTF-8") from fault


def sheet_rows(path: Path, needed: Collection[str]) -> Iterator[dict[str, Any]]:
    """The rows of an Excel file's first sheet that has the needed columns; raises DataError where none has."""
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, OSError, ValueError) as fault:
        raise DataError(f"{path} is no Excel file ({fault})\nfits: an .xlsx file as it was published") from fault
    columns: list[str] = []
    try:
        for sheet in book.worksheets:
            rows = sheet.iter_rows(values_only=True)
            columns = ["" if cell is None else str(cell).strip() for cell in next(rows, ())]
            if set(needed) <= set(columns):
                for row in rows:
                    if any(cell is not None for cell in row):
                        yield dict(zip(columns, row, strict=False))
                return
        _require(path, columns, needed)
    finally:
        book.close()


def json_of(path: Path) -> Any:
    """What a JSON file holds; raises DataError where it is none."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, UnicodeDecodeError) as fault:
        raise DataError(f"{path} is no JSON ({fault})") from fault


def _require(path: Path, columns: Collection[str], needed: Collection[str]) -> None:
    missing = [name for name in needed if name not in columns]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}: it has {', '.join(filter(None, columns)) or 'none'}\n"
            f"fits: {', '.join(needed)}"
        )
