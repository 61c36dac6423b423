"""What an operator sees of one upload: its trace through every process, its numbers, its lines in the log."""

from __future__ import annotations

import re

import requests

from services.analysis.results import NETWORKS
from tests.conftest import lesion_photograph
from tests.e2e.product import DONE_WITHIN_S, Product, eventually


def test_one_trace_leads_from_the_request_through_the_queue_to_networks_and_database(product: Product) -> None:
    answer = product.upload(lesion_photograph(71), force="true")
    product.ended(answer.json()["id"])
    trace_id = answer.headers["X-Trace-Id"]
    assert product.collector is not None
    collector = product.collector

    def whole() -> bool:
        """Each process sends its part in its own time, so all of it is waited for."""
        names = {span.name for span in collector.spans(trace_id)}
        ends = {"POST /v1/analyses", "prepare the lesion", "ring stack", "ring prepare", "lesionlens.prepare_analysis"}
        return names >= {*ends, "lesionlens.stack_analysis", *(f"Predict {network}" for network in NETWORKS)}

    eventually(whole, DONE_WITHIN_S)
    spans = {span.span_id: span for span in collector.spans(trace_id)}

    def way(name: str) -> list[str]:
        """Names of the spans from the one called `name` up to where the trace begins."""
        here = next(span for span in spans.values() if span.name == name)
        above = [here.name]
        while here.parent_id in spans:
            here = spans[here.parent_id]
            above.append(here.name)
        return above

    queue = ["lesionlens.stack_analysis", "ring stack", "lesionlens.prepare_analysis", "ring prepare"]
    for network in NETWORKS:
        assert way(f"Predict {network}") == [f"Predict {network}", *queue, "POST /v1/analyses"]
    assert way("prepare the lesion") == ["prepare the lesion", *queue[2:], "POST /v1/analyses"]
    statements = {span.service for span in spans.values() if span.attributes.get("db.system.name") == "postgresql"}
    assert statements == {"lesionlens-gateway", "lesionlens-preprocessor", "lesionlens-stacker"}
    told = " ".join(value for span in spans.values() for value in (span.name, *span.attributes.values()))
    assert answer.json()["id"] not in told, "an id is the permission to read the answer"


def test_the_log_names_the_trace_in_every_process(product: Product) -> None:
    answer = product.upload(lesion_photograph(72), force="true")
    product.ended(answer.json()["id"])

    def lines() -> list[str]:
        return [line for line in product.log.read_text().splitlines() if answer.headers["X-Trace-Id"] in line]

    for said in ("request", "prepared", "done"):
        eventually(lambda said=said: any(re.search(rf"\b{said}\b", line) for line in lines()), DONE_WITHIN_S)


def test_all_processes_count_together(product: Product) -> None:
    product.ended(product.upload(lesion_photograph(73), force="true").json()["id"])

    def counted() -> bool:
        text = requests.get(f"{product.base_url}/metrics", timeout=30).text
        return all(
            re.search(rf"^{re.escape(series)} [1-9]", text, re.MULTILINE)
            for series in (
                'lesionlens_stage_seconds_count{outcome="done",stage="prepare"}',
                'lesionlens_stage_seconds_count{outcome="done",stage="stack"}',
                *(f'lesionlens_network_seconds_count{{network="{network}"}}' for network in NETWORKS),
                "lesionlens_probability_count",
                "lesionlens_strangeness_logit_difference_count",
                "lesionlens_uploads_accepted_total",
            )
        )

    eventually(counted, DONE_WITHIN_S)
