"""The record of analyses in PostgreSQL: the one truth about what was accepted and what became of it.

Each side of it is a module with a class, and who needs one side takes that one: `acceptance`, `ownership` and
`feedback` are for the gateway, `leases` for the workers, `upkeep` for the sweeper, `workload` for metrics and door.

Workers see every analysis. The gateway asks `on_behalf_of` somebody: an API key sees its own analyses and anonymous
ones, everybody else only anonymous ones. What one may not see is not there.
"""

from services.analysis.record.acceptance import Acceptance
from services.analysis.record.feedback import FeedbackRecord
from services.analysis.record.kinds import (
    CANCELLED,
    OUT_OF_TIME,
    Analysis,
    Backlog,
    Exhausted,
    Feedback,
    Lease,
    NotClaimed,
    Pressure,
    Submission,
)
from services.analysis.record.leases import Leases
from services.analysis.record.ownership import Ownership
from services.analysis.record.upkeep import Upkeep
from services.analysis.record.workload import Workload

__all__ = [
    "CANCELLED",
    "OUT_OF_TIME",
    "Analysis",
    "AnalysisRecord",
    "Backlog",
    "Exhausted",
    "Feedback",
    "FeedbackRecord",
    "Lease",
    "Leases",
    "NotClaimed",
    "Pressure",
    "Submission",
    "Upkeep",
    "Workload",
]


class AnalysisRecord(Acceptance, Ownership, FeedbackRecord, Workload, Leases, Upkeep):
    """All sides of the record, for the gateway and the sweeper."""
