"""The stitch SDK for Python: one file, Python 3.8 or newer, standard library only.

    import crossstitch

    stitch = crossstitch.connect()

    @stitch.on_message
    def hello(message):
        return f"Hello, {message.data}"

    stitch.run()

It makes a program a stitch: it answers heartbeats, hands over messages and ends when the node asks it to. Handlers run
one at a time, in the order the messages came, on the thread that called run(): usually the main thread, so that what the
program opened there can be used. Heartbeats are answered from a thread of their own, also while a handler works. What
a program does besides messages, such as a loop, belongs into a thread of the program's own, with daemon=True.
docs/first-stitch.md is the introduction.
"""
import itertools
import json
import os
import queue
import random
import re
import signal
import sys
import threading
import time
import traceback

__all__ = ["connect", "Message", "Stitch"]

# The node's default stopGraceMs.
_EXIT_LIMIT_MS = 5000
# More unanswered messages than this would only fill the memory; the sender of a refused message is told at once.
_MAX_WAITING = 1000
_ASK_LIMIT_MS = 5000
# Ids of questions begin here: a reply has the Id of the message that it answers, and a node's own Ids never get this high.
# The first Id above it is random, so that an answer to an earlier run of this stitch is not taken for one to this run.
_FIRST_QUESTION = 2**52
# The node refuses a larger message.
_MAX_MESSAGE_BYTES = 1024 * 1024
# The node cuts a longer line. Escaped as JSON, a line grows at most sixfold, so that one line always fits into a batch.
_MAX_LINE_LENGTH = 64 * 1024
_MAX_BATCH_BYTES = _MAX_MESSAGE_BYTES // 2

_FACT = re.compile(
    r"(coreid|corepid|instanceid|application|component|version|groupname|datadir|channel|serializer)="
)
_connected = False


def connect(exit_limit_ms=_EXIT_LIMIT_MS):
    """Makes this process a stitch. Once for a process.

    exit_limit_ms: from the wish to end, a running handler, on_exit hooks and Python's own end have this long together.
    """
    global _connected
    if _connected:
        raise RuntimeError("connect() has been called before: a process is one stitch")
    _connected = True
    return Stitch(exit_limit_ms)


class Message:
    """What another stitch or a client sent.

    sender: a stitch, or `api:...` for a client of the API; "" for the system, which takes no reply.
    channel: "" without one. data: a string.
    """

    __slots__ = ("id", "sender", "channel", "data")

    def __init__(self, id, sender, channel, data):
        self.id = id
        self.sender = sender
        self.channel = channel
        self.data = data

    def json(self):
        """The data, parsed. Raises ValueError where it is not JSON."""
        return json.loads(self.data)


class Stitch:
    """What the node said at the start, "" for what it did not say: id, node, group, application, component, version,
    data_dir (a folder of the stitch's own, which exists and stays; without a node: the working folder), and args: the
    program's own arguments, without what the node added. Made by connect().
    """

    def __init__(self, exit_limit_ms):
        vars(self).update(_read_facts(sys.argv[1:], os.environ))
        self._exit_limit_ms = exit_limit_ms
        self._on_message = None
        self._on_heartbeat = None
        self._exit_hooks = []
        # A SimpleQueue, because a signal handler may put into it, no matter what the handler has interrupted.
        self._waiting = queue.SimpleQueue()
        # The queue that takes the answer, by the question's id.
        self._asked = {}
        self._questions = itertools.count(_FIRST_QUESTION + random.randrange(2**51))
        self._ended = queue.SimpleQueue()
        self._ending = False
        # Printed text must not wait in a buffer for more text. Messages go through the same buffer; its lock prevents that
        # the output of other threads gets between the lines of a message.
        sys.stdout.reconfigure(line_buffering=True)
        self._stdout = sys.stdout.buffer
        self._writing = threading.RLock()

    def on_message(self, handler):
        """Sets what handles messages; a decorator. Messages that come while there is none fail.

        The handler returns: the message is acknowledged, with a value other than None as the reply (a string as it is,
        anything else as JSON). It raises: the message fails, and the log says why.
        """
        self._on_message = handler
        return handler

    def on_heartbeat(self, hook):
        """Sets what is asked before a heartbeat is answered; a decorator. Where it raises, this one is not answered, and
        the log says why. It runs on the reading thread: be quick.
        """
        self._on_heartbeat = hook
        return hook

    def on_exit(self, hook):
        """Adds what is done before the process exits, because the node asked for it (_exit, SIGTERM) or is gone; a
        decorator. A running handler is waited for first, then the hooks run one after the other.
        """
        self._exit_hooks.append(hook)
        return hook

    def log(self, *lines):
        """Writes lines to the stitch's log. May be called from any thread."""
        texts = [part for line in lines for part in re.split("\r?\n", str(line))]
        for batch in _batches(texts):
            self._write({"Command": "logs", "Logs": batch})

    def send(self, *, data, to=None, group=None, channel=None):
        """Sends data (a string as it is, anything else as JSON) to a stitch by id (`orders-1`: on this node first;
        `n2:orders-1`: on that one), or to every other member of a group. Returns when standard output has taken it,
        which is not delivery yet. Raises TypeError for what cannot be sent, ValueError for more than 1 MiB. May be
        called from any thread.
        """
        self._write(_to_send(to, group, channel, data))

    def ask(self, to, data, *, channel=None, timeout_ms=_ASK_LIMIT_MS):
        """Sends a question to a stitch and returns its reply, a Message, which is acknowledged by itself and passes what
        waits for the handler. Raises TimeoutError where none comes within timeout_ms, also because the question could not
        be sent or its handler failed (the log says the former); as send() for what cannot be sent. A reply that comes later
        is dropped. Do not ask the sender of the message that is being handled: what it sends waits until that is
        acknowledged. May be called from any thread while run() runs, but not in on_heartbeat, which runs on the thread
        that reads the reply.
        """
        answers = queue.SimpleQueue()
        question = next(self._questions)
        self._asked[question] = answers
        try:
            self._write({**_to_send(to, None, channel, data), "Id": question})
            return answers.get(timeout=timeout_ms / 1000)
        except queue.Empty:
            raise TimeoutError(f"{to} has not answered within {timeout_ms} ms") from None
        finally:
            del self._asked[question]

    def run(self):
        """Hands messages to the handler until the node asks the stitch to end, or is gone; then exits with SystemExit(0),
        so that `finally` and atexit do their work, all within exit_limit_ms. From here on heartbeats are answered, and
        the first one answered means to the node that the stitch has come up: call it when the program is ready.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if is_main:
            signal.signal(signal.SIGTERM, lambda *_: self._end_soon())
        for work in (self._read, self._bound_the_end):
            threading.Thread(target=work, name="crossstitch", daemon=True).start()
        while True:
            message = self._waiting.get()
            # Messages that were not begun stay unanswered: so the node knows that nobody has handled them.
            if self._ending or message is None:
                break
            self._handle(message)
        for hook in self._exit_hooks:
            try:
                hook()
            except Exception:
                _complain("an on_exit hook failed: " + traceback.format_exc())
        if is_main:
            # When Python ends, it resets signal handlers to their defaults: a second SIGTERM would then kill the process.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Never released: Python crashes if a thread writes while Python closes standard output.
        self._writing.acquire()
        if not is_main:
            os._exit(0)
        sys.exit(0)

    def _read(self):
        """The thread that reads what the node writes."""
        gathered = []
        try:
            for line in _lines(0):
                if line.strip() == b"end":
                    text = b"\n".join(gathered)
                    gathered = []
                    self._take(text.decode("utf-8", "replace"))
                elif gathered or line.strip():
                    gathered.append(line)
        finally:
            # The node is gone. Earlier messages are still handled: somebody may read the answers.
            self._end()

    def _take(self, text):
        try:
            message, reply_to = _parse_message(text)
        except (ValueError, RecursionError) as error:
            _complain(f"what the node wrote could not be read: {error}")
            return
        if message.channel == "_heartbeat":
            self._beat(message.id)
        elif message.channel == "_exit":
            self._end_soon()
        elif message.channel == "_error":
            _complain(f"the node reports an error: {message.data}")
        elif reply_to is not None and reply_to >= _FIRST_QUESTION:
            self._answered(message, reply_to)
        # Other system channels come from a newer node.
        elif not message.channel.startswith("_"):
            self._receive(message)

    def _beat(self, id):
        try:
            if self._on_heartbeat is not None:
                self._on_heartbeat()
        except Exception:
            _complain("a heartbeat is not answered, because on_heartbeat failed: " + traceback.format_exc())
            return
        self._write({"Command": "sync", "Id": id})

    def _answered(self, message, question):
        # An answer that comes too late is dropped.
        self._write({"Command": "ack", "Id": message.id})
        answers = self._asked.get(question)
        if answers is not None:
            answers.put(message)

    def _receive(self, message):
        if self._ending:
            return
        if self._on_message is None:
            self._refuse(message, "there is no handler; set one with on_message before run()")
        elif self._waiting.qsize() >= _MAX_WAITING:
            self._refuse(message, f"{_MAX_WAITING} others are waiting already")
        else:
            self._waiting.put(message)

    def _refuse(self, message, reason):
        _complain(f"message {message.id} failed: {reason}")
        self._write({"Command": "fail", "Id": message.id})

    def _handle(self, message):
        try:
            reply = self._on_message(message)
            # A reply acknowledges, too. The system sends without an address, so its messages can only be acknowledged.
            if reply is None or message.sender == "":
                self._write({"Command": "ack", "Id": message.id})
            else:
                to = {"ToStitchInstanceId": message.sender}
                self._write({"Command": "data", "Id": message.id, **to, "Data": _data_text(reply)})
        except Exception:
            self._refuse(message, traceback.format_exc())

    def _end_soon(self):
        self._ending = True
        self._end()

    def _end(self):
        self._waiting.put(None)
        self._ended.put(None)

    def _bound_the_end(self):
        self._ended.get()
        time.sleep(self._exit_limit_ms / 1000)
        _complain(f"ended after {self._exit_limit_ms} ms, although it had not finished")
        os._exit(0)

    def _write(self, message):
        # The first line break ends a line that the program may have left open.
        text = f"\n{_json(message)}\nend\n".encode("utf-8", "replace")
        if len(text) > _MAX_MESSAGE_BYTES:
            raise ValueError(f"{len(text)} bytes are more than a message may have (1 MiB)")
        with self._writing:
            try:
                self._stdout.write(text)
                self._stdout.flush()
            except BrokenPipeError:
                # The node is gone. The rest in the buffer must not fail again when Python closes the buffer.
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 1)
                os.close(nowhere)
                self._end_soon()


def _read_facts(words, env):
    """The node starts `<command...> key=value ... -- <own arguments>`. What stands before the first key is the command's
    own too. Without the keys the environment tells.
    """
    separator = words.index("--") if "--" in words else len(words)
    before, after = words[:separator], words[separator + 1 :]
    first = next((at for at, word in enumerate(before) if _FACT.match(word)), len(before))
    facts = dict(word.split("=", 1) for word in before[first:] if "=" in word)
    group = facts.get("groupname", env.get("STITCH_GROUP", ""))
    application, component, version = (group.split(".") + ["", "", ""])[:3]
    return {
        "id": facts.get("instanceid", env.get("STITCH_ID", "")),
        "node": facts.get("coreid", env.get("STITCH_NODE_ID", "")),
        "group": group,
        "application": facts.get("application", application),
        "component": facts.get("component", component),
        "version": facts.get("version", version),
        "data_dir": facts.get("datadir") or env.get("STITCH_DATA_DIR") or os.getcwd(),
        "args": before[:first] + after,
    }


def _lines(fd):
    """The lines of what is read from a file descriptor. Not sys.stdin: a thread that waits in there keeps Python from
    closing it, and so from ending.
    """
    pending = bytearray()
    while True:
        try:
            chunk = os.read(fd, 64 * 1024)
        except OSError:
            return
        if not chunk:
            return
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            pending += line
            yield bytes(pending)
            pending.clear()
        pending += rest


def _parse_message(text):
    fields = json.loads(text)
    id = fields.get("Id") if isinstance(fields, dict) else None
    if not _is_whole(id):
        raise ValueError(f"Id is no whole number: {text[:200]}")
    names = ("FromStitchInstanceId", "ChannelName", "Data")
    sender, channel, data = ("" if fields.get(name) is None else str(fields[name]) for name in names)
    reply_to = fields.get("ReplyToId")
    return Message(id, sender, channel, data), reply_to if _is_whole(reply_to) else None


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _to_send(to, group, channel, data):
    if (to is None) == (group is None):
        raise TypeError("a message goes either to a stitch (to) or to a group (group)")
    message = {"Command": "data", "Data": _data_text(data)}
    if channel is not None:
        message["DataChannel"] = channel
    message["ToGroupName" if to is None else "ToStitchInstanceId"] = group if to is None else to
    return message


def _data_text(data):
    return data if isinstance(data, str) else _json(data)


def _json(value):
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _batches(lines):
    batch, size = [], 0
    for line in lines:
        cut = line[:_MAX_LINE_LENGTH]
        length = len(_json(cut).encode("utf-8", "replace")) + 1
        if size + length > _MAX_BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(cut)
        size += length
    if batch:
        yield batch


def _complain(text):
    """On stderr, which goes to the stitch's log too: not in a message, because it may be about one."""
    try:
        print(f"crossstitch: {text.rstrip()}", file=sys.stderr, flush=True)
    except OSError:
        pass
