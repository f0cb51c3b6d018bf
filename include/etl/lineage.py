"""What the load task tells of its source's data: an Airflow asset for other DAGs, datasets for OpenLineage.

OpenLineage asks only where it is configured; nothing of it is imported otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import Asset

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context
    from openlineage.client.event_v2 import InputDataset, OutputDataset

    from include.etl.config import Source
    from include.etl.records.manifest import Manifest
    from include.etl.storage import Storage

PORTS = {"postgres": 5432, "mysql": 3306, "mssql": 1433, "oracle": 1521}
DEFAULT_SCHEMAS = {"postgres": "public", "mssql": "dbo"}


def published_asset(source: str) -> Asset:
    """The source's published data, under a name that is the same on every machine."""
    return Asset(name=source, uri=f"etl://{source}", group="extraction")


class LoadOperator(PythonOperator):
    """A Python task that publishes a source: its asset event and its lineage say what."""

    def __init__(self, *, source: Source, **kwargs: Any) -> None:
        super().__init__(outlets=[published_asset(source.source)], **kwargs)
        self.source = source
        self.manifest: str | None = None

    def execute(self, context: Context) -> Any:
        """Publish, then tell which manifest, how many rows, and of which window."""
        from include.etl.records import manifest
        from include.etl.storage import Storage

        loaded = super().execute(context)
        self.manifest = loaded["manifest"]
        window = manifest.read(Storage.from_environment().absolute(self.manifest)).window
        context["outlet_events"][published_asset(self.source.source)].extra = {
            "rows": loaded["rows"],
            "manifest": self.manifest,
            "window": window.model_dump(mode="json"),
        }
        return loaded

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:  # noqa: ARG002
        """The tables that were read and the folder that was published; none for a task that failed."""
        if self.manifest is None:
            return None
        from airflow.providers.openlineage.extractors import OperatorLineage

        from include.etl.records import manifest
        from include.etl.storage import Storage

        storage = Storage.from_environment()
        published = manifest.read(storage.absolute(self.manifest))
        return OperatorLineage(inputs=_inputs(self.source, published), outputs=[_output(storage, published)])


def _inputs(source: Source, published: Manifest) -> list[InputDataset]:
    """One dataset per table that the query names; of a single one the columns and rows are known too."""
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import input_statistics_input_dataset as statistics

    from include.etl.publication.schema import decoded

    namespace, names = _tables(source, published)
    if len(names) > 1:
        return [InputDataset(namespace=namespace, name=name) for name in names]
    schema = decoded(published.source_schema) if published.source_schema else None
    facets = {"schema": _schema((field.name, str(field.type)) for field in schema)} if schema else {}
    found: dict[str, Any] = {
        "inputStatistics": statistics.InputStatisticsInputDatasetFacet(rowCount=published.rows.extracted)
    }
    return [InputDataset(namespace=namespace, name=name, facets=facets, inputFacets=found) for name in names]


def _output(storage: Storage, published: Manifest) -> OutputDataset:
    """The source's published folder, and what this run has put into it."""
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    from include.etl.records.manifest import published_folder

    facets = {"schema": _schema((column.name, column.type) for column in published.columns)}
    written = statistics.OutputStatisticsOutputDatasetFacet(
        rowCount=published.rows.published,
        size=sum(file.bytes for file in published.files),
        fileCount=len(published.files),
    )
    name = str(published_folder(storage, published.source))
    return OutputDataset(namespace="file", name=name, facets=facets, outputFacets={"outputStatistics": written})


def _schema(columns: Any) -> Any:
    from openlineage.client.facet_v2 import schema_dataset

    fields = [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in columns]
    return schema_dataset.SchemaDatasetFacet(fields=fields)


def _tables(source: Source, published: Manifest) -> tuple[str, list[str]]:
    """OpenLineage's namespace of the database, and the full names of the tables in the query."""
    from airflow.sdk import BaseHook

    from include.etl.engines import engine_class
    from include.etl.query import build, tables

    connection = BaseHook.get_connection(source.conn_id)
    kind = connection.conn_type or ""
    dialect = engine_class(kind, source.conn_id).dialect
    if kind == "sqlite":  # a file of its own, without server or schemas
        namespace, prefix = f"sqlite://{source.conn_id}", []
    else:
        namespace = f"{kind}://{_host(connection.host)}:{connection.port or PORTS[kind]}"
        database = connection.schema or connection.extra_dejson.get("service_name")
        schema = connection.login if kind == "oracle" else DEFAULT_SCHEMAS.get(kind)
        prefix = [database, schema]
    found = tables(build(source, dialect, published.window), dialect)
    return namespace, [".".join(_full(name, [part for part in prefix if part])) for name in found]


def _host(host: str | None) -> str:
    """The host alone: some connections carry a whole URI there."""
    return urlsplit(f"//{host or 'localhost'}").hostname or "localhost"


def _full(name: list[str], prefix: list[str]) -> list[str]:
    """The table's name, completed by database and schema as far as it does not name them itself."""
    return [*prefix[: max(len(prefix) + 1 - len(name), 0)], *name]
