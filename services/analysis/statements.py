"""What every analysis says to the database on its way, one statement a step, each built once.

SQLAlchemy takes several times as long to build such a statement as PostgreSQL to run it, so what differs between two
analyses is a parameter. Anything that is rarely said is built where it is said, in `record/`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    Executable,
    Float,
    Integer,
    Select,
    String,
    Update,
    Uuid,
    and_,
    bindparam,
    cast,
    column,
    false,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from services.analysis.states import AnalysisState, Stage
from services.analysis.tables import AnalysisRow, PredictionRow
from services.analysis.webhooks import messages_of

#: Channel on which every change of an analysis is announced; the payload is its id, and GOES_ON behind it where the
#: analysis certainly did not end, so that nobody who waits for its end need look.
CHANGES_CHANNEL = "analysis_changes"
GOES_ON = " goes on"

#: Seconds after which a committed analysis that nobody began counts as unheard, and the sweeper rings again.
#: Longer than a burst of uploads takes to drain would be wasteful to undercut: ringing twice is harmless.
UNHEARD_AFTER_S = 10.0

NO_LEASE: Mapping[str, Any] = {"lease_token": None, "lease_until": None}

#: What `accepted` takes from the upload; a parameter is called as its column, with "new_" before it.
SUBMITTED = (
    "id", "upload_digest", "idempotency_key_digest", "force", "store", "turns", "explain", "age_years",
    "api_key_id",
)  # fmt: skip
#: What `finished` takes from the result.
ANSWERED = ("probability", "band", "classes", "attention", "model_version", "without_age", "explanation")
#: What it takes of the networks: the columns of a prediction, each an array with one entry a network.
OPINION = ("network", "version", "logit", "probability")

_ANALYSIS_ID = bindparam("analysis_id", type_=Uuid)
_TOKEN = bindparam("token", type_=Uuid)


@cache
def accepted() -> Executable:
    """Records an upload as queued and returns the row, or nothing if its Idempotency-Key was used before.

    Takes `new_…` for each of SUBMITTED, and `answer_within_s`, which may be NULL.
    """
    return (
        upsert(AnalysisRow)
        .values(
            state=AnalysisState.QUEUED,
            due_at=in_seconds(UNHEARD_AFTER_S),
            answer_by=in_seconds(bindparam("answer_within_s", type_=Float)),
            **{name: _new(name) for name in SUBMITTED},
        )
        .on_conflict_do_nothing(index_elements=["idempotency_key_digest"])
        .returning(*AnalysisRow.__table__.columns)
    )


@cache
def claimed(stage: Stage) -> Select[Any]:
    """Takes an analysis for a stage and tells that it goes on; no row where another has it or it cannot be tried.

    Nobody waits for the disk: see `not_waited_for`. Takes `analysis_id`, `token`, `lease_s` and `max_deliveries`.
    """
    lease_until = in_seconds(bindparam("lease_s", type_=Float))
    taken = (
        update(AnalysisRow)
        .where(
            claimable(_ANALYSIS_ID, stage),
            AnalysisRow.deliveries < bindparam("max_deliveries", type_=Integer),
            ~too_late(),
        )
        .values(
            state=stage.working,
            deliveries=AnalysisRow.deliveries + 1,
            lease_token=_TOKEN,
            lease_until=lease_until,
            due_at=lease_until,
        )
        .returning(
            AnalysisRow.lease_until,
            AnalysisRow.deliveries,
            AnalysisRow.force,
            AnalysisRow.store,
            AnalysisRow.turns,
            func.extract("epoch", AnalysisRow.answer_by - func.now()).label("time_left_s"),
            AnalysisRow.explain,
            AnalysisRow.age_years,
        )
        .cte("claimed")
    )
    return select(taken, _told(GOES_ON), not_waited_for()).select_from(taken)


@cache
def advanced() -> Select[Any]:
    """Ends the preparation and tells that the analysis goes on; no row when the lease was lost.

    Nobody waits for the disk: see `not_waited_for`. Takes `analysis_id`, `token` and `new_preparation`.
    """
    done = under_lease(
        {
            "state": AnalysisState.PREPARED,
            "deliveries": 0,
            "updated_at": func.now(),
            "due_at": in_seconds(UNHEARD_AFTER_S),
            "preparation": _new("preparation"),
            **NO_LEASE,
        }
    )
    advanced_now = done.returning(AnalysisRow.id).cte("advanced")
    return select(_told(GOES_ON), not_waited_for()).select_from(advanced_now)


@cache
def finished(*, doubted: bool) -> Select[Any]:
    """Ends an analysis with its result: the row, a prediction by network, messages to webhooks, and tells so.

    No row when the lease was lost. Takes `analysis_id`, `token`, `new_…` for each of ANSWERED, `networks_…` for each of
    OPINION, and, where the result is doubted, `doubts`: reasons that are added to what the preparation was
    concerned about.
    """
    done = under_lease(
        {
            "state": AnalysisState.DONE,
            "finished_at": func.now(),
            "updated_at": func.now(),
            "due_at": None,
            **{name: _new(name) for name in ANSWERED},
            **NO_LEASE,
            **(_with_doubts() if doubted else {}),
        }
    )
    done_now = done.returning(AnalysisRow.id, AnalysisRow.state, AnalysisRow.api_key_id).cte("done_now")
    kinds = {name: PredictionRow.__table__.columns[name].type for name in OPINION}
    given = (bindparam(f"networks_{name}", type_=ARRAY(kind)) for name, kind in kinds.items())
    columns = (column(name, kind) for name, kind in kinds.items())
    opinions = func.unnest(*given).table_valued(*columns).render_derived(name="opinion")
    predictions = insert(PredictionRow).from_select(
        ["analysis_id", *OPINION],
        select(done_now.c.id, *(opinions.c[name] for name in OPINION)).join_from(done_now, opinions, true()),
    )
    return (
        select(_told())
        .select_from(done_now)
        .add_cte(predictions.cte("predictions"), messages_of(done_now).cte("messages"))
    )


@cache
def found(*, by_anybody: bool) -> Select[Any]:
    """An analysis as it stands. Takes `analysis_id` and, unless anybody may see it, the `api_key_id` of who asks."""
    whose = [] if by_anybody else [visible_to(bindparam("api_key_id", type_=Uuid))]
    return select(*AnalysisRow.__table__.columns).where(AnalysisRow.id == _ANALYSIS_ID, *whose)


@cache
def predicted() -> Select[Any]:
    """What the networks answered for the analyses in `analysis_ids`."""
    wanted = func.any(bindparam("analysis_ids", type_=ARRAY(Uuid)))
    return select(*PredictionRow.__table__.columns).where(PredictionRow.analysis_id == wanted)


# --- expressions, for these statements and for those in record/ ----------------------------------------------------


def in_seconds(seconds: float | BindParameter[Any] | None) -> Any:
    """That many seconds from now; NULL for None."""
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def claimable(analysis_id: uuid.UUID | BindParameter[Any], stage: Stage) -> ColumnElement[bool]:
    """Whether the analysis waits for the stage, or the lease of whoever had it ran out."""
    abandoned = and_(AnalysisRow.state == stage.working, AnalysisRow.lease_until < func.now())
    return and_(AnalysisRow.id == analysis_id, or_(AnalysisRow.state == stage.waiting, abandoned))


def too_late() -> ColumnElement[bool]:
    """Whether the analysis must have been answered by now."""
    return func.coalesce(AnalysisRow.answer_by <= func.now(), false())


def visible_to(api_key_id: uuid.UUID | BindParameter[Any] | None) -> ColumnElement[bool]:
    """Whether an analysis is anonymous or the key's own; NULL is nobody's key."""
    return or_(AnalysisRow.api_key_id.is_(None), AnalysisRow.api_key_id == api_key_id)


def announcement(payload: str | ColumnElement[str]) -> ColumnElement[Any]:
    """Tells whoever waits. Delivered when the transaction commits, and only then: nobody is woken for nothing."""
    return func.pg_notify(CHANGES_CHANNEL, payload)


def not_waited_for() -> ColumnElement[Any]:
    """Has the commit not wait for the disk (PostgreSQL's `synchronous_commit`), for this transaction alone.

    A step on the way that a crash of the database forgets is taken again (ADR 14). What a person was told, that a
    photograph is accepted or what came of it, always waits.
    """
    return func.set_config("synchronous_commit", "off", True)  # noqa: FBT003 - SQL function: only until the commit


def under_lease(values: Mapping[str, Any]) -> Update:
    """Writes to the analysis `analysis_id` if `token` is still that of its lease."""
    return update(AnalysisRow).where(AnalysisRow.id == _ANALYSIS_ID, AnalysisRow.lease_token == _TOKEN).values(values)


def _told(more: str = "") -> ColumnElement[Any]:
    return announcement(cast(_ANALYSIS_ID, String).concat(more))


def _new(name: str) -> BindParameter[Any]:
    return bindparam(f"new_{name}", type_=AnalysisRow.__table__.columns[name].type)


def _with_doubts() -> dict[str, Any]:
    noted = func.coalesce(AnalysisRow.preparation, cast({}, JSONB))
    concerns = func.coalesce(noted["concerns"], cast([], JSONB))
    added = cast(bindparam("doubts", type_=JSONB), JSONB)
    return {"preparation": func.jsonb_set(noted, cast(["concerns"], ARRAY(String)), concerns.op("||")(added))}
