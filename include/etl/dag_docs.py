"""The page Airflow shows for a source's DAG, written from its YAML."""

from __future__ import annotations

from include.etl.config import Source, include_folder
from include.etl.handover import Mode


def dag_doc(source: Source, mode: Mode) -> str:
    """Markdown: what the data is, where it comes from, when it runs, what comes out, whom to ask."""
    facts = {
        "Source": f"`{source.query or source.table}` through connection `{source.conn_id}`",
        "Schedule": f"{mode}, `{getattr(source.schedule, mode)}` ({source.timezone})",
        "Primary key": _codes(source.primary_key),
        "Cursor": _cursor(source),
        "Columns": _codes(source.columns) if source.columns else "all of the query's",
        "Published": f"{', '.join(source.output.formats)} in `data/processed/{source.source}`{_partition(source)}",
        "Expectations": f"`{source.suite_path.name}`" if source.suite_path else "none",
        "Owner": source.owner,
        "Contact": source.contact or "not given",
    }
    lines = [f"# {source.source}", "", source.description, "", "| | |", "|---|---|"]
    lines += [f"| {name} | {fact} |" for name, fact in facts.items()]
    return "\n".join([*lines, "", _how_to(source), *_sql(source)])


def _codes(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _cursor(source: Source) -> str:
    if not source.cursor:
        return "none: every run reads everything"
    return f"`{source.cursor.column}` ({source.cursor.timezone}), looking back {source.cursor.lookback}"


def _partition(source: Source) -> str:
    return f", a folder per `{source.output.partition_by}`" if source.output.partition_by else ""


def _how_to(source: Source) -> str:
    text = f"Configuration: `include/sources/{source.source}.yaml`."
    if source.cursor:
        text += (
            " Trigger with `last_n_days`, or with `start` and `end`, to read a range again; with mode `full` to "
            f"replace everything. The checkpoint is the Variable `checkpoint__{source.source}`."
        )
    return text


def _sql(source: Source) -> list[str]:
    path = include_folder() / "sql" / str(source.query)
    if not source.query or not path.exists():
        return []
    return ["", "```sql", path.read_text(encoding="utf-8").strip(), "```"]
