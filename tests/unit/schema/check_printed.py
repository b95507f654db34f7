"""What schemac prints for people and for other programs, byte by byte: check_printed.py SCHEMAC FOLDER [--update]

Golden files are in FOLDER/golden; of HTML only what is inside of <main>, so that the style may change. For the
manual of cairn itself: every definition has a place, every link leads to one, and nothing is loaded from elsewhere."""

import html.parser
import json
import pathlib
import re
import subprocess
import sys

GOLDEN = {
    "manual.md": ["--docs", "md", "manual.json"],
    "manual.7": ["--docs", "man", "manual.json"],
    "manual.html": ["--docs", "html", "manual.json"],
    "language.md": ["--docs", "md", "language.json"],
    "language.model.json": ["--dump-model", "language.json"],
    "language.schema.json": ["--json-schema=Thing", "language.json"],
    "language.py": ["--python", "language.json"],
}


def schemac(program, *args):
    result = subprocess.run([program, *map(str, args)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def inside_main(text):
    return re.search(r"<main.*</main>\n", text, re.DOTALL).group(0)


def check_golden(program, folder, update):
    for name, (*options, schema) in GOLDEN.items():
        text = schemac(program, *options, folder / schema)
        if name.endswith(".html"):
            text = inside_main(text)
        if update:
            (folder / "golden" / name).write_text(text)
        assert text == (folder / "golden" / name).read_text(), f"{name} is different:\n{text}"


class Page(html.parser.HTMLParser):
    """Collects places and links; elements must close in order."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.open = [], [], []
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in ("meta", "input"):
            self.open.append(tag)
        assert tag not in ("link", "img", "iframe") and "src" not in attributes, tag
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if "href" in attributes:
            self.links.append(attributes["href"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def check_cairn(program, schema):
    model = json.loads(schemac(program, "--dump-model", schema))
    wanted = {f"{entry['kind'] if entry['kind'] in ('command', 'event') else 'type'}-{entry['name']}"
              for entry in model["definitions"]}
    text = schemac(program, "--docs", "html", schema)
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert wanted <= set(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert "url(" not in text and "@import" not in text and not re.search(r'="[^"]*//', text)
    markdown = schemac(program, "--docs", "md", schema)
    assert wanted == set(re.findall(r'<a id="([^"]+)"></a>', markdown))
    assert set(re.findall(r"\]\(#([^)]+)\)", markdown)) <= wanted
    man = schemac(program, "--docs", "man", schema)
    macros = {line.split()[0] for line in man.splitlines() if line.startswith(".")}
    assert macros <= {".TH", ".nh", ".SH", ".SS", ".PP", ".TP", ".IP", ".RS", ".RE", ".nf", ".fi"}, macros
    assert not any(line.startswith("'") for line in man.splitlines())


def main(program, folder, *rest):
    folder = pathlib.Path(folder)
    check_golden(program, folder, "--update" in rest)
    check_cairn(program, folder.parents[2] / "schema" / "cairn.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
