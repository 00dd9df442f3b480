# A sample stitch: counts, a number each second, and goes on where it was when it is started again. To whoever sends it a
# message it tells the number; the message "reset" makes it 0.
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src" / "client"))
import crossstitch

stitch = crossstitch.connect()
file = Path(stitch.data_dir) / "number"
number = int(file.read_text()) if file.exists() else 0


def count():
    global number
    while True:
        time.sleep(1)
        number += 1
        if number % 10 == 0:
            stitch.log(f"counted to {number}")


@stitch.on_message
def tell(message):
    global number
    if message.data == "reset":
        stitch.log(f"{message.sender or 'the system'} resets the counter at {number}")
        number = 0
    return number


@stitch.on_exit
def remember():
    written = file.with_suffix(".new")
    written.write_text(str(number))
    written.replace(file)
    stitch.log(f"remembers {number}")


stitch.log(f"{stitch.id} of {stitch.node} counts on from {number}")
threading.Thread(target=count, daemon=True).start()
stitch.run()
