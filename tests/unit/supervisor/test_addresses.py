"""Ports, sockets and the terminal."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest

from lesionlens.supervisor.console import Console
from lesionlens.supervisor.sockets import free_ports, socket_folder, why_not_listen


def test_free_ports_are_all_different_and_free() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert all(why_not_listen("127.0.0.1", port) is None for port in ports)


def test_a_port_that_somebody_will_take_is_not_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = iter((51_797, 40_001, 40_002))

    class Offered(socket.socket):
        def bind(self, address: object) -> None:
            self.port = next(offered)

        def getsockname(self) -> tuple[str, int]:
            return "127.0.0.1", self.port

    monkeypatch.setattr(socket, "socket", Offered)

    assert free_ports(2, besides=(51_797,)) == [40_001, 40_002]


def test_a_taken_port_is_found_out() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()

        assert "in use" in str(why_not_listen("127.0.0.1", holder.getsockname()[1])).lower()


def test_an_address_of_another_machine_is_found_out() -> None:
    assert why_not_listen("192.0.2.1", 8000)
    assert why_not_listen("no.such.host.invalid", 8000)


def test_the_socket_lies_where_it_is_wanted_and_is_nobody_elses_business(tmp_path: Path) -> None:
    preferred = Path("/tmp") / f"ll-test-{os.getpid()}"
    try:
        assert socket_folder(preferred, "s", os.geteuid()) == preferred
        assert preferred.stat().st_mode & 0o077 == 0
    finally:
        preferred.rmdir()


def test_a_folder_that_is_no_folder_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PermissionError):
        socket_folder(tmp_path / "run", "s", os.geteuid())


def test_lines_are_coloured_for_people_only() -> None:
    plain, coloured = io.BytesIO(), io.BytesIO()
    Console(["a", "gateway"], plain, colours=False).write("a", b"text \r")
    Console(["a", "gateway"], coloured, colours=True).write("a", b"text")

    assert plain.getvalue().decode() == "a          │ text\n"
    assert "\x1b[" in coloured.getvalue().decode()
    assert coloured.getvalue().decode().endswith("\x1b[0mtext\n")


def test_a_closed_terminal_does_not_stop_the_service() -> None:
    stream = io.BytesIO()
    stream.close()

    Console([], stream, colours=False).say("nobody reads this")

    assert stream.closed
