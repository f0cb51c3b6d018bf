"""One contender in a process of its own: python -m bench.contenders <module> <folder>, the place in the environment.

Prints how long reading took without the start of Python and the imports.
"""

import importlib
import json
import sys
import time
from pathlib import Path

from bench.place import place

if __name__ == "__main__":
    module, folder = sys.argv[1:]
    here = place()
    read = getattr(importlib.import_module(f"bench.contenders.{module}"), here.engine)
    started = time.perf_counter()
    read(here, Path(folder))
    print(json.dumps({"inside_seconds": round(time.perf_counter() - started, 3)}))
