"""What the recorder can take: messages a second from a broker onto the disk, acknowledged.

Run as `python -m bench.record [MESSAGES]`. A loader in its own process publishes as fast as the recorder
keeps up with; broker, loader and recorder share the machine.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

from simulators.record import Recorder
from simulators.recording import Recording, Recordings
from telemetry.mqtt import parse_mqtt_url

from .load import Loader
from .messages import write_corpus
from .servers import Broker

_MESSAGES = 100_000
_AHEAD = 5_000
_LOOK_SECONDS = 0.02


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        try:
            broker.wait_ready()
            corpus = write_corpus(Path(folder) / "packets", 0, count, time.time_ns())
            recording = Recording(Path(folder) / "kept")
            recorder = Recorder(
                parse_mqtt_url(broker.url("ingest")), recording, topics=["application/#"], client_id="bench"
            )
            thread = threading.Thread(target=recorder.run)
            thread.start()
            broker.wait_subscribed("bench")
            seconds, cpu = _fill(recorder, Loader(broker.url("network"), corpus), count)
            recorder.stop()
            thread.join()
        finally:
            broker.stop()
        kept = len({message.payload for message in Recordings(recording.files)})
        size = sum(file.stat().st_size for file in recording.files)
        bytes_ = recorder.recorded.bytes
    print(
        f"{count:,} messages of {bytes_ / count:,.0f} bytes in {seconds:.1f} s: {count / seconds:,.0f}/s;"
        f" {cpu / count * 1e6:,.0f} µs of CPU each; {kept:,} kept, {size / count:,.0f} bytes each on the disk"
    )
    if kept != count:
        sys.exit("messages are missing")


def _fill(recorder: Recorder, loader: Loader, count: int) -> tuple[float, float]:
    """Seconds from the first message on the disk to the last; of the processor, from before to after."""
    began, used = 0.0, time.process_time()
    with loader:
        while (done := recorder.recorded.messages) < count:
            loader.allow(done + _AHEAD)
            if not began and done:
                began = time.monotonic()
            if not loader.running and loader.acked < count:
                raise RuntimeError("the publisher ended")
            time.sleep(_LOOK_SECONDS)
        return time.monotonic() - began, time.process_time() - used


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else _MESSAGES)
