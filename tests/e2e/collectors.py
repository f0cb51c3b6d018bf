"""Where Airflow sends what it measures: a StatsD server, and an HTTP server that takes OTLP and OpenLineage."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


@dataclass
class StatsD:
    """The metrics of this system that have arrived, as `(name, tags) -> [value|kind, ...]`."""

    port: int
    found: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def take(self, packet: bytes) -> None:
        for line in packet.decode().splitlines():
            name, _, value = line.partition(":")
            if name.startswith("airflow.etl."):
                plain, _, tags = name.partition(",")
                self.found.setdefault((plain, tags), []).append(value)


@contextmanager
def statsd() -> Iterator[StatsD]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        collected = StatsD(server.getsockname()[1])

        def listen() -> None:
            while packet := server.recv(65536):
                collected.take(packet)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield collected
        server.sendto(b"", server.getsockname())  # an empty packet ends it
        thread.join(5)


@dataclass
class Collector:
    """What has arrived over HTTP: OpenLineage events, and OTLP data points as `name -> [(value, attributes), ...]`."""

    port: int
    events: list[dict[str, Any]] = field(default_factory=list)
    points: dict[str, list[tuple[float, dict[str, str]]]] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        transport = {"type": "http", "url": f"http://127.0.0.1:{self.port}", "endpoint": "api/v1/lineage"}
        return {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://127.0.0.1:{self.port}/v1/metrics",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
        }

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/metrics":
            self._metrics(ExportMetricsServiceRequest.FromString(body))
        else:
            self.events.append(json.loads(body))

    def _metrics(self, request: ExportMetricsServiceRequest) -> None:
        scopes = [scope for resource in request.resource_metrics for scope in resource.scope_metrics]
        for metric in (metric for scope in scopes for metric in scope.metrics):
            for point in (*metric.sum.data_points, *metric.gauge.data_points):
                tags = {pair.key: pair.value.string_value for pair in point.attributes}
                value = point.as_double if point.HasField("as_double") else point.as_int
                self.points.setdefault(metric.name, []).append((value, tags))


@contextmanager
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collected.take(self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collected = Collector(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collected
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
