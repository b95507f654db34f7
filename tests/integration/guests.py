"""Guests that write a disk through NBD while something else happens to it, and know what it has to hold.

    with Guests(socket, "disk", model, count=3) as guests:
        ...                                # they work
    # they have stopped; model is what the disk holds
"""

import contextlib
import threading

import nbd

import nbd_client
from images import rng_of
from test_io_random import step


class Workers:
    """Threads that run _work(number) until they shall stop, and count in steps[number] what they have done."""

    def __init__(self, count):
        self.count = count
        self.stopping = threading.Event()
        self.failures = []
        self.steps = [0] * count
        self.progress = threading.Condition()

    def _run(self, number):
        try:
            self._work(number)
        except BaseException as failure:
            with self.progress:
                self.failures.append(failure)
                self.progress.notify_all()

    def _done_one_more(self, number):
        with self.progress:
            self.steps[number] += 1
            self.progress.notify_all()

    def __enter__(self):
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.count)]
        for thread in self.threads:
            thread.start()
        return self

    def let_work(self, steps=50):
        """Until each of them has done so many requests more."""
        with self.progress:
            wanted = [done + steps for done in self.steps]
            self._may_reach(max(wanted))
            done = self.progress.wait_for(
                lambda: self.failures or all(is_ >= want for is_, want in zip(self.steps, wanted)), timeout=60)
        assert done, "the guests stand still"
        if self.failures:
            raise self.failures[0]

    def _may_reach(self, steps):
        """For those that do not go on without end."""

    def __exit__(self, *exc):
        self.stopping.set()
        with self.progress:
            self.progress.notify_all()
        for thread in self.threads:
            thread.join()
        if self.failures and exc[0] is None:
            raise self.failures[0]


class Guests(Workers):
    def __init__(self, socket, export, model, count=2, seed="guests"):
        super().__init__(count)
        self.socket, self.export, self.model, self.seed = socket, export, model, seed
        self.holding = False
        self.resting = 0

    def _rest_while_held(self):
        with self.progress:
            if not self.holding:
                return
            self.resting += 1
            self.progress.notify_all()
            self.progress.wait_for(lambda: not self.holding or self.stopping.is_set())
            self.resting -= 1

    @contextlib.contextmanager
    def held(self):
        """None of them has a request on its way; the model is what the disk holds."""
        with self.progress:
            self.holding = True
            assert self.progress.wait_for(lambda: self.failures or self.resting == self.count, timeout=60)
        try:
            yield
        finally:
            with self.progress:
                self.holding = False
                self.progress.notify_all()

    def _work(self, number):
        rng = rng_of(f"{self.seed} {number}")
        share = len(self.model) // self.count
        client = nbd_client.connect(self.socket, self.export)
        client.set_strict_mode(client.get_strict_mode() & ~nbd.STRICT_ALIGN)
        while not self.stopping.is_set():
            self._rest_while_held()
            step(client, rng, self.model, number * share, (number + 1) * share)
            self._done_one_more(number)
        client.shutdown()


@contextlib.contextmanager
def writing_to(qmp, directory, node, model):
    """Guests write to the node before, during and after what the caller does; in the end it reads as they left it."""
    socket = nbd_client.start_server(qmp, directory)
    nbd_client.export(qmp, node, writable=True)
    with Guests(socket, node, model) as guests:
        guests.let_work(10)
        yield guests
        guests.let_work(10)
    client = nbd_client.connect(socket, node)
    assert nbd_client.read_all(client) == bytes(model)
    client.shutdown()
