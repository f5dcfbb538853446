"""Hostile text runs nothing and escapes nowhere: in configurations, rules, commands, figures, files and the report."""

import ast
import hashlib
import io
import os
import pickle
import re
import shutil
import string
import subprocess
import sys
import zipfile
from contextlib import suppress
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml
from docutils.core import publish_parts

from hepgen import cli
from hepgen.checkpoints import Checkpoint
from hepgen.config import load, parse
from hepgen.errors import HepgenError
from hepgen.export.stream import stream
from hepgen.inspection import inspect
from hepgen.models.files import load_model, save_model
from hepgen.plots.draw import draw_files
from hepgen.plots.figures import Axis, Points, write_figure
from hepgen.storage import atomic, create_h5, describe_h5, refuse_links, write_json
from hepgen.summary import _heading, _list_table, write_table
from hepgen.text import printable, verbatim

from .project import ROOT, environment

RUN = "touch pwned"
JS = "window.pwned=1"
CONTEXTS = ("", "'", '"', "\\", 'a\' "b" ')
COMMANDS = (
    f";{RUN};", f"|{RUN}", f"||{RUN}", f"&{RUN}&", f"&&{RUN}", f"\n{RUN}\n", f"$({RUN})", f"`{RUN}`", f"<({RUN})",
    f"${{IFS:-$({RUN})}}", f"$(({RUN}))", ">pwned", ">>pwned", "<pwned", f"\r\n{RUN}", f"#\n{RUN}",
)  # fmt: skip
PATHS = (
    "..", ".", "../pwned", "../../pwned", "a/../../pwned", "./pwned", "//pwned", "/proc/self/environ", "/dev/null",
    "/dev/stdin", "~", "~root", "~/pwned", "..\\..\\pwned", "C:\\pwned", "%2e%2e%2fpwned", "..;/pwned",
    "file:///etc/passwd", "http://127.0.0.1:9/x", "root://127.0.0.1/x", "dataset:../x", "dataset:x/../*", "a/b:c",
    "a::b", "", " ", "  a", "a ", "\t", "a\tb", "a" * 300, "é" * 200, "a/" * 60,
)  # fmt: skip
OPTIONS = ("-", "--", "-rf", "-h", "-o", "--config", "--output=pwned", "--record", "--help", "@pwned", "-n1")
GLOBS = (
    "*", "?", "**/*", "[a-z]", "[!x]", "{a,b}", "{x}", "{{x}}", "{0}", "{}", "{", "}", "{input}", "{wildcards.sample}",
    "{output[0]:q}", "{config[title]}", "{0.__class__}", "{sample,.*}", "%s%n", "%(x)s", "$HOME", "${HOME}", "$0", "!!",
    "!$",
)  # fmt: skip
UNICODE = (
    "é", "a\u0301", "\u0430dmin", "ａ", "😀", "\u202egnp.sh", "\u2066a\u2069", "a\u200bb", "a\u200db", "\ufeffa",
    "a\u2028b", "a\u2029b", "a\x85b", "a\xa0b", "a\u3000b", "\ud800", "\udcff", "\U000e0041", "\ufffe", "ß", "İ", "Ω",
    "ﬁ", "漢字",
)  # fmt: skip
ANSI = ("\x1b[2J", "\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x9b31m", "\x1bc", "[bold]x[/]", "[/]")
HTML = (
    f"<script>{JS}</script>", f"</script><script>{JS}</script>", f"<img src=x onerror={JS}>", f'"><svg/onload={JS}>',
    f"'-{JS}-'", f"javascript:{JS}", "<!--", "-->", "]]>", "&lt;b&gt;", "&", "<b>bold</b>", "</title>", "</table>", "<",
    ">", f"<iframe srcdoc='<script>{JS}</script>'>", "{{7*7}}", "{% raw %}", "${7*7}", "<%= 7*7 %>", "\\u003cb",
    "{{ snakemake }}",
)  # fmt: skip
RST = (
    f".. raw:: html\n\n   <script>{JS}</script>", ".. raw:: html", ".. include:: /etc/passwd", ".. image:: x.png",
    ".. |x| image:: y", "|x|", "x_", "x__", "`x`_", "`x <javascript:pwned>`_", "_`x`", "[1]_", "[x]_", "**x**", "*x*",
    "``x``", ":math:`x`", ":raw-html:`x`", "====", "----", "- x", "* x", "+ x", "1. x", "a) x", "(i) x", "#. x",
    ":x: y", "--opt  x", ">>> x", "| x", "x::", "\\x", "\\", "x\\", "mail@x.org", "http://x.org", "   * - x", "+---+",
    "=== ===", "__ x", ".. _x: y", ".. x", "–", "• x",
)  # fmt: skip
OTHERS = (
    r"$\frac{", "$x$", "$", "$$", "$x^{$", r"\$x$", r"\input{/etc/passwd}", r"\write18{touch pwned}", "$\\sqrt{}$ $",
    f"!!python/object/apply:os.system ['{RUN}']", "!!python/name:os.system", "*x", "&x y", "<<", "? x", "x: y", "# x",
    "%TAG ! x", "!!int x", "!!bool x", "!!timestamp x", "null", "~", "yes", "1e999", "0x1F", "[", "{x: y", "'", '"',
    "|", ">", "--- x", "...", f"__import__('os').system('{RUN}')", f"?__import__('os').system('{RUN}')",
    "().__class__.__bases__[0]", "os.system", "lambda: 0", "x if y else z", "[x for x in y]", "f'{x}'", "x := 1",
    "9**9**9", "a.b.c", "`os`", "#x", "1/0", "x[::0]", "'; DROP TABLE events; --", "1 OR 1=1", "\" OR \"\"=\"",
    "${jndi:ldap://x}", "() { :;}; touch pwned", "=1+1", "@SUM(1)",
)  # fmt: skip
CORPUS = [
    *dict.fromkeys(
        [
            *(f"{context}{command}{context}" for context in CONTEXTS for command in COMMANDS),
            *(f"a{sign}b" for sign in string.punctuation),
            *(f"{sign}b" for sign in string.punctuation),
            *(f"a{sign}" for sign in string.punctuation),
            *(f"a{chr(code)}b" for code in [*range(32), 127]),
            *PATHS, *OPTIONS, *GLOBS, *UNICODE, *ANSI, *HTML, *RST, *OTHERS,
        ]
    )
]  # fmt: skip


@pytest.fixture(autouse=True)
def untouched(tmp_path, monkeypatch):
    """Work in a folder, beside which nothing may be written and in which nothing hostile may have run."""
    work = tmp_path / "some/where/work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    yield work
    files = [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert all(path.is_relative_to(work) for path in files)
    assert "pwned" not in {path.name for path in files}
    assert not Path("/pwned").exists()


def test_the_corpus_is_large():
    assert len(CORPUS) > 400


# Configuration

TABLE = {"source": "arrays", "path": "t.npy", "columns": {"mjj": 0, "x": 1}}
MODEL = {"type": "pca", "inputs": ["x"]}


def tagging(**changes):
    samples = {"a": TABLE, "b": TABLE}
    return {"samples": samples, "tagging": {"samples": ["a", "b"], "models": {"pca": MODEL}, **changes}}


FIELDS = {
    "title": lambda text: {"title": text, "samples": {}},
    "output": lambda text: {"output": text, "samples": {}},
    "plug-in": lambda text: {"plugins": [text], "samples": {}},
    "jet definition": lambda text: {"jets": {text: {}}, "samples": {}},
    "sample": lambda text: {"samples": {text: TABLE}},
    "source": lambda text: {"samples": {"a": {**TABLE, "source": text}}},
    "path": lambda text: {"samples": {"a": {**TABLE, "path": text}}},
    "paths": lambda text: {"samples": {"a": {**TABLE, "path": ["t.npy", text]}}},
    "observable": lambda text: {"samples": {"a": {**TABLE, "columns": {text: 0}}}},
    "column": lambda text: {"samples": {"a": {**TABLE, "columns": {"x": text}}}},
    "cut": lambda text: {"samples": {"a": {**TABLE, "cut": text}}},
    "branch": lambda text: {"samples": {"a": {"source": "root", "path": "t.root", "observables": {"x": text}}}},
    "tree": lambda text: {
        "samples": {"a": {"source": "root", "path": "t.root", "tree": text, "observables": {"x": "y"}}}
    },
    "setting of Pythia": lambda text: {
        "jets": {"j": {}},
        "samples": {"a": {"source": "pythia", "process": "qcd", "events": 1, "jets": "j", "settings": [text]}},
    },
    "model": lambda text: tagging(models={text: MODEL}),
    "type": lambda text: tagging(models={"m": {**MODEL, "type": text}}),
    "input": lambda text: tagging(models={"m": {**MODEL, "inputs": [text]}}),
    "setting": lambda text: tagging(models={"m": {**MODEL, "settings": {text: 1}}}),
    "value": lambda text: tagging(models={"m": {**MODEL, "settings": {"components": text}}}),
    "external scores": lambda text: tagging(external={"other": text}),
    "varied setting": lambda text: tagging(scans={"s": {"models": ["pca"], "vary": text, "values": [1, 2]}}),
    "varied value": lambda text: tagging(
        scans={"s": {"models": ["pca"], "vary": "settings.components", "values": [1, text]}}
    ),
}
NAMES = ("jet definition", "sample", "observable", "model", "source", "type", "input", "plug-in", "setting")


@pytest.mark.parametrize("field", FIELDS)
def test_a_configuration_refuses_or_keeps(field):
    accepted = []
    for text in CORPUS:
        try:
            config = parse(FIELDS[field](text))
        except HepgenError:
            continue
        accepted.append(text)
        if field == "varied value":
            assert all(re.fullmatch(r"\w{3,100}", name, re.ASCII) for name in config.tagging.entries)
    if field in NAMES:
        assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,99}", name) for name in accepted)
    elif field == "output":
        assert len(accepted) > 150
        assert not [text for text in accepted if re.search(r"[{}<>\x00-\x1f\x7f-\xa0]|^-|^ | $", text)]
    else:
        # The jobs read another copy of it.
        assert yaml.safe_load(yaml.safe_dump(accepted, sort_keys=False)) == accepted


def test_every_file_is_refused_or_read():
    for text in CORPUS:
        content = f"title: {text}\nsamples: {{}}\n"
        Path("c.yaml").write_bytes(content.encode(errors="surrogateescape" if text == "\udcff" else "replace"))
        with suppress(HepgenError):
            assert load("c.yaml").samples == {}


BOMBS = {
    "laughs": "a: &a [1, 1]\n" + "".join(f"{n}: &{n} [*{p}, *{p}]\n" for p, n in pairwise(string.ascii_letters)),
    "circle": "samples: &a {x: *a}\n",
    "depth": "samples: " + "[" * 100 + "]" * 100,
    "more depth": "samples: " + "[" * 1000 + "]" * 1000,
    "digits": "seed: " + "9" * 10_000,
    "date": "seed: 2001-99-99",
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_that_stands_for_much(kind):
    Path("c.yaml").write_text(BOMBS[kind])
    with pytest.raises(HepgenError) as refused:
        load("c.yaml")
    assert len(str(refused.value)) < 1000


# Commands


ARGUMENTS = (
    lambda text: ["check", text],
    lambda text: ["ingest", "c.yaml", text, text, "--output", "out.h5"],
    lambda text: ["observe", "c.yaml", "a", text, "--output", "out.h5"],
    lambda text: ["tagging", "train", "c.yaml", text, "1", text, "--output", "out.h5", "--device", text],
    lambda text: ["export", text, "--output", f"x.{text}"],
    lambda text: ["inspect", text, "--as", text],
    lambda text: ["unfolding", "histogram", "x.h5", "--observable", text, "--edges", text],
    lambda text: [text, text],
)


@pytest.fixture
def command(monkeypatch, capsys):
    """The command line as a function: its exit status and what it prints."""
    # Made once, since thousands of times take long.
    monkeypatch.setattr(cli, "app", typer.main.get_command(cli.app))

    def command(*given):
        monkeypatch.setattr(sys, "argv", ["hepgen", *given])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return command


def test_commands_refuse_without_a_traceback(command):
    Path("c.yaml").write_text(yaml.safe_dump(FIELDS["title"]("")))
    for number, text in enumerate(CORPUS):
        given = ARGUMENTS[number % len(ARGUMENTS)](text)
        status, _, said = command(*given)
        assert status in (1, 2) or {"-h", "--help"} & {text}, given
        assert not re.search(r"Traceback|[\x00-\x09\x0b-\x1f\x7f-\x9f]", said), (given, said)
    assert [path.name for path in Path().iterdir()] == ["c.yaml"]


def test_what_is_printed_of_a_file_has_no_control_characters(command):
    texts = [text for text in CORPUS if text not in ("\ud800", "\udcff")]
    Path("c.yaml").write_text(yaml.safe_dump(FIELDS["setting of Pythia"]("".join(texts)) | {"title": "".join(texts)}))
    np.savez("t.npz", **{re.sub("[/\0]", "", text): np.ones(3) for text in [*ANSI, *UNICODE[:14]]})
    for given in (["check", "c.yaml"], ["inspect", "t.npz"]):
        status, said, _ = command(*given)
        assert status == 0
        assert "\\x1b" in said
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u200b\u2028]", said)


# Rules

STUB = """#!/bin/sh
for given; do printf '%s\\n' "$given"; done > "$ARGUMENTS"
"""


def snakemake(work, *arguments):
    """Run hepgen's workflow in a folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", work, *arguments]
    return subprocess.run(
        [*command, "--workflow-profile", "none", "--cores", "2", "--configfile", work / "c.yaml"], cwd=work,
        env=environment(ROOT), capture_output=True, text=True, check=False,
    )  # fmt: skip


def folders():
    """The texts that a folder of results may be called by, as far as they are no paths themselves."""
    for text in CORPUS:
        try:
            parse(FIELDS["output"](text))
        except HepgenError:
            continue
        if "/" not in text and text not in (".", "..") and len(text.encode()) < 100:
            yield text


def test_rules_run_their_command_and_nothing_else(untouched):
    """Every rule's command, as the workflow quotes it, in a shell with another hepgen that says what it was given."""
    config = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
    config["output"] = "/".join(folders())
    assert len(config["output"].split("/")) > 150
    assert len(config["output"]) < 3500
    (untouched / "c.yaml").write_text(yaml.safe_dump(config))
    planned = snakemake(untouched, "--dry-run", "--printshellcmds")
    commands = re.findall(r"^Shell command: (hepgen .*)$", planned.stdout, re.MULTILINE)
    assert len(commands) > 50, planned.stderr
    bin_folder = untouched / "bin"
    bin_folder.mkdir()
    (bin_folder / "hepgen").write_text(STUB)
    (bin_folder / "hepgen").chmod(0o755)
    seen = {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "ARGUMENTS": str(untouched / "arguments")}
    for job in config["output"], *re.findall(r"^    log: (.*)$", planned.stdout, re.MULTILINE):
        (untouched / job).parent.mkdir(parents=True, exist_ok=True)
    for command in commands:
        subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=untouched, env=seen, check=True)
        given = (untouched / "arguments").read_text().splitlines()
        plain = [text.removeprefix(config["output"]) for text in given]
        assert sum(map(len, given)) > sum(map(len, plain)), command
        assert all(re.fullmatch(r"[\w./=-]+|", text, re.ASCII) for text in plain), command
    assert len([*untouched.rglob("*.log")]) == len(commands)


def test_make_passes_its_variables_on(untouched):
    shutil.copy(ROOT / "Makefile", untouched)
    bin_folder = untouched / ".venv/bin"
    bin_folder.mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", ".venv/.installed"):
        (untouched / name).touch()
    for name in ("hepgen", "python", "snakemake"):
        (bin_folder / name).write_text(f'#!/bin/sh\nfor given; do printf "%s\\n" "$given"; done >> {name}.txt\n')
        (bin_folder / name).chmod(0o755)
    text = "".join(text for text in CORPUS if text.isprintable()) + f"$(shell {RUN})"
    subprocess.run(["make", "demo", f"CONFIG={text}", f"CORES=2;{RUN}"], check=True, capture_output=True)
    assert Path("hepgen.txt").read_text().splitlines() == ["check", text]
    assert Path("snakemake.txt").read_text().splitlines()[:4] == ["--cores", f"2;{RUN}", "--configfile", text]


# The report


class Texts(HTMLParser):
    """The texts of a page's cells, and the tags that it has."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.cells, self.inside = set(), [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not [value for name, value in attrs if name.startswith("on") or name in ("href", "src")]
        if tag in ("td", "h1"):
            self.cells.append("")
            self.inside = True

    def handle_data(self, data):
        if self.cells and self.inside:
            self.cells[-1] += data

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "h1")


def test_the_front_page_shows_texts_as_they_are():
    page = "\n".join(_heading(text, "=") for text in CORPUS) + "\n" + _list_table(["x"], [[text] for text in CORPUS])
    shown = Texts(publish_parts(page, writer="html")["html_body"])
    expected = [" ".join(printable(text).split()) for text in CORPUS]
    assert [text.strip() for text in shown.cells] == expected * 2
    assert shown.tags <= {"div", "h1", "table", "colgroup", "col", "thead", "tbody", "tr", "th", "td", "a"}


def test_tables_show_texts_as_they_are():
    write_table(Path("t.html"), HTML[0], ["x", HTML[1]], [[text, text] for text in CORPUS], words=1)
    shown = Texts(Path("t.html").read_text())
    assert shown.cells == [printable(text) for text in CORPUS for _ in range(2)]
    assert shown.tags == {"html", "meta", "title", "style", "table", "thead", "tbody", "tr", "th", "td"}


def test_figures_show_texts_as_they_are():
    shown = [verbatim(text) for text in (*OTHERS, *GLOBS, *HTML) if "$" in text]
    assert len(shown) > 10
    numbers = Points(
        title=shown[0], categories=shown, series={shown[1]: [(0.5, 0.4, 0.6)] * len(shown)}, y=Axis(label=shown[2])
    )
    write_figure(Path("f.json"), numbers)
    draw_files([Path("f.json")])
    assert Path("f.png").stat().st_size > 10_000


@pytest.fixture
def browser(tmp_path_factory):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are not installed (Debian packages chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.mark.slow
def test_a_whole_run_and_its_report(untouched, browser):
    """Title, paths and scores of a run are hostile; its report is opened in a browser."""
    title = " ".join(text for text in (*HTML, *RST, *OTHERS) if text.isprintable())
    source = untouched / ";".join(
        text for text in (*HTML[10:12], *COMMANDS) if text.isprintable() and not set("/{}") & set(text)
    )
    with source.with_name(f"{source.name}.csv").open("w") as file:
        np.savetxt(file, np.random.default_rng(1).random((200, 2)), delimiter=",")
    entry = {**TABLE, "path": f"{source}.csv"}
    config = {
        "title": title,
        "output": "/".join(folders()),
        "samples": {"a": entry, "b": {**entry, "path": [f"./{source.name}.csv"]}},
    }
    (untouched / "c.yaml").write_text(yaml.safe_dump(config))
    ran = snakemake(untouched, "--report-after-run", "--report", "report.html")
    assert (untouched / "report.html").exists(), ran.stderr
    browser.get((untouched / "report.html").as_uri())
    browser.implicitly_wait(10)
    assert browser.find_element("css selector", ".prose h1").text == " ".join(title.split())
    for path in browser.execute_script("return Object.keys(results)"):
        browser.execute_script("app.showResultInfo(arguments[0])", path)
        assert browser.execute_script("return typeof window.pwned") == "undefined"


# Files


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids=oct)
def test_files_and_folders_have_the_users_mode(umask):
    before = os.umask(umask)
    try:
        with create_h5("out/a/x.h5", "demo"):
            pass
        write_json("out/b/x.json", 1)
        save_model("out/c/x.safetensors", {"net": torch.nn.Linear(1, 1)}, {})
        write_figure(
            Path("out/d/x.json"), Points(title="", categories=["x"], series={"y": [(1, 1, 1)]}, y=Axis(label=""))
        )
        draw_files([Path("out/d/x.json")])
    finally:
        os.umask(before)
    made = [*Path("out").rglob("*")]
    assert len(made) == 10
    for path in made:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


def test_a_product_replaces_a_link_and_its_temporary_file_follows_none():
    Path("secret").write_text("kept")
    Path("product").symlink_to("secret")
    with atomic("product") as temporary:
        temporary.write_text("new")
        name = temporary
    assert (Path("product").read_text(), Path("secret").read_text()) == ("new", "kept")
    assert not Path("product").is_symlink()
    name.symlink_to("secret")
    with atomic("product") as temporary:
        assert not temporary.is_symlink()
        temporary.write_text("newer")
    assert (Path("product").read_text(), Path("secret").read_text()) == ("newer", "kept")


def test_links_may_lead_into_the_results_but_not_out():
    for folder in ("scratch/results/logs", "elsewhere"):
        Path(folder).mkdir(parents=True)
    # The user's own: the results lie on another disk.
    Path("results").symlink_to("scratch/results")
    Path("results/latest").symlink_to("logs")
    Path("results/circle").symlink_to("circle")
    refuse_links("results")
    refuse_links("absent")
    for place, target in (("tables", "../../elsewhere"), ("logs/x.log", "/etc/passwd"), ("logs/y", "../../../new")):
        link = Path("results", place)
        link.symlink_to(target)
        with pytest.raises(HepgenError, match=rf"^results/{place}: is a link that leads out of results"):
            refuse_links("results")
        link.unlink()


def test_a_run_does_not_start_where_links_lead_out(untouched):
    (untouched / "c.yaml").write_text(yaml.safe_dump({"samples": {"a": {**TABLE, "path": str(untouched / "t.csv")}}}))
    (untouched / "t.csv").write_text("1,2\n")
    (untouched / "results").mkdir()
    (untouched / "results/logs").symlink_to(untouched / "elsewhere")
    ran = snakemake(untouched, "samples")
    assert ran.returncode == 1
    assert "error: results/logs: is a link that leads out of results" in ran.stderr
    assert not (untouched / "elsewhere").exists()


def test_a_run_does_not_overwrite_its_own_configuration(untouched):
    (untouched / "t.csv").write_text("1,2\n")
    (untouched / "c.yaml").unlink(missing_ok=True)
    text = yaml.safe_dump({"output": "config", "samples": {"a": {**TABLE, "path": "t.csv"}}})
    (untouched / "config").mkdir()
    (untouched / "config/config.yaml").write_text(text)
    (untouched / "c.yaml").symlink_to("config/config.yaml")
    ran = snakemake(untouched, "samples")
    assert "config/config.yaml: is one of the files that are read" in ran.stderr
    assert (untouched / "config/config.yaml").read_text() == text


def test_parts_of_a_stream_follow_no_link():
    Path("elsewhere").mkdir()
    Path("x.h5.parts").symlink_to("elsewhere")
    with pytest.raises(HepgenError, match=r"x.h5.parts: is a link"):
        stream(Path("m.safetensors"), "10", Path("x.h5"))


# Pickles


class Bomb:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        return (os.system, (RUN,))


def pickles():
    """Pickles in every wrapping that libraries unpickle."""
    buffer = io.BytesIO()
    torch.save({"card": Bomb()}, buffer)
    yield buffer.getvalue()
    yield pickle.dumps(Bomb())
    yield pickle.dumps(Bomb(), protocol=0)
    for save in (np.save, np.savez):
        buffer = io.BytesIO()
        save(buffer, np.array([Bomb()], dtype=object))
        yield buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Bomb()))
    yield buffer.getvalue()


SUFFIXES = (
    "safetensors",
    "npz",
    "npy",
    "h5",
    "joblib",
    "pkl",
    "onnx",
    "pt",
    "ckpt",
    "parquet",
    "root",
    "csv",
    "lhe",
    "hepmc",
)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pickle_by_any_other_name_is_refused(suffix):
    for content in pickles():
        path = Path(f"x.{suffix}")
        path.write_bytes(content)
        for read in (load_model, lambda path: inspect([str(path)]), describe_h5):
            with pytest.raises(HepgenError):
                read(path)


def test_a_pickle_in_a_checkpoint_is_refused():
    path, content = Path("x.checkpoint"), next(pickles())
    path.write_bytes(hashlib.sha256(b"card" + content).digest() + content)
    with pytest.raises(HepgenError, match="holds more than tensors and plain values"):
        Checkpoint(path, "card")


LOADERS = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "read_pickle",
    "read_hdf",
    "pd.read_hdf",
    "pd.read_pickle",
}


# Pandas reads tables that hold no object columns: what others' software makes of our files, and how fast it is.
JUSTIFIED = {
    f"{name}.py": "pd.read_hdf"
    for name in (
        "benchmarks/lhco_reading",
        "tests/export/test_hdf5",
        "tests/export/test_export",
        "tests/export/test_stream",
    )
}


def _given(call, name):
    """The text of a call's keyword argument; empty if it is not given."""
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), "")


def _offence(node):
    """Why a piece of code may run what it reads; empty if it does not."""
    if isinstance(node, ast.ImportFrom) and (node.module or "") in LOADERS:
        return "" if {alias.name for alias in node.names} <= {"UnpicklingError"} else f"imports of {node.module}"
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
        return ""
    function = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
    library = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    called = f"{library}.{function}" if library else function
    offences = {
        "of what it reads": called in FORBIDDEN or (library in LOADERS and function != "dumps"),
        "without weights_only=True": called == "torch.load" and _given(node, "weights_only") != "True",
        "with allow_pickle": _given(node, "allow_pickle") not in ("", "False"),
        "with shell": _given(node, "shell") not in ("", "False"),
        "without a safe loader": library == "yaml" and ("unsafe" in function or function in ("load", "load_all")),
    }
    if library == "yaml" and "SafeLoader" in ast.unparse(node):
        return ""
    return next((f"{called} {reason}" for reason, found in offences.items() if found), "")


def test_no_code_runs_what_it_reads():
    files = [path for folder in ("hepgen", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 200
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}: {offence}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if (offence := _offence(node)) and offence.split()[0] != JUSTIFIED.get(str(path.relative_to(ROOT)))
    }
    assert not found
    for path in (ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk")):
        assert not re.search(rf"\b({'|'.join(LOADERS)}|eval|exec)\b *[.(]", path.read_text()), path


@pytest.mark.parametrize(
    "code", ["pickle.load(f)", "torch.load(f)", "np.load(f, allow_pickle=True)", "yaml.load(f)", "eval(x)",
    "from joblib import load",
             "subprocess.run(x, shell=True)", "os.system(x)", "yaml.unsafe_load(f)", "pd.read_hdf(f)"],
)  # fmt: skip
def test_the_search_finds(code):
    assert any(_offence(node) for node in ast.walk(ast.parse(code)))
