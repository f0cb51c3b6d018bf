"""Airflow's REST API (v2), as far as the demo and the end-to-end tests need it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import httpx

Json = dict[str, Any]
FINISHED = ("success", "failed")
BUSY_TRIES = 5


class AirflowApi:
    """One Airflow, reached over HTTP as its administrator.

    Every wait asks `check` first, which raises when Airflow has died, and raises TimeoutError at its own limit.
    """

    def __init__(self, url: str, check: Callable[[], None]) -> None:
        self.url, self._check = url, check
        # No proxy from the environment: this Airflow is on the same machine.
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def login(self) -> Self:
        """Get a token; SimpleAuthManager gives one to everybody when all are administrators."""
        token = self._client.get("/auth/token").raise_for_status().json()["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"
        return self

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One request below /api/v2; the decoded JSON, or None for an empty answer.

        Raises:
            RuntimeError: the API refused it; the message carries what it said.
        """
        for _ in range(BUSY_TRIES):
            answer = self._client.request(method, f"/api/v2{path}", json=body, params=query)
            if answer.status_code != 500 or (method != "GET" and "Database error" not in answer.text):
                break
            # SQLite was locked for too long by a task's request; nothing has been written.
            time.sleep(0.5)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None

    def find(self, path: str, **query: Any) -> Any:
        """The same with GET; None where the API says 404."""
        answer = self._client.get(f"/api/v2{path}", params=query)
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def page(self, path: str) -> httpx.Response:
        """A page of the web server outside the API, whatever its status."""
        return self._client.get(path)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def healthy(self) -> bool:
        """Whether metadata database, scheduler and DAG processor are all well; False while nothing answers.

        The tasks' side of the API takes seconds to answer its first request; asked here, no task waits for it.
        """
        try:
            self._client.get("/execution/health", timeout=120).raise_for_status()
            health = self._client.get("/api/v2/monitor/health").raise_for_status().json()
        except httpx.HTTPError:
            return False
        return all(
            (health[part] or {})["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor")
        )

    def wait_until(self, what: str, reached: Callable[[], Any], timeout_s: float, every_s: float = 0.25) -> Any:
        """The first true value of `reached`, asked again and again."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._check()
            if value := reached():
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not reached within {timeout_s:g} s")
            time.sleep(every_s)

    def wait_for_dag(self, dag_id: str, timeout_s: float = 60) -> Json:
        """The DAG, as soon as it has been parsed."""
        dag: Json = self.wait_until(f"DAG {dag_id} parsed", lambda: self.find(f"/dags/{dag_id}"), timeout_s)
        return dag

    def import_errors(self) -> list[Json]:
        """Errors of DAG files that could not be parsed."""
        errors: list[Json] = self.call("GET", "/importErrors")["import_errors"]
        return errors

    def pause(self, dag_id: str, paused: bool) -> None:
        """Pause a DAG (its runs wait) or let it go."""
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": paused})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, logical_date: str | None = None) -> str:
        """Start a run by hand; its run id."""
        body = {"conf": dict(conf or {}), "logical_date": logical_date}
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def backfill(self, dag_id: str, from_date: str, to_date: str, reprocess: str = "none") -> int:
        """Start a backfill of the data intervals between two ISO moments; its id."""
        body = {"dag_id": dag_id, "from_date": from_date, "to_date": to_date, "reprocess_behavior": reprocess}
        return int(self.call("POST", "/backfills", body | {"max_active_runs": 1})["id"])

    def runs(self, dag_id: str) -> list[Json]:
        """All runs of a DAG, oldest first, with state, run_type and data interval."""
        runs: list[Json] = self.call("GET", f"/dags/{dag_id}/dagRuns", order_by="id")["dag_runs"]
        return runs

    def run(self, dag_id: str, run_id: str) -> Json:
        """One run."""
        run: Json = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
        return run

    def wait_for_run(
        self, dag_id: str, run_id: str, timeout_s: float = 300, progress: Callable[[list[Json]], None] | None = None
    ) -> Json:
        """The run when it has ended, well or not; `progress` is told its task instances while it works."""

        def finished() -> Json | None:
            if progress:
                progress(self.task_instances(dag_id, run_id))
            run = self.run(dag_id, run_id)
            return run if run["state"] in FINISHED else None

        ended: Json = self.wait_until(f"run {run_id} of {dag_id}", finished, timeout_s, every_s=0.5)
        return ended

    def clear(self, dag_id: str, run_id: str) -> None:
        """Let all tasks of a run start anew."""
        self.call("POST", f"/dags/{dag_id}/dagRuns/{run_id}/clear", {"dry_run": False})

    def task_instances(self, dag_id: str, run_id: str) -> list[Json]:
        """Task instances of a run, with task_id, state, map_index and try_number."""
        found: list[Json] = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return found

    def task_log(self, dag_id: str, run_id: str, instance: Json) -> list[Json]:
        """The log events of a task instance's last try; an event of an exception carries `error_detail`."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{instance['task_id']}/logs/{instance['try_number']}"
        events: list[Json] = self.call("GET", path, map_index=instance["map_index"])["content"]
        return [event if isinstance(event, dict) else {"event": event} for event in events]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task handed over; None if nothing."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        found = self.find(path, map_index=map_index, deserialize=False)
        return found and found["value"]

    def variable(self, key: str) -> str | None:
        """An Airflow Variable; None if there is none."""
        found = self.find(f"/variables/{key}")
        return found and str(found["value"])

    def set_variable(self, key: str, value: str | None) -> None:
        """Write an Airflow Variable, or delete it (None)."""
        known = self.variable(key) is not None
        if value is not None:
            self.call(
                "PATCH" if known else "POST", f"/variables/{key}" if known else "/variables", _variable(key, value)
            )
        elif known:
            self.call("DELETE", f"/variables/{key}")

    def put(self, kind: str, identity: str, body: Json) -> None:
        """Create a connection or a pool, or bring the one of this name up to date."""
        known = self.find(f"/{kind}/{identity}") is not None
        self.call("PATCH" if known else "POST", f"/{kind}/{identity}" if known else f"/{kind}", body)


def _variable(key: str, value: str) -> Json:
    return {"key": key, "value": value}
