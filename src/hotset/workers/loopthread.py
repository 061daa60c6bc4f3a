"""The event loop that the user's coroutines run on: one in each process that holds models, in a thread of its own.

The host owns it. The thread starts with the first coroutine; a process whose predictor has none never has it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Thread-safe. Legal order: any ``start`` and ``run``, then ``close``, which may be called twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self._is_cancelling = False  # of the loop: what ends before is none of the last

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine, which handles its own failures.

        Raises:
            RuntimeError: it was closed; the coroutine is closed too.
        """
        try:
            with self._lock:  # so that it begins before what ``close`` does
                self._running().call_soon_threadsafe(self._begin, coroutine)
        except RuntimeError:
            coroutine.close()
            raise

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return what it returns; from any other thread.

        Raises:
            RuntimeError: as ``start``.
        """
        try:
            with self._lock:
                running = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        except RuntimeError:
            coroutine.close()
            raise
        return running.result()

    def close(self, limit_s: float) -> bool:
        """Cancel what runs, and wait for the thread; False if it has not ended after ``limit_s``."""
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
            if loop is None or thread is None:
                return True
            with suppress(RuntimeError):  # it was closed before
                loop.call_soon_threadsafe(self._cancel_all)
        thread.join(limit_s)
        return not thread.is_alive()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._is_closed:
            raise RuntimeError("this worker was closed")
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._serve, args=(self._loop,), name="hotset-async", daemon=True
            )
            self._thread.start()
        return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if self._is_cancelling and not self._tasks and self._loop is not None:
            self._loop.stop()

    def _cancel_all(self) -> None:
        """Once: the loop is not to be stopped again while it closes generators."""
        assert self._loop is not None
        if self._is_cancelling:
            return
        self._is_cancelling = True
        for task in self._tasks:
            task.cancel()
        if not self._tasks:
            self._loop.stop()
