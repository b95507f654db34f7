"""Guests whose writes come one after the other, over several disks in turn: write 0 to the first disk, 1 to the second,
and each is begun when the one before has ended. What is kept of one moment holds the begin of that sequence, and no more.

    with OrderedGuests(socket, ["a", "b"]) as guests:
        guests.let_write()
        ...
    guests.count(0)                             # how many the first guest has done
    guests.kept(0, {"a": content, "b": content})    # which of them the contents hold
"""

import threading

import nbd_client
from images import KIB, MIB

BLOCK = 4 * KIB
SIZE = 16 * MIB
MARK = b"\x5a" * BLOCK
AHEAD = 300  # writes that a guest does after let_write() has returned, so that the disks are never full


class OrderedGuests:
    def __init__(self, socket, disks, count=2):
        self.socket, self.disks, self.guests = socket, disks, count
        self.done = [0] * count
        self.limit = AHEAD
        self.stopping = threading.Event()
        self.progress = threading.Condition()
        self.failures = []

    def place(self, guest, number):
        """Disk and block of a write."""
        share = SIZE // BLOCK // self.guests
        turn = number // len(self.disks)
        assert turn < share, "the disks are full"
        return self.disks[number % len(self.disks)], guest * share + turn

    def _work(self, guest):
        try:
            clients = {disk: nbd_client.connect(self.socket, disk) for disk in self.disks}
            while not self.stopping.is_set():
                with self.progress:
                    self.progress.wait_for(lambda: self.stopping.is_set() or self.done[guest] < self.limit)
                disk, block = self.place(guest, self.done[guest])
                clients[disk].pwrite(MARK, block * BLOCK)
                with self.progress:
                    self.done[guest] += 1
                    self.progress.notify_all()
            for client in clients.values():
                client.shutdown()
        except BaseException as failure:
            with self.progress:
                self.failures.append(failure)
                self.progress.notify_all()

    def __enter__(self):
        self.threads = [threading.Thread(target=self._work, args=(guest,)) for guest in range(self.guests)]
        for thread in self.threads:
            thread.start()
        return self

    def let_write(self, writes=60):
        with self.progress:
            wanted = [done + writes for done in self.done]
            self.limit = max(wanted) + AHEAD
            self.progress.notify_all()
            went_on = self.progress.wait_for(
                lambda: self.failures or all(is_ >= want for is_, want in zip(self.done, wanted)), timeout=60)
        assert went_on, "the guests stand still"
        if self.failures:
            raise self.failures[0]

    def __exit__(self, *exc):
        self.stopping.set()
        with self.progress:
            self.progress.notify_all()
        for thread in self.threads:
            thread.join()
        if self.failures and exc[0] is None:
            raise self.failures[0]

    def numbers(self, guest, has):
        """Of all that the guest has written, those for which has(disk, block)."""
        return [number for number in range(self.done[guest]) if has(*self.place(guest, number))]

    def assert_one_moment(self, kept):
        """kept: for each disk a function that says whether a block is of before the moment. Returns how many were."""
        moments = []
        for guest in range(self.guests):
            before = self.numbers(guest, lambda disk, block: kept[disk](block))
            assert before == list(range(len(before))), (guest, before[-8:], len(before))
            moments.append(len(before))
        return moments

    def assert_complete(self, contents):
        """Nothing that was written is lost, and nothing else is there."""
        model = {disk: bytearray(SIZE) for disk in self.disks}
        for guest in range(self.guests):
            for number in range(self.done[guest]):
                disk, block = self.place(guest, number)
                model[disk][block * BLOCK:(block + 1) * BLOCK] = MARK
        for disk in self.disks:
            assert contents[disk] == bytes(model[disk]), disk

    def all_blocks(self, disk):
        return {block for guest in range(self.guests) for where, block in
                (self.place(guest, number) for number in range(self.done[guest])) if where == disk}


def holds(content):
    """As kept of assert_one_moment: what a copy of the disk has."""
    return lambda block: content[block * BLOCK] != 0


def dirty_blocks(qmp, socket, node, bitmap):
    """The blocks that are dirty, as a client of an export sees them."""
    name = f"look-at-{node}-{bitmap}"
    qmp.execute("block-export-add", type="nbd", id=name, node_name=node, name=name, bitmaps=[bitmap], writable=True)
    client = nbd_client.connect(socket, name, contexts=[f"qemu:dirty-bitmap:{bitmap}"])
    found, at = set(), 0
    while at < SIZE:
        entries = []
        client.block_status(SIZE - at, at, lambda metacontext, offset, extents, error: entries.extend(extents))
        for length, flags in zip(entries[::2], entries[1::2]):
            if flags & 1:
                found |= set(range(at // BLOCK, -(-(at + length) // BLOCK)))
            at += length
    client.shutdown()
    qmp.execute("block-export-del", id=name, mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED", lambda data: data["id"] == name)
    return found
