"""Several processes count together."""

from __future__ import annotations

import os
import subprocess
import sys

from services.analysis.errors import DatabaseUnavailableError

COUNT = """
from services.gateway.metrics import Metrics
class Away:
    def backlog(self):
        from services.analysis.errors import DatabaseUnavailableError
        raise DatabaseUnavailableError
metrics = Metrics(Away(), None, None)
metrics.uploads_accepted.inc(2)
import sys
sys.stdout.buffer.write(metrics.exposition())
"""


def test_processes_share_their_counts(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for expected in ("2.0", "4.0"):
        counted = subprocess.run(
            [sys.executable, "-c", COUNT], env=environment, check=True, capture_output=True, text=True
        )
        assert f"lesionlens_uploads_accepted_total {expected}" in counted.stdout


def test_a_single_process_counts_for_itself():
    from services.gateway.metrics import Metrics

    class Away:
        def backlog(self):
            raise DatabaseUnavailableError

    metrics = Metrics(Away(), None, None)
    metrics.uploads_refused.labels("blurred").inc()
    assert b'lesionlens_uploads_refused_total{reason="blurred"} 1.0' in metrics.exposition()
