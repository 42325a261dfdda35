"""The Python client as a driver of the conformance suite (sdk/conformance/README.md)."""

import asyncio
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from rainbow_sdk import ClientOptions, ConnectionLost, NoAnswer, QueueFull, RainbowClient, Refused  # noqa: E402

WORDS = {NoAnswer: "no_answer", ConnectionLost: "connection_lost", QueueFull: "queue_full", Refused: "refused"}


def report(event, **values):
    print(json.dumps({"event": event, **values}), flush=True)


class Driver:
    def __init__(self):
        self.client, self.when_open, self.failed, self.tasks = None, None, False, set()

    def order(self, order):
        verb = order["do"]
        if verb == "create":
            self.create(order["url"], order["options"])
        elif verb == "connect":
            self.client.connect()
        elif verb == "close":
            self.spawn(self.client.close())
        elif verb == "send":
            self.spawn(self.send(order["tag"], order["type"], order["text"], order["qos"]))
        elif verb == "when_open":
            self.when_open = order["order"]

    def spawn(self, work):
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def create(self, url, given):
        options = ClientOptions(given["device_id"], given["client_os"], given.get("query", {}),
                                retry_after=given["retry_after_ms"] / 1000, tries=given["tries"],
                                reconnect_min=given["reconnect_min_ms"] / 1000, reconnect_max=given["reconnect_max_ms"] / 1000,
                                queue_max=given.get("queue_max", 1000))
        self.client = RainbowClient(url, options, on_message=self.on_message, on_state=self.on_state)

    async def send(self, tag, kind, text, qos):
        try:
            report("settled", tag=tag, text=(await self.client.send(kind, text, qos)).decode())
        except Exception as error:
            report("failed", tag=tag, error=WORDS.get(type(error), "closed"))

    def on_state(self, state, wait):
        report("state", state=state, wait_ms=round(wait * 1000))
        if state == "open" and self.when_open:
            order, self.when_open = self.when_open, None
            self.order(order)

    async def on_message(self, message):
        report("message", type=message.type, qos=message.qos, text=message.text)
        if message.text == "fail" and not self.failed:
            self.failed = True
            raise RuntimeError("asked to fail")
        if message.text == "ask":
            await self.send("ask", 9, "asked", 1)
        return "re:" + message.text


async def main():
    reader = asyncio.StreamReader(limit=1 << 22)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    driver = Driver()
    while line := await reader.readline():
        driver.order(json.loads(line))


import logging  # noqa: E402

logging.disable(logging.CRITICAL)  # a handler is asked to fail
asyncio.run(main())
