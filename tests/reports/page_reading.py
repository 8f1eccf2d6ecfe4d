"""Readers of CSV and wandb records that use neither library."""

import csv
import json
import re
import struct
from pathlib import Path
from typing import Any


def embedded_data(page: str) -> Any:
    """Return the JSON data of a report page."""
    found = re.search(r'id="data">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def read_csv(path: Path) -> dict[str, dict[int, float]]:
    """Return {name: {step: value}}."""
    curves: dict[str, dict[int, float]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value:
                    curves.setdefault(name, {})[step] = float(value)
    return curves


def read_wandb(path: Path) -> Any:
    """Return the records of an offline run, which ``wandb sync`` uploads."""
    from wandb.proto import wandb_internal_pb2  # not installed with the lowest versions

    data, at, part, records = path.read_bytes(), 7, b"", []
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = 32768 - at % 32768  # blocks; no header spans two
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full record or its last part
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(part)
            records.append(record)
            part = b""
    return records


def history(records: Any) -> tuple[Any, Any]:
    """Return the scalars as {name: {step: value}}, and the image files by step."""
    curves: dict[str, dict[int, float]] = {}
    images: dict[int, Any] = {}
    for record in records:
        items = {tuple(i.nested_key) or (i.key,): i.value_json for i in record.history.item}
        if not items:
            continue
        step = json.loads(items.pop(("trainer/global_step",)))
        for (name, *rest), value in items.items():
            if rest == ["filenames"]:
                images[step] = json.loads(value)
            elif not rest and not name.startswith("_"):
                curves.setdefault(name, {})[step] = float(json.loads(value))
    return curves, images
