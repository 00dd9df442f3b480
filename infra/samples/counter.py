# A sample stitch: counts, a number each second, until it is told to end.
import itertools
import time

for number in itertools.count(1):
    print(number, flush=True)
    time.sleep(1)
