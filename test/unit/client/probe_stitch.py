# A stitch for the tests. Each channel tries one thing. probe-stitch.ts does the same in JavaScript.
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "src" / "client"))
sys.dont_write_bytecode = True
import crossstitch

probe = json.loads(os.environ.get("PROBE", "{}"))
stitch = crossstitch.connect(**({"exit_limit_ms": probe["exitLimitMs"]} if "exitLimitMs" in probe else {}))
heart = "beats"


def facts(message):
    names = ("id", "node", "group", "application", "component", "version", "data_dir", "args")
    return {"dataDir" if name == "data_dir" else name: getattr(stitch, name) for name in names}


def throw(message):
    raise RuntimeError(message.data)


def ask(message):
    """Asks all questions at the same time."""

    def ask_one(question):
        limit = {"timeout_ms": question["timeoutMs"]} if "timeoutMs" in question else {}
        answer = stitch.ask(question["to"], question["data"], channel=question.get("channel"), **limit)
        return {"from": answer.sender, "channel": answer.channel, "data": answer.data}

    with ThreadPoolExecutor() as threads:
        return list(threads.map(ask_one, message.json()))


def set_heart(message):
    global heart
    heart = message.data


def wait(message):
    stitch.log("waiting")
    # A busy loop, not a sleep.
    while not os.path.exists(message.data):
        pass


def two_threads(message):
    """Prints long lines in one thread while messages are written in another."""

    def print_lines():
        for number in range(200):
            print("p" * 20_000)

    printing = threading.Thread(target=print_lines)
    printing.start()
    for number in range(200):
        stitch.send(to="sink", data="m" * 20_000)
    printing.join()


actions = {
    "facts": facts,
    "echo": lambda message: message.data,
    "json": lambda message: message.json(),
    "about": lambda message: f"{message.id} {message.sender} {message.channel}",
    "nothing": lambda message: None,
    "throw": throw,
    "unsendable": lambda message: object(),
    "large": lambda message: "x" * int(message.data),
    "log": lambda message: stitch.log(*message.json()),
    "print": lambda message: print(message.data, end="", flush=True),
    "print line": lambda message: print(message.data),
    "send": lambda message: stitch.send(**message.json()),
    "ask": ask,
    "heart": set_heart,
    "wait": wait,
    "two threads": two_threads,
    "exit code": lambda message: sys.exit(int(message.data)),
}

if not probe.get("deaf"):

    @stitch.on_message
    def handle(message):
        return actions[message.channel](message)


@stitch.on_heartbeat
def beat():
    if heart == "fails":
        raise RuntimeError("no heart")


@stitch.on_exit
def fail():
    raise RuntimeError("a hook that fails")


@stitch.on_exit
def leave():
    stitch.log("goodbye")
    if heart == "talks":
        stitch.log("x" * 50_000, "x" * 50_000, "x" * 50_000, "last words")
    if heart == "lingers":
        threading.Event().wait()


try:
    stitch.run()
finally:
    stitch.log("finally")
