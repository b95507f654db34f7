"""What tests of jobs share: waiting for a job, and for what hangs."""

import threading
import time

from process import BUILD

AT_ONCE = 3 if "san" not in BUILD.name else 15  # seconds; a second of grace is part of it


def wait_status(qmp, job, status):
    qmp.wait_event("JOB_STATUS_CHANGE", lambda data: data["id"] == job and data["status"] == status)


def wait_held(qmp, gate, count=1):
    end = time.monotonic() + 30
    while qmp.execute("x-gate-query", node_name=gate)["held"] < count:
        assert time.monotonic() < end, "nothing has come to the gate"
        time.sleep(0.002)


def until_allowed(command):
    """As soon as what hung has ended."""
    end = time.monotonic() + 10 * AT_ONCE
    while True:
        try:
            return command()
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


class Request:
    """A request of a guest, which may take long."""

    def __init__(self, request):
        self.failure = None

        def work():
            try:
                request()
            except BaseException as failure:
                self.failure = failure

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def hangs(self):
        self.thread.join(0.05)
        return self.thread.is_alive()

    def wait(self):
        self.thread.join(AT_ONCE)
        assert not self.thread.is_alive(), "the guest stands still"
        if self.failure:
            raise self.failure
