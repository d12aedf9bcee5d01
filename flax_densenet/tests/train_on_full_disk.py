"""Trains on a disk that becomes full: `python -m ...train_on_full_disk WORKDIR FLAG...`.

From the third epoch on no file may grow beyond two kilobytes, which the system enforces as it does
a full disk: by an error of the write.
"""

import resource
import signal
import sys
import threading
import time
from pathlib import Path

from flax_densenet.cli.main import main

_BYTES = 2000


def fill_disk(metrics: Path) -> None:
    """Waits for two epochs, then limits the size of files."""
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        time.sleep(0.005)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_BYTES, _BYTES))


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    workdir = Path(sys.argv[1])
    threading.Thread(target=fill_disk, args=(workdir / "metrics.jsonl",), daemon=True).start()
    raise SystemExit(main(["train", "--workdir", str(workdir), *sys.argv[2:]]))
