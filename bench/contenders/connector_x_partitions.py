"""ConnectorX with two connections side by side, each with a range of the key (and a snapshot of its own)."""

from pathlib import Path

from bench.contenders.connector_x import read
from bench.place import Place


def postgres(place: Place, folder: Path) -> None:
    read(place.url("postgresql"), place.query, folder, partition_on="l_orderkey", partition_num=2)


def mysql(place: Place, folder: Path) -> None:
    read(place.url("mysql"), place.query, folder, partition_on="l_orderkey", partition_num=2)
