"""Serve one folder over SFTP to one user (folder, name, password); print the port, and end when the input does."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import asyncssh


class _Users(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return [username, password] == sys.argv[2:4]


def _files(channel: Any) -> asyncssh.SFTPServer:
    return asyncssh.SFTPServer(channel, chroot=sys.argv[1].encode())


async def _serve() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_factory=_Users, server_host_keys=[key], sftp_factory=_files)
    sys.stdout.write(f"{server.get_port()}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
