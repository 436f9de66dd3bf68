"""The part of the API that says what does not depend on entries: protocols, metrics, and what others reported."""

import json
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.views.decorators.http import conditional_page
from ninja import Router, Schema
from ninja.decorators import decorate_view

from evaluator.metrics import METRICS
from evaluator.protocol import to_json
from evaluator.shipped import PROTOCOLS
from leaderboard import selectors
from leaderboard.access import Rule, access
from leaderboard.api_refusals import refusals
from leaderboard.throttling import limited

router = Router(tags=["reference"])


class ProtocolInFull(Schema):
    """One version of a protocol with its exact fields; `published_since` is when its first entry was published."""

    name: str
    version: int
    digest: str
    rankable: bool
    published_since: datetime | None
    fields: dict[str, Any]


class ProtocolsOut(Schema):
    """All versions of all protocols."""

    protocols: list[ProtocolInFull]


class MetricOut(Schema):
    """One kind of number; `columns` are its names in tables, JSON and CSV, a split each if it has any."""

    key: str
    label: str
    symbol: str
    unit: str
    better: str
    definition: str
    columns: list[str]


class MetricsOut(Schema):
    """All metrics."""

    metrics: list[MetricOut]


class ReportedOut(Schema):
    """One row that others published; errors are fractions of examples."""

    source: str
    setting: str
    method: str
    group: str
    values: dict[str, float | None]
    dataset: str
    norm: str
    epsilon: float
    title: str
    authors: str
    link: str
    architecture: str
    venue: str
    extra_data: bool | None


class ReportedRowsOut(Schema):
    """All rows that others published: reported, not measured here, and never ranked."""

    reported: list[ReportedOut]


@router.get("/protocols", response={200: ProtocolsOut, 304: None, **refusals()})
@decorate_view(conditional_page)
@access(Rule.PUBLIC)
@limited("api")
def protocols(request: HttpRequest) -> ProtocolsOut:
    """Every version of every protocol, oldest first."""
    since = selectors.first_published()
    found = [
        ProtocolInFull(
            name=one.name,
            version=one.version,
            digest=one.digest,
            rankable=one.rankable,
            published_since=since.get(one.digest),
            fields=json.loads(to_json(one)),
        )
        for versions in PROTOCOLS.values()
        for one in versions
    ]
    return ProtocolsOut(protocols=found)


@router.get("/metrics", response={200: MetricsOut, 304: None, **refusals()})
@decorate_view(conditional_page)
@access(Rule.PUBLIC)
@limited("api")
def metrics(request: HttpRequest) -> MetricsOut:
    """What is measured, in which unit, which way is better, and how it is defined."""
    found = [
        MetricOut(
            key=one.key,
            label=one.label,
            symbol=one.symbol,
            unit=one.unit,
            better=one.direction,
            definition=one.definition,
            columns=list(one.columns()),
        )
        for one in METRICS.values()
    ]
    return MetricsOut(metrics=found)


@router.get("/reported", response={200: ReportedRowsOut, 304: None, **refusals()})
@decorate_view(conditional_page)
@access(Rule.PUBLIC)
@limited("api")
def reported(request: HttpRequest) -> ReportedRowsOut:
    """What others published, in the order of their tables."""
    rows = selectors.reported()
    return ReportedRowsOut(reported=[ReportedOut(**{name: getattr(row, name) for name in ReportedOut.model_fields})
                                     for row in rows])  # fmt: skip
