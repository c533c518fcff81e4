"""Blocking work of an event loop, in threads of its own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ckptstore_backends._loop_thread import LoopThread, start


def test_who_gives_up_waiting_leaves_no_error_behind():
    loop, begun, go_on = LoopThread("ckptstore test"), threading.Event(), threading.Event()

    def look_up():
        begun.set()
        assert go_on.wait(30)
        return threading.current_thread()

    async def wait_for_it():
        return await asyncio.get_running_loop().run_in_executor(None, look_up)

    waiting = loop.submit(wait_for_it())
    assert begun.wait(30)
    waiting.cancel()
    threads = [thread for thread in threading.enumerate() if thread.name == "ckptstore blocking call"]
    loop.stop()
    go_on.set()
    for thread in threads:
        thread.join(30)  # an error in it would fail this test
    assert threads


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_work_is_raised_where_it_is_waited_for(error):
    def fail():
        raise error("no")

    with pytest.raises(error, match="no"):
        start(fail, "ckptstore test").result(30)
