"""x-blockdev-amend: passwords of encrypted images come and go while they are in use. qemu-img knows which ones open them."""

import pytest

from images import MIB, run


def run_job(qmp, command, arguments):
    """The error of the job, or None."""
    qmp.execute(command, {"job-id": "job0", **arguments})
    return qmp.wait_job("job0")


FIRST, SECOND = "first password", "second password"


@pytest.fixture(params=["luks", "qcow2"])
def image(request, qmp, tmp_path):
    """Node 'disk0', encrypted with secret 's0'; secrets 's1' and 'wrong'."""
    return Image(qmp, request.param, tmp_path / f"a.{request.param}")


class Image:
    def __init__(self, qmp, driver, path):
        self.qmp, self.driver, self.path = qmp, driver, path
        path.touch()
        for name, data in (("s0", FIRST), ("s1", SECOND), ("wrong", "guess")):
            qmp.execute("object-add", qom_type="secret", id=name, data=data)
        qmp.execute("blockdev-add", driver="file", node_name="file0", filename=str(path))
        keys = {"key-secret": "s0", "iter-time": 10}
        assert run_job(qmp, "blockdev-create", {"options": {"driver": driver, "file": "file0", "size": MIB, **(
            keys if driver == "luks" else {"encrypt": {"format": "luks", **keys}})}}) is None
        self.open("s0")

    def open(self, secret, **options):
        key = {"key-secret": secret}
        self.qmp.execute("blockdev-add", {"driver": self.driver, "node-name": "disk0", "file": "file0", **options, **(
            key if self.driver == "luks" else {"encrypt": {"format": "luks", **key}})})

    def amend(self, force=False, **options):
        """The error of the job, or None."""
        options = {name.replace("_", "-"): value for name, value in options.items()}
        if options["state"] == "active":
            options.setdefault("iter-time", 10)
        if self.driver == "qcow2":
            options = {"encrypt": {"format": "luks", **options}}
        error = run_job(self.qmp, "x-blockdev-amend", {"node-name": "disk0", "force": force,
                                                       "options": {"driver": self.driver, **options}})
        return error.removeprefix("encrypt: ") if error else None

    def slots(self):
        """Numbers of those that are active, as the node tells."""
        node = next(n for n in self.qmp.execute("query-named-block-nodes") if n["node-name"] == "disk0")
        own = node["image"]["format-specific"]["data"]
        slots = (own if self.driver == "luks" else own["encrypt"])["slots"]
        return [number for number, slot in enumerate(slots) if slot["active"]]

    def opens_with(self, password):
        """Does it, with qemu-img? The node stays open."""
        key = "key-secret=s" if self.driver == "luks" else "encrypt.format=luks,encrypt.key-secret=s"
        result = run("qemu-img", "map", "--output=json", "-U", "--object", f"secret,id=s,data={password}", "--image-opts",
                     f"driver={self.driver},{key},file.filename={self.path}", check=False)
        assert result.returncode == 0 or "Invalid password" in result.stderr, result.stderr
        return result.returncode == 0


def test_a_password_more_and_one_less(image):
    assert image.amend(state="active", new_secret="s1") is None
    assert image.slots() == [0, 1]
    assert image.opens_with(FIRST) and image.opens_with(SECOND)
    assert image.amend(state="inactive", old_secret="s0") is None
    assert image.slots() == [1]
    assert not image.opens_with(FIRST) and image.opens_with(SECOND)
    # What the node was opened with is no password any more; another one is named.
    assert image.amend(state="active", new_secret="s0") == "invalid password, cannot unlock any key slot"
    assert image.amend(state="active", new_secret="s0", secret="s1", keyslot=7) is None
    assert image.slots() == [1, 7]
    image.qmp.execute("blockdev-del", node_name="disk0")
    image.open("s0")
    assert image.slots() == [1, 7]


def test_slots_by_number(image):
    assert image.amend(state="active", new_secret="s1", keyslot=3) is None
    assert image.amend(state="active", new_secret="s1", keyslot=3) == "keyslot: slot 3 is active; it has to be erased first"
    assert image.amend(state="inactive", keyslot=5) == "keyslot: slot 5 is not active"
    assert image.amend(state="inactive", keyslot=3, old_secret="s0") == "old-secret: is not the password of slot 3"
    assert image.amend(state="inactive", keyslot=3) is None
    assert image.slots() == [0]


def test_the_last_password_stays_unless_forced(image):
    left = "no password would be left, and the data be lost for good"
    assert image.amend(state="inactive", keyslot=0) == left
    assert image.amend(state="inactive", old_secret="s0") == left
    assert image.opens_with(FIRST)
    assert image.amend(state="inactive", keyslot=0, force=True) is None
    assert image.slots() == [] and not image.opens_with(FIRST)


def test_all_slots_in_use(image):
    for _ in range(7):
        assert image.amend(state="active", new_secret="s1") is None
    assert image.amend(state="active", new_secret="s1") == "all key slots are in use"
    assert image.amend(state="inactive", old_secret="s1") is None
    assert image.slots() == [0]


@pytest.mark.parametrize("options, message", [
    ({"state": "active"}, "new-secret: is missing; an active slot needs a password"),
    ({"state": "active", "new_secret": "s1", "old_secret": "s0"}, "old-secret: goes with state 'inactive' only"),
    ({"state": "active", "new_secret": "none"}, "new-secret: object 'none' not found (a 'secret' is wanted)"),
    ({"state": "active", "new_secret": "s1", "secret": "wrong"}, "invalid password, cannot unlock any key slot"),
    ({"state": "inactive"}, "keyslot or old-secret: one is needed to say what is to be erased"),
    ({"state": "inactive", "keyslot": 0, "new_secret": "s1"}, "new-secret: goes with state 'active' only"),
    ({"state": "inactive", "keyslot": 0, "iter_time": 10}, "iter-time: goes with state 'active' only"),
    ({"state": "inactive", "old_secret": "wrong"}, "old-secret: is the password of no slot"),
])
def test_what_makes_no_sense(image, options, message):
    assert image.amend(**options) == message
    assert image.slots() == [0]


def test_nodes_that_cannot_be_amended(qmp, image):
    def error(node, driver, options):
        return qmp.error("x-blockdev-amend", {"job-id": "j", "node-name": node, "options": {"driver": driver, **options}}).desc
    active = {"state": "active", "new-secret": "s1"}
    assert error("nobody", "luks", active) == "Failed to find node with node-name='nobody'"
    assert error("file0", "luks", active) == "node 'file0' has driver 'file', not 'luks'"
    qmp.execute("blockdev-del", node_name="disk0")
    image.open("s0", **{"read-only": True})
    options = active if image.driver == "luks" else {"encrypt": {"format": "luks", **active}}
    assert error("disk0", image.driver, options) == "node 'disk0' is read-only"


def test_an_image_that_is_not_encrypted(qmp, tmp_path):
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "plain.qcow2", "1M")
    qmp.execute("object-add", qom_type="secret", id="s1", data=SECOND)
    qmp.execute("blockdev-add", driver="qcow2", node_name="plain0",
                file={"driver": "file", "filename": str(tmp_path / "plain.qcow2")})
    assert run_job(qmp, "x-blockdev-amend", {"node-name": "plain0", "options": {
        "driver": "qcow2", "encrypt": {"format": "luks", "state": "active", "new-secret": "s1"}}}) == \
        "encrypt: only key slots of format 'luks' can be amended, in an image that has them"
