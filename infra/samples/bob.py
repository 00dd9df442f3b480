# A sample stitch: answers each message that it gets. ann.mjs sends one at each heartbeat.
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src" / "client"))
import crossstitch

stitch = crossstitch.connect()


@stitch.on_message
def answer(message):
    stitch.log(f"{message.sender} writes: {message.data}")
    return f"thank you for {message.data}"


stitch.run()
