"""images - qcow2 images of a given shape, made entry by entry

Only what a map of the image needs is there: header, L1 table, L2 tables, refcounts, and the first bytes of each data
cluster; the rest of a cluster is a hole of the file, so that an image of 1 TiB fits in memory. qemu-img check finds nothing
wrong. Source of the layout: QEMU, docs/interop/qcow2.
"""

import struct

KIB, GIB, TIB = 1 << 10, 1 << 30, 1 << 40
COPIED = 1 << 63


class Image:
    """An image of @size bytes where exactly the guest clusters with the numbers @clusters (ascending) have data."""

    def __init__(self, size, clusters, cluster_bits=16, data_bytes=4 * KIB, backing=None):
        self.size, self.clusters, self.bits = size, list(clusters), cluster_bits
        self.cluster, self.data_bytes, self.backing = 1 << cluster_bits, data_bytes, backing
        self.entries = self.cluster // 8
        self.tables = sorted({number // self.entries for number in self.clusters})
        self.l1_entries = -(-size // (self.cluster * self.entries))
        self.place()

    def place(self):
        """Where things are, in clusters: header, L1 table, L2 tables, data, refcount table, refcount blocks."""
        self.first_table = 1 + self.whole(self.l1_entries * 8)
        self.first_data = self.first_table + len(self.tables)
        self.reftable = self.first_data + len(self.clusters)
        counts = self.cluster // 2  # of a block, 16 bits each
        blocks = reftable_clusters = 0
        while True:
            end = self.reftable + reftable_clusters + blocks
            needed = -(-end // counts)
            if needed <= blocks and self.whole(needed * 8) <= reftable_clusters:
                break
            blocks, reftable_clusters = needed, self.whole(needed * 8)
        self.blocks, self.reftable_clusters, self.end = blocks, reftable_clusters, end

    def whole(self, count):
        return -(-count // self.cluster)

    def write(self, path):
        with open(path, "wb") as file:
            self.file = file
            file.truncate(self.end * self.cluster)
            self.at(0, self.header())
            l1 = [0] * self.l1_entries
            for i, table in enumerate(self.tables):
                l1[table] = (self.first_table + i) * self.cluster | COPIED
            self.at(1, struct.pack(f">{self.l1_entries}Q", *l1))
            self.write_l2_tables()
            for i in range(len(self.clusters)):
                self.at(self.first_data + i, b"\xa5" * self.data_bytes)
            self.write_refcounts()

    def at(self, number, data):
        self.file.seek(number * self.cluster)
        self.file.write(data)

    def header(self):
        name = (self.backing or "").encode()
        extensions = struct.pack(">II5s3x", 0xE2792ACA, 5, b"qcow2") if name else b""
        extensions += struct.pack(">II", 0, 0)
        fixed = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 104 + len(extensions) if name else 0, len(name), self.bits,
                            self.size, 0, self.l1_entries, self.cluster, self.reftable * self.cluster,
                            self.reftable_clusters, 0, 0, 0, 0, 0, 4, 104)
        return fixed + extensions + name

    def write_l2_tables(self):
        entries = {table: [0] * self.entries for table in self.tables}
        for i, number in enumerate(self.clusters):
            entries[number // self.entries][number % self.entries] = (self.first_data + i) * self.cluster | COPIED
        for i, table in enumerate(self.tables):
            self.at(self.first_table + i, struct.pack(f">{self.entries}Q", *entries.pop(table)))

    def write_refcounts(self):
        first_block = self.reftable + self.reftable_clusters
        places = ((first_block + i) * self.cluster for i in range(self.blocks))
        self.at(self.reftable, struct.pack(f">{self.blocks}Q", *places))
        counts = self.cluster // 2
        for i in range(self.blocks):
            self.at(first_block + i, struct.pack(">H", 1) * min(counts, self.end - i * counts))


def write_chain(directory, size, stride, layers, **shape):
    """Layers that take turns in having the data: each of them has every @layers-th of the data clusters, which lie @stride
    clusters apart. The path of the top."""
    path = None
    every = range(0, size >> shape.get("cluster_bits", 16), stride)
    for layer in range(layers):
        below = path
        path = f"{directory}/layer{layer}.qcow2"
        Image(size, every[layer::layers], backing=below, **shape).write(path)
    return path
