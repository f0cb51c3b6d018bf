"""File formats that can be published: the name in the YAML -> the format. To add one: a file and a line."""

from __future__ import annotations

from importlib import import_module

from include.etl.outputs.base import Output

OUTPUTS = {
    "parquet": "include.etl.outputs.parquet:ParquetOutput",
    "csv": "include.etl.outputs.csv:CsvOutput",
    "excel": "include.etl.outputs.excel:ExcelOutput",
}


def open_output(name: str) -> Output:
    """The format with this name, as `config.py` has checked it; its library is imported here and not before."""
    module, class_name = OUTPUTS[name].split(":")
    output: Output = getattr(import_module(module), class_name)()
    return output
