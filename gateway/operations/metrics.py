"""Figures for Prometheus; each site has a registry of its own, which rooms add theirs to."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_FIGURES = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the directory in which several processes keep their figures for each other. The
library reads it when it is imported."""

LATENCIES = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 10000)


class Metrics:
    """What the core counts. Labels are route templates, methods, codes and departments: never an id, never a person.

    Of several processes, counts and what is under way are added up; of what each asks the same database for, the latest
    answer counts.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.requests = Counter(
            "yunxi_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "yunxi_request_seconds",
            "Time to the end of the answer.",
            ("route",),
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.refusals = Counter("yunxi_refusals", "Problems answered, by code.", ("code",), registry=self.registry)
        self.unauthenticated = Counter(
            "yunxi_unauthenticated", "Requests that failed authentication.", ("reason",), registry=self.registry
        )
        self.records = Counter(
            "yunxi_records", "Records submitted, by outcome.", ("department", "outcome"), registry=self.registry
        )
        self.batch = Histogram(
            "yunxi_intake_batch", "Records in a batch of the pool.", buckets=BATCHES, registry=self.registry
        )
        self.in_flight = Gauge(
            "yunxi_requests_in_flight", "Requests being answered.", registry=self.registry, multiprocess_mode="livesum"
        )
        self.queue = Gauge(
            "yunxi_intake_queue", "Records that wait in the pool.", registry=self.registry, multiprocess_mode="livesum"
        )
        self.backlog = Gauge(
            "yunxi_backlog_records", "Acknowledged records not anchored yet.", ("department",), registry=self.registry,
            multiprocess_mode="livemostrecent",
        )  # fmt: skip
        self.backlog_age = Gauge(
            "yunxi_backlog_seconds", "Age of the oldest of them.", ("department",), registry=self.registry,
            multiprocess_mode="livemostrecent",
        )  # fmt: skip
        self.recalls = Gauge(
            "yunxi_recalls_open", "Recalls and corrections not acknowledged.", ("department", "side"),
            registry=self.registry, multiprocess_mode="livemostrecent",
        )  # fmt: skip
        self.emergencies = Gauge(
            "yunxi_emergencies", "Emergency accesses not justified: open, and of these overdue.",
            ("department", "state"), registry=self.registry, multiprocess_mode="livemostrecent",
        )  # fmt: skip
        self.workers = Gauge(
            "yunxi_worker_up", "Whether a worker runs in a process.", ("worker",), registry=self.registry,
            multiprocess_mode="livemax",
        )  # fmt: skip

    def latest(self) -> bytes:
        """Prometheus's text, of all processes of the node where they share their figures."""
        if SHARED_FIGURES not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
