"""Files to a running service, an outcome for each: what `lesionlens submit` does."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lesionlens.client import Analysis, Client, NotFinishedError, RefusedError
from lesionlens.outcomes import Classified
from services.analysis.states import AnalysisState

#: Photographs that are sent ahead of the one that is waited for: enough to keep a service busy, too few to crowd out
#: others.
SENT_AHEAD = 8

#: Reasons that a file was recorded with because it is no image that can be read.
_UNREADABLE = frozenset({"unreadable", "not_an_image", "unsupported_format", "animated"})

#: What the service calls otherwise than `lesionlens classify` does.
_SAME_REASON = {"image_empty": "empty"}


@dataclass(frozen=True, slots=True)
class Errand:
    """A service and how the photographs are to be treated there; see `Client.submit`."""

    client: Client
    force: bool
    store: bool
    turns: int | None
    age_years: int | None
    timeout_s: float

    def run(self, files: Iterable[Path]) -> Iterator[Classified]:
        """An outcome for each file, in their order.

        Raises:
            ClientError: the service does not answer, is busy for long, or refuses the key. What was sent goes on.
        """
        sent: deque[tuple[Path, Analysis | Classified]] = deque()
        for file in files:
            sent.append((file, self._send(file)))
            if len(sent) > SENT_AHEAD:
                yield self._await(*sent.popleft())
        while sent:
            yield self._await(*sent.popleft())

    def _send(self, file: Path) -> Analysis | Classified:
        try:
            return self.client.submit(
                file, force=self.force, store=self.store, turns=self.turns, age_years=self.age_years
            )
        except OSError as error:
            return _unreadable(file, f"unreadable: {error.strerror}")
        except RefusedError as error:
            return _unreadable(file, _SAME_REASON.get(error.reason, error.reason))

    def _await(self, file: Path, sent: Analysis | Classified) -> Classified:
        if isinstance(sent, Classified):
            return sent
        try:
            analysis = sent if sent.state.terminal else self.client.wait(sent.id, self.timeout_s)
        except NotFinishedError:
            return Classified(str(file), AnalysisState.FAILED, readable=True, reason="not_finished_in_time")
        code = analysis.reason.code if analysis.reason else ""
        if analysis.result is not None:
            # What `force` overruled stays beside the answer, as `lesionlens classify` writes it.
            code = ";".join(concern.code for concern in analysis.result.concerns) if self.force else ""
        return Classified(str(file), analysis.state, code not in _UNREADABLE, code, analysis.result)


def _unreadable(file: Path, reason: str) -> Classified:
    return Classified(str(file), AnalysisState.REJECTED, readable=False, reason=reason)
