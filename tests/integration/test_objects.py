"""Objects over the wire, on the command line and in the configuration; qemu-storage-daemon says the same."""

import pytest
from process import run_cairnd

LIMITS = {"iops-total": 100, "bps-read": 4096, "bps-read-max": 8192, "bps-read-max-length": 3}


@pytest.fixture
def group(qmp):
    qmp.execute("object-add", qom_type="throttle-group", id="g0", limits=LIMITS)
    return "/objects/g0"


def test_object_add_and_del(qmp, group):
    error = qmp.error("object-add", qom_type="iothread", id="g0")
    assert error.desc == "attempt to add duplicate property 'g0' to object (type 'container')"
    assert qmp.error("object-add", qom_type="iothread", id="0").desc.startswith("arguments.id: '0' does not match")
    assert "'nope' is not a ObjectType" in qmp.error("object-add", qom_type="nope", id="a").desc
    assert "arguments.id: missing" in qmp.error("object-add", qom_type="iothread").desc
    assert qmp.execute("object-del", id="g0") == {}
    error = qmp.error("object-del", id="g0")
    assert (error.error_class, error.desc) == ("GenericError", "object 'g0' not found")


def test_qom_list(qmp, group):
    assert qmp.execute("qom-list", path="/") == [{"name": "type", "type": "string"},
                                                 {"name": "objects", "type": "child<container>"}]
    assert qmp.execute("qom-list", path="/objects") == [{"name": "type", "type": "string"},
                                                        {"name": "g0", "type": "child<throttle-group>"}]
    properties = qmp.execute("qom-list", path=group)
    assert {"name": "limits", "type": "ThrottleLimits"} in properties
    assert {"name": "x-iops-size", "type": "int"} in properties
    assert properties == qmp.execute("qom-list-properties", typename="throttle-group")


@pytest.mark.parametrize("path", ["/objects/g0", "objects/g0", "g0", "//objects//g0/"])
def test_spellings_of_a_path(qmp, group, path):
    assert qmp.execute("qom-get", path=path, property="type") == "throttle-group"


@pytest.mark.parametrize("path", ["/g0", "/objects/g1", "nope", "/objects/g0/limits", "/objects/objects"])
@pytest.mark.parametrize("command, arguments", [("qom-list", {}), ("qom-get", {"property": "type"}),
                                                ("qom-set", {"property": "limits", "value": {}})])
def test_unknown_paths(qmp, group, path, command, arguments):
    error = qmp.error(command, path=path, **arguments)
    assert (error.error_class, error.desc) == ("DeviceNotFound", f"Device '{path}' not found")


def test_no_path(qmp):
    error = qmp.error("qom-list", path="")
    assert (error.error_class, error.desc) == ("GenericError", "Path '' is ambiguous")


def test_qom_get(qmp, group):
    limits = qmp.execute("qom-get", path=group, property="limits")
    assert len(limits) == 19
    assert LIMITS.items() <= limits.items()
    assert limits["iops-write"] == 0 and limits["iops-write-max-length"] == 1
    assert qmp.execute("qom-get", path=group, property="x-bps-read-max") == 8192
    assert qmp.execute("qom-get", path="/", property="objects") == "/objects"
    assert qmp.execute("qom-get", path="/objects", property="g0") == "/objects/g0"
    assert qmp.execute("qom-get", path="/objects", property="type") == "container"
    assert qmp.error("qom-get", path=group, property="nope").desc == "Property 'throttle-group.nope' not found"
    assert qmp.error("qom-get", path="/objects", property="nope").desc == "Property 'container.nope' not found"


def test_qom_set_changes_what_is_given(qmp, group):
    qmp.execute("qom-set", path=group, property="limits", value={"iops-total": 7, "bps-read": 5000})
    limits = qmp.execute("qom-get", path=group, property="limits")
    assert (limits["iops-total"], limits["bps-read"], limits["bps-read-max"]) == (7, 5000, 8192)


@pytest.mark.parametrize("value, message", [
    ({"iops-read": 4}, "bps/iops/max total values and read/write values cannot be used at the same time"),
    ({"bps-read-max": 4000}, "bps_max/iops_max cannot be lower than bps/iops: 'bps-read-max' is lower than 'bps-read'"),
    ({"bps-write-max": 1}, "bps_max/iops_max require corresponding bps/iops values: 'bps-write-max' needs 'bps-write'"),
    ({"iops-total-max-length": 2}, "burst length set without burst rate: 'iops-total-max-length' needs 'iops-total-max'"),
    ({"iops-total-max": 10**15, "iops-total-max-length": 2}, "burst length too high for this burst rate: "),
    ({"iops-total": 0, "iops-size": 4096}, "iops size requires an iops value to be set"),
    ({"iops-total": -1}, "limits.iops-total: -1 is below the minimum 0"),
    ({"iops-total": 10**15 + 1}, "limits.iops-total: 1000000000000001 is above the maximum 1000000000000000"),
    ({"iops-total-max-length": 0}, "limits.iops-total-max-length: 0 is below the minimum 1"),
    ({"iops": 1}, "limits.iops: unknown member"),
    (3, "limits: expected object, got integer"),
])
def test_limits_that_cannot_be(qmp, group, value, message):
    before = qmp.execute("qom-get", path=group, property="limits")
    error = qmp.error("qom-set", path=group, property="limits", value=value)
    assert error.error_class == "GenericError" and error.desc.startswith(message)
    assert qmp.execute("qom-get", path=group, property="limits") == before


def test_what_cannot_be_set(qmp, group):
    def told(path, name):
        return qmp.error("qom-set", path=path, property=name, value=1).desc

    assert told(group, "type") == "Property 'throttle-group.type' is not writable"
    assert told(group, "nope") == "Property 'throttle-group.nope' not found"
    assert told(group, "x-iops-total") == "Property cannot be set after initialization"
    assert told("/objects", "g0") == "Property 'container.g0' is not writable"
    assert told("/", "nope") == "Property 'container.nope' not found"


def test_iothreads_are_remembered(qmp):
    qmp.execute("object-add", qom_type="iothread", id="t0", aio_max_batch=3)

    def get(name):
        return qmp.execute("qom-get", path="/objects/t0", property=name)

    assert (get("aio-max-batch"), get("poll-max-ns"), get("thread-pool-max")) == (3, 32768, 64)
    qmp.execute("qom-set", path="t0", property="poll-max-ns", value=7)
    assert get("poll-max-ns") == 7
    assert "expected integer" in qmp.error("qom-set", path="t0", property="poll-max-ns", value="a").desc
    assert "thread-pool-min" in qmp.error("qom-set", path="t0", property="thread-pool-min", value=65).desc
    assert get("thread-pool-min") == 0


def test_an_export_names_an_iothread(qmp, daemon):
    qmp.execute("object-add", qom_type="iothread", id="t0")
    qmp.execute("object-add", qom_type="throttle-group", id="g0")
    qmp.execute("blockdev-add", driver="null-co", node_name="n")
    qmp.execute("nbd-server-start", addr={"type": "unix", "data": {"path": daemon.path("nbd.sock")}})
    for wrong in ("t1", "g0"):
        error = qmp.error("block-export-add", type="nbd", id="e", node_name="n", iothread=wrong)
        assert error.desc.endswith(f'iothread "{wrong}" not found')
    qmp.execute("block-export-add", type="nbd", id="e", node_name="n", iothread="t0")


def test_qom_list_types(qmp):
    def types(**arguments):
        return {entry["name"]: entry for entry in qmp.execute("qom-list-types", **arguments)}

    made = types(implements="user-creatable")
    assert made["throttle-group"] == {"name": "throttle-group", "parent": "object"}
    assert made["iothread"] == {"name": "iothread", "parent": "event-loop-base"}
    assert "container" not in made and "container" in types()
    assert types(implements="event-loop-base").keys() == {"iothread"}
    assert types(implements="event-loop-base", abstract=True)["event-loop-base"]["abstract"] is True
    assert types(implements="nope") == {}
    assert made.keys() < types(implements="object").keys()


def test_qom_list_properties(qmp):
    error = qmp.error("qom-list-properties", typename="nope")
    assert (error.error_class, error.desc) == ("DeviceNotFound", "Class 'nope' not found")
    error = qmp.error("qom-list-properties", typename="user-creatable")
    assert error.error_class == "GenericError"
    assert error.desc.startswith("Parameter 'typename' expects a QOM type")
    assert qmp.execute("qom-list-properties", typename="container") == [{"name": "type", "type": "string"}]


# Command line and configuration -----------------------------------------------------------------------------------

def test_help():
    for argument in ("help", "nope,help"):
        result = run_cairnd("--object", argument)
        assert result.returncode == 0
        assert result.stdout.startswith("List of user creatable objects:\n  ") and "\n  throttle-group\n" in result.stdout
    result = run_cairnd("--object", "throttle-group,help")
    assert result.returncode == 0
    assert result.stdout.startswith("throttle-group options:\n  limits=<ThrottleLimits>\n")


def test_objects_on_the_command_line(start_daemon):
    daemon = start_daemon("--object", "throttle-group,id=g0,limits.iops-total=100,x-bps-total=1000",
                          "--object", '{"qom-type": "iothread", "id": "t0", "poll-grow": 2}')
    qmp = daemon.connect()
    limits = qmp.execute("qom-get", path="g0", property="limits")
    assert (limits["iops-total"], limits["bps-total"]) == (100, 1000)
    assert qmp.execute("qom-get", path="t0", property="poll-grow") == 2


@pytest.mark.parametrize("argument, message", [
    ("nope,id=a", "qom-type: 'nope' is not a ObjectType"),
    ("throttle-group", "id: missing"),
    ("throttle-group,id=1a", "id: '1a' does not match the pattern"),
    ("throttle-group,id=a,x-bps-total=-5", "x-bps-total: -5 is below the minimum 0"),
    ("throttle-group,id=a,limits.bps-total=1,limits.bps-read=3", "bps/iops/max total values and read/write values"),
    ("iothread,id=a,thread-pool-min=65", "thread-pool-min: 65 is more than thread-pool-max, 64"),
])
@pytest.mark.parametrize("check", [[], ["--check"]])
def test_mistakes_on_the_command_line(argument, message, check):
    result = run_cairnd("--object", argument, *check)
    assert result.returncode == 1
    assert result.stderr.startswith(f"cairnd: --object {argument}: {message}"), result.stderr


def test_objects_in_the_configuration(start_daemon, tmp_path):
    (tmp_path / "cairn.yaml").write_text("objects:\n- {qom-type: throttle-group, id: g0, limits: {bps-write: 9}}\n")
    daemon = start_daemon("--config", tmp_path / "cairn.yaml")
    assert daemon.connect().execute("qom-get", path="g0", property="limits")["bps-write"] == 9


def test_mistakes_in_the_configuration(tmp_path):
    (tmp_path / "cairn.yaml").write_text("objects:\n- {qom-type: iothread, id: a}\n- {qom-type: iothread, id: a}\n")
    for check in ([], ["--check"]):
        result = run_cairnd("--config", "cairn.yaml", *check, cwd=tmp_path)
        assert result.stderr.startswith("cairnd: cairn.yaml:3:3: objects.1: attempt to add duplicate property 'a'")
