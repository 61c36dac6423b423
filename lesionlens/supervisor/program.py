"""What the supervisor knows about one program."""

from __future__ import annotations

import pwd
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Program:
    """A program that is to run until the end.

    `answers` asks, without raising, whether it does its work; `before_start` clears what an earlier run left behind.
    `account` is whom it runs as (None: the supervisor's own). `standard_input` is written once and closed.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    answers: Callable[[], bool] | None = None
    before_start: Callable[[], None] | None = None
    #: What asks it to end in good order.
    stop_signal: signal.Signals = signal.SIGTERM
    #: Seconds it may take for that before it is killed. What is stopped one after the other adds up to less than ten.
    stop_within_s: float = 1.0
    standard_input: bytes = b""
    account: pwd.struct_passwd | None = None
