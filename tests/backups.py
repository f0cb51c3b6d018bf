"""Backups in the form that docs/maintenance.md describes, made of a test's own folders."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path


def make(data: Path, include: Path, checkpoints: Mapping[str, object], name: str = "20240101T000000Z") -> Path:
    folder = data / "backups" / name
    folder.mkdir(parents=True)
    with tarfile.open(folder / "configuration.tar.gz", "w:gz") as archive:
        for part in ("sources", "sql", "expectations"):
            if (include / part).is_dir():
                archive.add(include / part, part)
    (folder / "checkpoints.json").write_text(json.dumps(checkpoints))
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
    }
    (folder / "backup.json").write_text(json.dumps({"format_version": 1, "files": files}))
    return folder
