"""
Stands between workers and Kafka, and makes the network bad.
"""

import asyncio
import random
import threading
from typing import Final, Self

from streams.kafka.local import HOST

CHUNK_BYTES: Final = 64 * 1024
START_S: Final = 10.0
RESEND_S: Final = 0.2  # Linux's least; twice as long each further time


class Proxy:
    """
    Passes on what comes to *port* to *target_port*, both on this machine; `with` runs it.

    delay_s: may be set at any time, and holds for all connections: each piece is passed on so late,
    in order, as TCP has it.
    loss: the share of pieces that come only when they are sent again; may be set at any time.
    """

    def __init__(self, port: int, target_port: int) -> None:
        self.port, self._target_port = port, target_port
        self.delay_s = self.loss = 0.0
        self._flows: asyncio.Event | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(START_S)
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        stop = self._stop
        if stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(stop.set)
        self._thread.join(START_S)

    def stall(self) -> None:
        """Pass nothing on until `flow`; connections stay."""
        assert self._flows is not None
        self._loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        """Pass on what has stalled, and what comes."""
        assert self._flows is not None
        self._loop.call_soon_threadsafe(self._flows.set)

    def cut(self) -> int:
        """Break all connections; return how many there were."""
        done = asyncio.run_coroutine_threadsafe(self._cut(), self._loop)
        return done.result(START_S)

    async def _cut(self) -> int:
        writers = list(self._writers)
        for writer in writers:
            writer.transport.abort()
        return len(writers) // 2

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001  (raised where it was started)
            self._error = error
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        self._stop, self._flows = asyncio.Event(), asyncio.Event()
        self._flows.set()
        server = await asyncio.start_server(self._connected, HOST, self.port)
        self._ready.set()
        await self._stop.wait()
        server.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(HOST, self._target_port)
        except OSError:  # Kafka is away: so is whoever stands for it
            writer.transport.abort()
            return
        writers = {writer, there[1]}
        self._writers |= writers
        try:
            await asyncio.gather(self._pass(reader, there[1]), self._pass(there[0], writer))
        except asyncio.CancelledError:
            pass  # the end of all: asyncio would tell people of it
        finally:
            self._writers -= writers
            for each in writers:
                each.transport.abort()

    def _late_s(self) -> float:
        late_s, resend_s = self.delay_s, RESEND_S
        while random.random() < self.loss:
            late_s, resend_s = late_s + resend_s, 2 * resend_s
        return late_s

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on until one side ends, and end the other."""
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                if late_s := self._late_s():
                    await asyncio.sleep(late_s)
                assert self._flows is not None
                await self._flows.wait()
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass  # the other side is aborted, as this one was
        finally:
            writer.transport.abort()
