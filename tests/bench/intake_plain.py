"""
The form written plainly, to compare with: what its libraries' documentation shows, and no more.

    python -m tests.bench.intake_plain PORT BOOTSTRAP TOPIC KEY

aiohttp's handlers, PyJWT's `encode` and `decode`, confluent-kafka's way into asyncio (a thread that
polls, and wakes the event loop for each record).  It has no page, limit, header, receipt or metric.
"""

import asyncio
import json
import sys
import threading
import time
import uuid

import jwt
from aiohttp import web
from confluent_kafka import KafkaError, KafkaException, Message, Producer


class Sender:
    """A producer for asyncio, as confluent-kafka's example `asyncio_example.py` has it."""

    def __init__(self, bootstrap: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
        threading.Thread(target=self._poll, daemon=True).start()

    def _poll(self) -> None:
        while True:
            self._producer.poll(0.1)

    def send(self, topic: str, key: str, value: str) -> "asyncio.Future[None]":
        """Return a future that is done once Kafka has the record."""
        result: asyncio.Future[None] = self._loop.create_future()

        def ack(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                self._loop.call_soon_threadsafe(result.set_exception, KafkaException(error))
            else:
                self._loop.call_soon_threadsafe(result.set_result, None)

        self._producer.produce(topic, value, key, on_delivery=ack)
        return result


def make_app(bootstrap: str, topic: str, key: str) -> web.Application:
    """Return the form and its API."""
    sender = web.AppKey("sender", Sender)

    async def start(app: web.Application) -> None:
        app[sender] = Sender(bootstrap)

    def person(token: str) -> str:
        claims = jwt.decode(token, key, algorithms=["HS256"], audience="objection-form")
        return str(claims["sub"])

    async def save(request: web.Request, user_id: str, products: list[str]) -> str:
        objection_id = str(uuid.uuid4())
        record = {
            "user_id": user_id,
            "objection_id": objection_id,
            "action": "filed",
            "products": products,
            "channel": "web",
        }
        await request.app[sender].send(topic, user_id, json.dumps(record))
        return objection_id

    async def by_form(request: web.Request) -> web.Response:
        user_id = person(request.match_info["token"])
        data = await request.post()
        objection_id = await save(request, user_id, [str(each) for each in data.getall("products")])
        claims = {"sub": user_id, "oid": objection_id, "aud": "objection-receipt"}
        receipt = jwt.encode({**claims, "exp": int(time.time()) + 3_600}, key, algorithm="HS256")
        raise web.HTTPSeeOther(f"../r/{receipt}")

    async def by_api(request: web.Request) -> web.Response:
        user_id = person(request.headers["Authorization"].removeprefix("Bearer "))
        data = await request.json()
        objection_id = await save(request, user_id, data["products"])
        return web.json_response({"objection_id": objection_id}, status=201)

    async def ready(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.on_startup.append(start)
    app.add_routes(
        [
            web.get("/", ready),
            web.post("/o/{token}", by_form),
            web.post("/api/v1/objections", by_api),
        ]
    )
    return app


if __name__ == "__main__":
    port, *rest = sys.argv[1:]
    web.run_app(make_app(*rest), host="127.0.0.1", port=int(port), print=None)
