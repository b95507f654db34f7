"""Guests whose writes come one after the other, over several disks in turn: write 0 to the first disk, 1 to the second,
and each is begun when the one before has ended. What is kept of one moment holds the begin of that sequence, and no more.

    with OrderedGuests(socket, ["a", "b"]) as guests:
        guests.let_write()
        ...
    guests.count(0)                             # how many the first guest has done
    guests.kept(0, {"a": content, "b": content})    # which of them the contents hold
"""

import nbd_client
from guests import Workers
from images import KIB, MIB

BLOCK = 4 * KIB
SIZE = 16 * MIB
MARK = b"\x5a" * BLOCK
AHEAD = 300  # writes that a guest does after let_write() has returned, so that the disks are never full


class OrderedGuests(Workers):
    def __init__(self, socket, disks, count=2):
        super().__init__(count)
        self.socket, self.disks = socket, disks
        self.limit = AHEAD

    def place(self, guest, number):
        """Disk and block of a write."""
        share = SIZE // BLOCK // self.count
        turn = number // len(self.disks)
        assert turn < share, "the disks are full"
        return self.disks[number % len(self.disks)], guest * share + turn

    def _work(self, guest):
        clients = {disk: nbd_client.connect(self.socket, disk) for disk in self.disks}
        while not self.stopping.is_set():
            with self.progress:
                self.progress.wait_for(lambda: self.stopping.is_set() or self.steps[guest] < self.limit)
            disk, block = self.place(guest, self.steps[guest])
            clients[disk].pwrite(MARK, block * BLOCK)
            self._done_one_more(guest)
        for client in clients.values():
            client.shutdown()

    def _may_reach(self, steps):
        self.limit = steps + AHEAD
        self.progress.notify_all()

    def let_write(self, writes=60):
        self.let_work(writes)

    def numbers(self, guest, has):
        """Of all that the guest has written, those for which has(disk, block)."""
        return [number for number in range(self.steps[guest]) if has(*self.place(guest, number))]

    def assert_one_moment(self, kept):
        """kept: for each disk a function that says whether a block is of before the moment. Returns how many were."""
        moments = []
        for guest in range(self.count):
            before = self.numbers(guest, lambda disk, block: kept[disk](block))
            assert before == list(range(len(before))), (guest, before[-8:], len(before))
            moments.append(len(before))
        return moments

    def assert_complete(self, contents):
        """Nothing that was written is lost, and nothing else is there."""
        model = {disk: bytearray(SIZE) for disk in self.disks}
        for guest in range(self.count):
            for number in range(self.steps[guest]):
                disk, block = self.place(guest, number)
                model[disk][block * BLOCK:(block + 1) * BLOCK] = MARK
        for disk in self.disks:
            assert contents[disk] == bytes(model[disk]), disk

    def all_blocks(self, disk):
        return {block for guest in range(self.count) for where, block in
                (self.place(guest, number) for number in range(self.steps[guest])) if where == disk}


def holds(content):
    """As kept of assert_one_moment: what a copy of the disk has."""
    return lambda block: content[block * BLOCK] != 0


def dirty_blocks(qmp, socket, node, bitmap):
    return nbd_client.dirty_units(qmp, socket, node, bitmap, BLOCK)
