"""What every command and event of our own interface must say: check_commands.py SCHEMAC SCHEMA

Who may use a command, with which classes of errors it fails, and one example; of an event that many requests can raise,
how often it is sent."""

import json
import re
import subprocess
import sys

CLASSES = {"CommandNotFound", "DeviceNotActive", "DeviceNotFound", "GenericError", "KVMMissingCap"}
QUERY = re.compile(r"(x-.*-)?query-|qom-(get|list)")
# Members that name something new.
MADE = {"filter-node-name": "NodeName", "job-id": "Identifier", "snapshot-node-name": "NodeName"}
# One of these can follow each request of a client: as often as QEMU sends them.
LIMITED = {"BLOCK_IO_ERROR": 1000, "QUORUM_FAILURE": 1000, "QUORUM_REPORT_BAD": 1000}


def complaints_about_command(command):
    documented = {word for section in command["doc"].get("sections", []) if section["name"] == "Errors"
                  for word in re.findall(r"\w+", section["text"])} & CLASSES
    errors = set(command.get("errors", []))
    if "GenericError" not in errors:
        yield "'errors' must be declared, GenericError among them: arguments may always be wrong"
    if documented - errors:
        yield f"its comment tells of {', '.join(documented - errors)}, its 'errors' do not"
    if errors - documented - {"GenericError"}:
        yield f"its 'errors' have {', '.join(errors - documented - {'GenericError'})}, its comment does not say when"
    if QUERY.match(command["name"]) and command.get("role") != "read":
        yield "it changes nothing: its 'role' is 'read'"
    if "role" not in command:
        yield "'role' must be declared"
    if not command["doc"].get("examples"):
        yield "it has no example"


def complaints_about_names(definition):
    """Nobody but the decoder looks at the form of a name that is being made."""
    for member in definition.get("members", []):
        wanted = MADE.get(member["name"])
        if wanted and member["type"] != wanted:
            yield f"member '{member['name']}' names something new: its type is {wanted}"


def complaints_about_event(event):
    limit = LIMITED.get(event["name"])
    if limit and event.get("rate-limit-ms") != limit:
        yield f"'rate-limit' must be {limit} ms"


def main(schemac, schema):
    model = json.loads(subprocess.run([schemac, "--dump-model", schema], check=True, capture_output=True).stdout)
    found = 0
    for definition in model["definitions"] + model["types"]:
        check = {"command": complaints_about_command, "event": complaints_about_event,
                 "object": complaints_about_names}.get(definition["kind"])
        for complaint in check(definition) if check else []:
            print(f"{definition['name']}: {complaint}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
