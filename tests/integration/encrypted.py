"""What tests of encrypted images share: passwords, empty files to make images on, and jobs that make them."""

import struct

PASSWORD = "open sesame"
SECRET = f"secret,id=s,data={PASSWORD}"

ENDLESS = 0x7FFFFFFF  # iterations: tens of minutes
SLOTS, SLOT_BYTES, SLOT_ACTIVE = 208, 48, 0x00AC71F3  # LUKS on-disk format, version 1


def empty_file(qmp, path, node):
    """Node @node on an empty file, secrets 's0' (the password) and 'wrong'."""
    path.touch()
    qmp.execute("object-add", qom_type="secret", id="s0", data=PASSWORD)
    qmp.execute("object-add", qom_type="secret", id="wrong", data="guess")
    qmp.execute("blockdev-add", driver="file", node_name=node, filename=str(path))
    return path


def create(qmp, driver, file, size, **options):
    """The error of the job, or None."""
    qmp.execute("blockdev-create", {"job-id": "job0",
                                    "options": {"driver": driver, "file": file, "size": size, **options}})
    return qmp.wait_job("job0")


def node(qmp, name):
    return next(node for node in qmp.execute("query-named-block-nodes") if node["node-name"] == name)


def make_endless(path, slot):
    """Whoever tries a password at that slot of the volume waits for ever."""
    with open(path, "r+b") as file:
        file.seek(SLOTS + slot * SLOT_BYTES)
        file.write(struct.pack(">II", SLOT_ACTIVE, ENDLESS))
