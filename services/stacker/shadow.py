"""The shadow: versions of the networks that are looked with, too, and never answered from.

After an analysis is answered, the networks labelled `canary` are shown the same pixels, and what they would have said
is counted beside what was said. All of that happens in a thread of its own, one analysis at a time; while it is busy,
further analyses pass it by. So it cannot answer, delay or fail one: it is handed what the networks saw after the answer
is recorded, nothing waits for it, and whatever goes wrong in it is a number. It does share the processors of the
networks' servers.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from services.analysis.metrics import ShadowMetrics
from services.analysis.results import Result
from services.analysis.settings import Settings
from services.stacker.look import NOT_A_LESION
from services.stacker.out_of_distribution import familiarity_from
from services.stacker.stacking import CANARY_STACK_FILE, Stack, combine, load_stack
from services.stacker.turns import Turn, turned
from serving.answers import Ensemble, NetworkAnswer, NetworkFailure
from serving.client import RemoteEnsemble
from serving.model_config import CANARY

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the networks looked at, uint8 [turns,224,224,3], and what each answered to the first of those turns.

    `turns`: as many as the sender asked for; None: as many as the stack is made for. `age_years`: of the person, where
    it is known.
    """

    looked_at: NDArray[np.uint8]
    answers: Sequence[NetworkAnswer]
    turns: int | None = None
    age_years: int | None = None


class Shadow:
    """The networks that are only tried, and who compares. One for each process; its thread starts at the first look."""

    def __init__(
        self, networks: Ensemble, stack: Stack, metrics: ShadowMetrics, deadline_s: float, *, fitted: bool
    ) -> None:
        """`stack` is `fitted` with the networks in the shadow, or, where there is none such, the one that answers."""
        self._networks = networks
        self._stack = stack
        self._fitted = fitted
        self._familiarity = familiarity_from(stack.out_of_distribution) if fitted else None
        self._metrics = metrics
        self._deadline_s = deadline_s
        # What is being compared stays in it until it is done, so that no second one waits.
        self._in_hand: queue.Queue[tuple[Seen, Result]] = queue.Queue(maxsize=1)
        self._busy = threading.Semaphore()
        self._thread: threading.Thread | None = None

    def show(self, seen: Seen, answered: Result) -> None:
        """Hand over what was answered. Returns at once and never fails; a busy shadow lets it pass."""
        if not self._busy.acquire(blocking=False):
            self._metrics.skipped.inc()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._compare_all, name="shadow", daemon=True)
            self._thread.start()
        self._in_hand.put_nowait((seen, answered))

    def _compare_all(self) -> None:
        while True:
            seen, answered = self._in_hand.get()
            try:
                self._compare(seen, answered)
            except Exception:  # noqa: BLE001 - whatever it is, it is counted and logged, and the next one is looked at
                self._metrics.failures.inc()
                _log.exception("the shadow failed")
            finally:
                self._busy.release()

    def _compare(self, seen: Seen, answered: Result) -> None:
        turns_of: Mapping[str, int] = {answer.name: len(answer.logit) for answer in seen.answers}
        looked_at = seen.looked_at
        if self._fitted and seen.turns is None:
            turns_of = self._stack.turns
            # The first of the turns is the picture in its pose: it gives all the others again.
            looked_at = turned(looked_at[0], max(turns_of.values()), Turn(0, mirrored=False))
        outcomes = self._networks.ask_all(looked_at, self._deadline_s, turns_of)
        failures = {outcome.name: outcome.code for outcome in outcomes if isinstance(outcome, NetworkFailure)}
        shadows = {outcome.name: outcome for outcome in outcomes if isinstance(outcome, NetworkAnswer)}
        for answer in seen.answers:
            if answer.name in shadows:
                difference = _logit(shadows[answer.name]) - _logit(answer)
                self._metrics.logits.labels(answer.name).observe(difference)
        if failures:
            self._metrics.failures.inc()
            _log.warning("the shadow did not answer", networks=failures)
            return
        together = [shadows.get(answer.name, answer) for answer in seen.answers]
        stack = self._stack if self._fitted else _for_any(self._stack, together)
        would = combine(stack, together, age_years=seen.age_years)
        if self._familiarity is not None and not self._familiarity.is_lesion(together):
            # Refused there: what the networks make of it is no answer.
            self._metrics.answers.labels(answered.band.value, NOT_A_LESION.code).inc()
            return
        self._metrics.answers.labels(answered.band.value, would.band.value).inc()
        self._metrics.probability.observe(would.probability - answered.probability)


def shadow_from(settings: Settings, stack: Stack, metrics: ShadowMetrics) -> Shadow | None:
    """The shadow that the settings ask for; None where they ask for none.

    Beside `stack`, which answers, `stack.canary.json` tells what the canaries' logits mean, where there is one.

    Raises:
        ModelMismatchError: `stack.canary.json` cannot be used, or its out-of-distribution score cannot.
    """
    addresses = settings.shadow_addresses()
    if not addresses:
        return None
    fitted: Path = settings.models_dir / CANARY_STACK_FILE
    return Shadow(
        RemoteEnsemble(addresses, label=CANARY),
        load_stack(fitted) if fitted.exists() else stack,
        metrics,
        settings.network_deadline_s,
        fitted=fitted.exists(),
    )


def _logit(answer: NetworkAnswer) -> float:
    return float(answer.logit.mean(dtype=np.float64))


def _for_any(stack: Stack, answers: Sequence[NetworkAnswer]) -> Stack:
    """The stack as if it were fitted with the versions that answered: an estimate, and in the shadow only."""
    versions = {answer.name: answer.version for answer in answers}
    networks = tuple(network.model_copy(update={"version": versions[network.name]}) for network in stack.networks)
    return stack.model_copy(update={"networks": networks})
