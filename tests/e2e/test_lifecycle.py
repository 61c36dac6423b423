"""Start, stop, start again: `make run` leaves nothing behind but the data."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import requests

from tests.conftest import free_port, lesion_photograph
from tests.e2e.product import STOPPED_WITHIN_S, Product, eventually, running


@pytest.mark.timeout(420)
def test_the_data_outlive_a_killed_supervisor_and_a_stop_leaves_no_process(data_folder: Path) -> None:
    product = Product(data_folder, free_port())
    with running(product):
        analysis_id = product.accepted(lesion_photograph(1), force="true")
        answer = product.ended(analysis_id)
        assert product.process is not None
        assert len(product.processes()) > 8

        os.kill(product.process.pid, signal.SIGKILL)
        product.process.wait()
        eventually(lambda: not product.processes(), STOPPED_WITHIN_S)

        product.start()
        assert product.analysis(analysis_id) == answer
        begin = time.monotonic()
        product.signal(signal.SIGTERM)
        assert product.wait() == 0
        assert time.monotonic() - begin < STOPPED_WITHIN_S
        assert product.processes() == []


def test_a_taken_port_is_said_in_one_sentence_before_anything_starts(data_folder: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        status, said = Product(data_folder, port).refused()

    assert status == 2
    assert said.count("\n") == 1
    assert f"port {port}" in said
    assert "PORT" in said
    assert not (data_folder / "postgres").exists()


def test_a_second_start_out_of_the_same_folder_is_refused_in_one_sentence(product: Product) -> None:
    status, said = Product(product.folder, free_port()).refused()

    assert status == 2
    assert said.count("\n") == 1
    assert str(product.process.pid if product.process else None) in said
    assert str(product.port) in said
    assert product.is_ready()


def test_a_setting_that_does_not_fit_is_named(data_folder: Path) -> None:
    status, said = Product(data_folder, free_port(), NETWORK_DEADLINE_S="soon").refused()

    assert status == 2
    assert "NETWORK_DEADLINE_S" in said
    assert "Traceback" not in said


def test_missing_networks_are_named(data_folder: Path, tmp_path: Path) -> None:
    status, said = Product(data_folder, free_port(), MODELS_DIR=str(tmp_path)).refused()

    assert status == 2
    assert "stack.json" in said
    assert "Traceback" not in said


def test_a_long_path_is_no_obstacle_to_the_database_socket(tmp_path: Path) -> None:
    from lesionlens.supervisor.sockets import LONGEST_SOCKET_PATH, socket_folder

    preferred = tmp_path / ("deep" * 30)
    folder = socket_folder(preferred, ".s.PGSQL.5432", os.geteuid())

    assert len(os.fsencode(folder / ".s.PGSQL.5432")) <= LONGEST_SOCKET_PATH
    assert folder.stat().st_mode & 0o077 == 0
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / ".s.PGSQL.5432"))
    (folder / ".s.PGSQL.5432").unlink()
    folder.rmdir()


def test_the_page_answers_where_it_says(product: Product) -> None:
    assert requests.get(product.base_url, timeout=30).status_code == 200
    assert "ready after" in product.log.read_text()
    assert f":{product.port}" in product.log.read_text()
