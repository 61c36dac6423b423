"""Twenty people with the pages open: some read, all poll. Run by `page_and_poll.py`, in an environment of its own.

Locust replaces parts of the standard library by its own when it is imported: nothing of this project is imported here.
"""

from __future__ import annotations

import os

from locust import HttpUser, between, task

ANALYSIS = os.environ.get("LESIONLENS_ANALYSIS", "")


class Person(HttpUser):
    """Looks at a page or asks for an analysis about once a second."""

    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        self.tag = ""

    @task(1)
    def read(self) -> None:
        for path in ("/", "/about", f"/analyses/{ANALYSIS}"):
            self.client.get(path, headers={"Accept": "text/html"}, name="page")

    @task(3)
    def poll(self) -> None:
        headers = {"If-None-Match": self.tag} if self.tag else {}
        answer = self.client.get(f"/v1/analyses/{ANALYSIS}", headers=headers, name="poll")
        self.tag = answer.headers.get("ETag", self.tag)
