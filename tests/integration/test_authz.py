"""Objects that say who is let in, over the wire, on the command line and in a file. What a server makes of their
answers, test_nbd_tls.py shows."""

import json

import pytest
from process import run_cairnd

RULES = [{"match": "fred", "policy": "allow", "format": "exact"}, {"match": "dan*", "policy": "deny", "format": "glob"}]


def test_object_add_authz(qmp, tmp_path):
    (tmp_path / "acl.json").write_text(json.dumps({"policy": "allow", "rules": RULES}))
    qmp.execute("object-add", qom_type="authz-simple", id="a0", identity="CN=laptop,O=Example")
    qmp.execute("object-add", qom_type="authz-list", id="a1", rules=RULES)
    qmp.execute("object-add", qom_type="authz-list-file", id="a2", filename=str(tmp_path / "acl.json"), refresh=False)

    def get(path, name):
        return qmp.execute("qom-get", path=f"/objects/{path}", property=name)

    assert get("a0", "identity") == "CN=laptop,O=Example"
    assert (get("a1", "policy"), get("a1", "rules")) == ("deny", RULES)
    assert (get("a2", "filename"), get("a2", "refresh")) == (str(tmp_path / "acl.json"), False)
    kinds = {entry["name"]: entry for entry in qmp.execute("qom-list-types", implements="authz")}
    assert set(kinds) == {"authz-list", "authz-list-file", "authz-simple"} and kinds["authz-list"]["parent"] == "authz"
    for name in ("a0", "a1", "a2"):
        qmp.execute("object-del", id=name)


@pytest.mark.parametrize("content, problem", [
    ("", "JSON parse error, the value is not complete"),
    ('{"rules": [{"match": "fred"}]}', "rules[0].policy: missing"),
    ('{"rules": [{"match": "fred", "policy": "perhaps"}]}', "rules[0].policy: 'perhaps' is not a QAuthZListPolicy"),
    ('{"rule": []}', "rule: unknown"),
    ('["fred"]', "expected object, got array"),
])
def test_files_that_are_not_valid(qmp, tmp_path, content, problem):
    path = tmp_path / "acl.json"
    path.write_text(content)
    error = qmp.error("object-add", qom_type="authz-list-file", id="a", filename=str(path))
    assert error.desc.startswith(f"authz-list-file 'a': '{path}': "), error.desc
    assert problem in error.desc


def test_on_the_command_line_and_in_a_file(start_daemon, tmp_path):
    (tmp_path / "acl.json").write_text("{}")
    (tmp_path / "cairn.yaml").write_text(f"""
objects:
- qom-type: authz-list
  id: yaml
  rules:
  - {{match: fred, policy: allow}}
- {{qom-type: authz-list-file, id: file, filename: {tmp_path}/acl.json}}
""")
    daemon = start_daemon("--config", tmp_path / "cairn.yaml", "--object", "authz-simple,id=simple,identity=fred",
                          "--object", json.dumps({"qom-type": "authz-list", "id": "list", "rules": RULES}))
    qmp = daemon.connect()
    assert qmp.execute("qom-get", path="yaml", property="rules")[0]["match"] == "fred"
    assert qmp.execute("qom-get", path="list", property="rules") == RULES
    assert qmp.execute("qom-get", path="file", property="refresh") is True
    assert qmp.execute("qom-get", path="simple", property="identity") == "fred"


def test_help():
    result = run_cairnd("--object", "authz-list,help")
    assert result.stdout == "authz-list options:\n  policy=<QAuthZListPolicy>\n  rules=<QAuthZListRule>\n"
