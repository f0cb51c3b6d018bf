"""What follows reading, as one would do it with pandas: GX's pandas engine, drop_duplicates, sort, to_parquet.

python -m bench.pandas_flow <folder with rows.parquet>
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd

SUITE = Path(__file__).with_name("lineitem_suite.json")
KEY = ["l_orderkey", "l_linenumber"]
DATES = ["l_shipdate", "l_commitdate", "l_receiptdate"]


def main(folder: Path) -> None:
    """All of it, on one frame."""
    frame = pd.read_parquet(folder / "rows.parquet")
    for column in DATES:  # Great Expectations compares timestamps; dates would be Python objects
        frame[column] = pd.to_datetime(frame[column])
    validate(frame)
    load(transform(frame), folder / "data" / "processed")


def validate(frame: pd.DataFrame) -> None:
    """The same suite as ours."""
    asset = gx.get_context(mode="ephemeral").data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    listed = json.loads(SUITE.read_text())["expectations"]
    suite = gx.ExpectationSuite("lineitem", expectations=[_typed(entry) for entry in listed])
    result = batch.validate(suite, result_format="SUMMARY")
    if not result.success:
        raise SystemExit(f"validation failed: {result.describe()}")


def _typed(entry: dict[str, Any]) -> dict[str, Any]:
    kwargs = entry["kwargs"]
    if kwargs.get("column") in DATES:
        kwargs = {key: pd.Timestamp(value) if key.endswith("_value") else value for key, value in kwargs.items()}
    return {"type": entry["type"], "kwargs": kwargs}


def transform(frame: pd.DataFrame) -> pd.DataFrame:
    """Latest version per key, trimmed text, sorted, with the columns that say where rows come from."""
    frame = frame.drop_duplicates(subset=KEY, keep="last")
    texts: list[str] = list(frame.select_dtypes("str"))
    for column in texts:
        frame[column] = frame[column].str.strip()
    frame = frame.sort_values(KEY, ignore_index=True)
    return frame.assign(_source="lineitem", _run_id="bench", _extracted_at=datetime.now(UTC))


def load(frame: pd.DataFrame, folder: Path) -> None:
    """One Parquet file, and a manifest with its checksum."""
    folder.mkdir(parents=True)
    path = folder / "rows.parquet"
    frame.to_parquet(path, compression="zstd", index=False)
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"rows": len(frame), "sha256": checksum}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
