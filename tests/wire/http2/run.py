"""Sends what no decent client of HTTP/2 sends, and tells what came of it.

Usage: run.py PORT CA [NAME...]

Each vector of the modules beside this one is played against the edge at PORT, whose certificate CA vouches for; given
names choose some. For each, one line of JSON says what was expected and what came: how the edge ended it, and how many
requests of it may reach the VMS, which whoever calls this has counted. A vector's requests have its name in their
target. After each, a client who did nothing wrong asks on a connection of its own that has been there from the start.
"""

import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor

from attack import VECTORS, Broken, Client, Edge

MODULES = ("batches", "bodies", "fields", "floods", "frames", "pseudo", "streams", "windows")

# Some wait for a deadline of the edge's; the others need not wait for them.
AT_ONCE = 8


def play(vector, edge):
    """What came of a vector, as a line of the report."""
    try:
        with Client(edge, vector.name) as client:
            came = vector.plays(client)
    except Broken as broken:
        came = f"broken: {broken}"
    return {
        "name": vector.name,
        "came": came,
        "expected": vector.outcomes,
        "least": vector.least,
        "most": vector.most,
    }


def main(port, authority, *names):
    for module in MODULES:
        importlib.import_module(module)
    chosen = [vector for vector in VECTORS if not names or vector.name in names]
    edge = Edge(int(port), authority)
    with Client(edge, "beside") as beside, ThreadPoolExecutor(AT_ONCE) as pool:
        for told in pool.map(lambda vector: play(vector, edge), chosen):
            # The attacker is gone; whoever did nothing must not have noticed.
            told["beside"] = beside.asks()
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
