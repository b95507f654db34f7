"""Nodes and how they hang together, as a client makes and sees them."""


def add_image(qmp, path, name="disk", **options):
    """A qcow2 node; the one of its file is called after it."""
    file = {"driver": "file", "node-name": f"{name}-file", "filename": str(path)}
    qmp.execute("blockdev-add", {"driver": "qcow2", "node-name": name, "file": file}, **options)


def node(qmp, name):
    return {info["node-name"]: info for info in qmp.execute("query-named-block-nodes", flat=True)}[name]


def children(qmp, name):
    """The nodes below, by the names of the edges."""
    return {child["child"]: child["node-name"] for child in node(qmp, name)["children"]}
