"""`qn-exp rerun`: runs an experiment again, from its record alone, and compares bit for bit."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from os.path import dirname, join
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen

from qn_tracking import config as configuration, reproduce
from qn_tracking.cli import signals
from qn_tracking.cli.options import folder, resolved
from qn_tracking.cli.output import print_plain, warn
from qn_tracking.code import is_installed, packages_of, source_of
from qn_tracking.errors import (
    ConfigError,
    PluginError,
    StorageError,
    UnsupportedError,
    describe,
    printable,
)
from qn_tracking.records import codec
from qn_tracking.records.model import Config, Digests, Episode, Experiment, Origin, Simulation
from qn_tracking.records.stats import Tally
from qn_tracking.redact import MARK
from qn_tracking.repository import work_tree
from qn_tracking.store import documents, paths, read

if TYPE_CHECKING:
    from argparse import Namespace

    from pluggy import PluginManager

    from qn_tracking.cli.command import Parser
    from qn_tracking.studies.comparison import Difference

Doc = Mapping[str, Any]

IDENTICAL, SAME_OUTCOME, DIFFERENT = "identical", "same outcome", "different"
TELLING = ("commit", "dirty", "digest", "version", "distribution", "git.patch.sha256")
"""Of the facts about code, those that may explain another result."""

EPILOG = """the present code runs the recorded configuration, which is data. --at-commit runs the
code of the recorded commit, in a temporary worktree of the repository here; a recorded
patch, or a commit that no branch here has, may be somebody else's and needs --trust.

exit codes: 0 identical or same outcome, 1 different, 4 it cannot be run here
"""


def arguments(parser: Parser, command: str) -> None:
    """The options of `rerun`."""
    parser.epilog = EPILOG
    parser.add_argument("id", metavar="ID", help="an id, its beginning, or @1 for the latest")
    parser.add_argument(
        "--at-commit",
        action="store_true",
        help="in the recorded code: its commit, with what was not committed",
    )
    parser.add_argument(
        "--env",
        choices=("present", "recorded"),
        default="present",
        help="recorded: in a fresh virtual environment of the recorded packages",
    )
    parser.add_argument(
        "--trust", action="store_true", help="run code that may be somebody else's, isolated"
    )
    parser.add_argument(
        "--no-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="run without a plugin that the configuration names",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, run nothing"
    )


@frozen(kw_only=True)
class _Original:
    """What is to be run again, and what came of it; `episodes` is None if they are not here."""

    experiments: str
    doc: Doc
    sha256: str | None
    config: Config
    seed: int
    planned: int
    count: int
    digests: Digests
    episodes: tuple[Episode, ...] | None


@frozen(kw_only=True)
class _Code:
    """The recorded code: where it is to be had, and why it takes trust to run it, if it does."""

    repository: str
    commit: str
    patch: bytes | None
    packages: tuple[str, ...]
    suspect: str | None


@frozen(kw_only=True)
class _Packages:
    """The recorded environment."""

    text: str
    without: tuple[str, ...]
    version: str | None


def run(args: Namespace) -> int:
    """Runs the command."""
    from qn_tracking.tracking.runner import pin_numeric_threads

    # Before anything imports a numeric library.
    pin_numeric_threads()
    with signals.hearing(signals.interrupt) as received:
        try:
            return _rerun(args)
        except KeyboardInterrupt:
            return 128 + (received[0] if received else signal.SIGINT)


def _rerun(args: Namespace) -> int:
    (id,) = resolved(args, [args.id])
    original = _original(folder(args), id)
    left_out = _left_out(args, original.config)
    code = _recorded_code(args, original) if args.at_commit else None
    packages = _recorded_packages(original) if args.env == "recorded" else None
    if code is not None and code.suspect and not args.trust:
        raise UnsupportedError(code.suspect, file=id, hint="--trust runs it")
    if args.dry_run:
        if code is None and packages is None:
            _made_here(original.config)
        return _dry_run(args, original, code, packages)
    if left_out:
        warn(f"without {', '.join(left_out)}: a re-run turns on no plugin of the configuration")
    if code is None and packages is None:
        experiment = _here(args, original)
    else:
        experiment = _elsewhere(args, original, code, packages)
    return _tell(args, original, experiment)


# -------------------------------------------------------------------------------------- the record


def _original(experiments: str, id: str) -> _Original:
    """Everything that a re-run needs. Raises UnsupportedError for what a record cannot give."""
    documents.check(experiments, id)
    doc = documents.load(experiments, id, warn)
    status = doc.get("status")
    if status == "imported" or (doc.get("origin") or {}).get("kind") == "import":
        raise UnsupportedError("another program ran it", file=id)
    if status in ("running", "unknown"):
        hint = f"qn-exp tail {id}" if status == "running" else "it was started on another host"
        raise UnsupportedError("may still be running", file=id, hint=hint)
    seed = doc.get("seed")
    if type(seed) is not int or seed < 0:
        raise UnsupportedError("no seed was recorded", file=id, field="seed")
    subject = doc.get("subject") or {}
    if not subject.get("packages"):
        command = " ".join(map(str, doc.get("command") or ()))
        raise UnsupportedError(
            "a program of its own ran it, which a record does not hold", file=id, hint=command[:80]
        )
    episodes, digests = _episodes(experiments, doc)
    count = (doc.get("results") or {}).get("episodes")
    if episodes is not None:
        count = len(episodes)
    if digests is None or type(count) is not int:
        raise UnsupportedError("no digests were recorded", file=id, field="digests")
    if count < 1:
        raise UnsupportedError("has no episodes to compare", file=id)
    planned = doc.get("episodes")
    return _Original(
        experiments=experiments,
        doc=doc,
        sha256=_digest_of_record(experiments, id),
        config=_config(experiments, doc),
        seed=seed,
        # Of a run that broke off, as many as there are.
        planned=planned
        if status == "completed" and type(planned) is int and planned > 0
        else count,
        count=count,
        digests=digests,
        episodes=episodes,
    )


def _digest_of_record(experiments: str, id: str) -> str | None:
    try:
        return codec.digest(read.load(paths.record(experiments, id))[0])
    except FileNotFoundError:
        return None


def _episodes(experiments: str, doc: Doc) -> tuple[tuple[Episode, ...] | None, Digests | None]:
    """Those of the journal, if they are what the record has digests of, and the digests."""
    said = doc.get("digests") or {}
    recorded = None
    if type(said.get("exact")) is str and type(said.get("outcome")) is str:
        recorded = Digests(exact=said["exact"], outcome=said["outcome"])
    journal = join(paths.run_folder(experiments, doc["id"]), "episodes.jsonl")
    if not os.path.lexists(journal):
        return None, recorded
    tally, found = Tally(), []
    try:
        for episode in read.Lines(journal):
            tally.add(episode)
            found.append(episode)
    except StorageError as error:
        if recorded is None:
            raise
        warn(f"{error}; only the digests are compared")
        return None, recorded
    if recorded is not None and tally.digests() != recorded:
        warn(f"{journal}: not the episodes of the record; only the digests are compared")
        return None, recorded
    return tuple(found), tally.digests()


def _attached(experiments: str, doc: Doc, name: str) -> bytes | None:
    """A text of the run, if it is here. Raises StorageError if it is not what the record names."""
    path = join(paths.run_folder(experiments, doc["id"]), name)
    try:
        data, _ = read.load(path)
    except FileNotFoundError:
        return None
    for attachment in doc.get("attachments") or ():
        if attachment.get("name") == name and attachment.get("sha256") != codec.digest(data):
            raise StorageError("is not the file that the record names", file=path)
    return data


def _config(experiments: str, doc: Doc) -> Config:
    """What ran: from the text and the overrides, else from what they were resolved to.

    Raises UnsupportedError if secrets were taken out of it, StorageError if it contradicts itself.
    """
    said = doc.get("config") or {}
    label, digest, data = said.get("label") or "config", said.get("digest"), said.get("data")
    overrides = said.get("overrides") or {}
    raw = _attached(experiments, doc, "config.yml")
    found: Config | None = None
    if raw is not None:
        try:
            found = configuration.from_text(raw.decode(), label, overrides)
        except (ConfigError, UnicodeDecodeError):
            found = None
    if found is None or found.digest != digest:
        try:
            whole = configuration.from_mapping(data if isinstance(data, Mapping) else {})
        except ConfigError as error:
            raise StorageError(error.cause, file=doc["id"], field="config.data") from None
        settings = said.get("settings") or {}
        found = evolve(whole, label=label, overrides=overrides, settings=settings)
    if found.digest != digest:
        if MARK in (raw or b"").decode(errors="replace") or MARK in repr(data):
            raise UnsupportedError(
                "its configuration held secrets, which are not stored", file=doc["id"]
            )
        raise StorageError(
            "the configuration does not give the digest that is recorded",
            file=doc["id"],
            field="config.digest",
            hint="qn-exp fsck",
        )
    # What is recorded is what was read then.
    return evolve(found, sha256=said.get("sha256"))


def _left_out(args: Namespace, config: Config) -> list[str]:
    """The sinks that the configuration names and a re-run leaves out.

    Raises UnsupportedError for one that would be code beside the configuration: it might be what
    makes the simulation, and it is never loaded.
    """
    from qn_tracking.tracking.manager import TRACKER, requests

    names = list(requests(config.settings.get("plugins"), config.label))
    for name in names:
        if ":" in name and name not in args.no_plugin:
            raise UnsupportedError(
                "a re-run loads no plugin of a folder",
                file=f"plugin {name}",
                hint=f"--no-plugin {name} runs without it",
            )
    return [name for name in names if name not in (*TRACKER, *args.no_plugin)]


def _metadata(doc: Doc) -> Doc:
    found = (doc.get("facts") or {}).get("metadata")
    return found if isinstance(found, Mapping) else {}


def _section(doc: Doc, name: str) -> Doc:
    found = _metadata(doc).get(name)
    return found if isinstance(found, Mapping) else {}


def _sources(doc: Doc) -> list[Doc]:
    return [one for one in _metadata(doc).get("code") or () if isinstance(one, Mapping)]


# ----------------------------------------------------------------------------- the code it ran with


def _recorded_code(args: Namespace, original: _Original) -> _Code:
    """The commit and the patch. Raises UnsupportedError naming why they are not to be had."""
    doc = original.doc
    id, git, sources = doc["id"], _section(doc, "git"), _sources(doc)
    names = [*doc["subject"]["packages"], *(one.get("name") for one in sources)]
    packages = tuple(dict.fromkeys(("qn_tracking", *packages_of(names))))
    said = {reproduce.check_commit(one["commit"]) for one in sources if one.get("commit")}
    around = git.get("commit")
    if around is not None:
        reproduce.check_commit(around)
    if len(said) > 1:
        raise UnsupportedError("its code came from several checkouts", file=id, field="code")
    commit = said.pop() if said else around
    if commit is None:
        raise UnsupportedError(
            "no commit was recorded: its code was not in git", file=id, hint="leave out --at-commit"
        )
    patch = None
    if around == commit and git.get("dirty") not in (None, False):
        patch = _patch(original, git)
    elif any(one.get("dirty") for one in sources):
        raise UnsupportedError(
            "its code had uncommitted changes, of another repository than the configuration's: "
            "they were not kept",
            file=id,
        )
    repository = _where(original, packages, commit)
    suspect = None
    if patch is not None:
        suspect = "the recorded patch is code that no commit has"
    elif not reproduce.in_history(repository, commit):
        suspect = f"commit {commit[:12]} is in no branch of yours"
    return _Code(
        repository=repository, commit=commit, patch=patch, packages=packages, suspect=suspect
    )


def _patch(original: _Original, git: Doc) -> bytes:
    """What was not committed, whole. Raises UnsupportedError naming why it is not to be had."""
    id = original.doc["id"]
    name = "uncommitted.patch"
    cause = None
    if git.get("dirty") is not True:
        cause = "whether all was committed was not found out"
    elif git.get("patch_redacted"):
        cause = "secrets were taken out of its uncommitted patch"
    elif git.get("patch_too_large"):
        cause = "its uncommitted patch was too large to be kept"
    elif not git.get("patch"):
        cause = "its uncommitted changes were not kept"
    if cause:
        raise UnsupportedError(cause, file=id, hint="without --at-commit the present code runs")
    data = _attached(original.experiments, original.doc, name)
    if data is None:
        hint = "git carries records, bundles carry all"
        raise UnsupportedError("is not here", file=id, field=name, hint=hint)
    return data


def _where(original: _Original, packages: Sequence[str], commit: str) -> str:
    """The repository that has the commit: around the present code, or around here."""
    places = [source_of(package) for package in packages]
    folders = [dirname(p) for p in places if p and not is_installed(p)]
    found: dict[str, None] = {}
    for place in (*folders, os.getcwd(), original.experiments):
        around = work_tree(place)
        if around is not None:
            found[around] = None
    for repository in found:
        if reproduce.has_commit(repository, commit):
            return repository
    raise UnsupportedError(
        f"commit {commit[:12]} is not here",
        file=original.doc["id"],
        hint="run this inside of its repository, and fetch it first",
    )


def _recorded_packages(original: _Original) -> _Packages:
    data = _attached(original.experiments, original.doc, "packages.txt")
    if data is None:
        raise UnsupportedError(
            "the list of packages is not here", file=original.doc["id"], field="packages.txt"
        )
    system, sources = _section(original.doc, "system"), _sources(original.doc)
    # A checkout was installed from its folder: no index has it, and its source is put first.
    without = tuple(str(one.get("distribution")) for one in sources if one.get("commit"))
    version = system.get("python")
    return _Packages(
        text=data.decode(errors="replace"),
        without=without,
        version=version if type(version) is str else None,
    )


# ------------------------------------------------------------------------------------------ running


def _origin(original: _Original, notes: Sequence[str]) -> Origin:
    return Origin(kind="rerun", id=original.doc["id"], sha256=original.sha256, notes=tuple(notes))


def _made_here(config: Config) -> tuple[PluginManager, Simulation]:
    """The simulation, ready to run, by the present code. Raises UnsupportedError if that cannot."""
    from qn_tracking.tracking.manager import TRACKER, make_manager, make_simulation

    try:
        manager = make_manager(TRACKER, config=config)
        return manager, make_simulation(config, manager)
    except (ConfigError, PluginError) as error:
        raise UnsupportedError(
            f"the present code cannot run it: {error}", hint="--at-commit runs the recorded code"
        ) from None


def _here(args: Namespace, original: _Original) -> Experiment:
    """Runs the present code, in this process."""
    from qn_tracking.builtin.progress import Progress
    from qn_tracking.tracking.recorder import Recorder
    from qn_tracking.tracking.runner import run_simulation

    config = original.config
    manager, simulation = _made_here(config)
    if not args.json:
        manager.register(Progress(), name="progress")
    recorder = Recorder(
        config,
        manager=manager,
        subject=simulation.subject,
        seed=original.seed,
        episodes=original.planned,
        experiments_dir=original.experiments,
        origin=_origin(original, ["in the present code"]),
        warn=warn,
    )
    try:
        run_simulation(simulation, recorder, episodes=original.planned, seed=original.seed)
    except Exception as error:
        if recorder.experiment is None or recorder.experiment.status != "failed":
            raise
        warn(f"the re-run failed: {describe(error)}")
    assert recorder.experiment is not None
    return recorder.experiment


def _elsewhere(
    args: Namespace, original: _Original, code: _Code | None, packages: _Packages | None
) -> Experiment:
    """Runs in a process of its own: the recorded code, the recorded packages, or both."""
    doc, notes = original.doc, []
    with ExitStack() as stack:
        place = stack.enter_context(reproduce.private())
        tree: str | None = None
        if code is not None:
            notes.append(f"at commit {code.commit}")
            if code.patch is not None:
                notes.append("with the recorded patch")
            tree = stack.enter_context(reproduce.worktree(code.repository, code.commit, code.patch))
            roots = reproduce.source_roots(tree, code.packages)
            _check_source(doc, roots, code)
        else:
            notes.append("in the present code")
            names = packages_of(["qn_tracking", *doc["subject"]["packages"]])
            roots = reproduce.present_roots(names, place)
        python = sys.executable
        if packages is not None:
            notes.append("with the recorded packages")
            _say(args, "making an environment of the recorded packages")
            python = reproduce.environment(
                packages.text,
                join(place, "environment"),
                without=packages.without,
                version=packages.version,
            )
        _say(args, f"running {original.planned} episodes {', '.join(notes)}")
        suspect = code is not None and code.suspect is not None
        replay = reproduce.run_config_in(
            python,
            roots,
            original.config,
            seed=original.seed,
            episodes=original.planned,
            place=place,
            sandbox=suspect,
        )
        if suspect:
            notes.append("isolated" if replay.isolated else "no isolation")
            if not replay.isolated:
                warn("no isolation: bubblewrap is not installed, or does not work here")
        return _kept(original, replay, tree, code, _origin(original, notes))


def _check_source(doc: Doc, roots: Sequence[str], code: _Code) -> None:
    """Says if the worktree does not hold what ran; git may not have had all of it."""
    from qn_tracking.code import source_digest

    for one in _sources(doc):
        name = str(one.get("name"))
        places = [join(root, *name.split(".")) for root in roots]
        found = [p for place in places for p in (place, f"{place}.py") if os.path.exists(p)]
        if not found:
            if one.get("commit") or not roots:
                raise UnsupportedError(
                    f"commit {code.commit[:12]} does not hold {name}, which ran",
                    file=doc["id"],
                    hint="it was installed: --env recorded installs it"
                    if not one.get("commit")
                    else None,
                )
        elif one.get("digest") and source_digest(found[0]) != one["digest"]:
            warn(f"the source of {name} is not what ran: git did not have all of it")


def _kept(
    original: _Original,
    replay: reproduce.Replay,
    tree: str | None,
    code: _Code | None,
    origin: Origin,
) -> Experiment:
    """The record of a re-run as one of this store: what it was told in its folder is replaced by
    what that was made of. Raises StorageError.
    """
    from qn_tracking.builtin.snapshot import git_facts
    from qn_tracking.records.model import Attachment, RunInfo
    from qn_tracking.redact import redact_arguments, redact_config
    from qn_tracking.store import arrival
    from qn_tracking.store.write import naming

    ran, config = replay.experiment, redact_config(original.config)
    texts = {"config.yml": config.text.encode()}
    facts = {name: dict(said) for name, said in ran.facts.items()}
    if tree is not None:
        git = git_facts(tree, "", None, [])
        if git is not None:
            git = {k: v for k, v in git.items() if k not in ("patch", "config_file")}
            if code is not None and code.patch is not None:
                texts["uncommitted.patch"] = code.patch
                git["patch"] = {
                    "file": "uncommitted.patch",
                    "size": len(code.patch),
                    "sha256": codec.digest(code.patch),
                }
        facts["metadata"] = {**facts.get("metadata", {}), "git": git}
    kept = [one for one in ran.attachments if one.name not in texts]
    new = [
        Attachment(name=name, size=len(data), sha256=codec.digest(data))
        for name, data in texts.items()
    ]
    experiment = evolve(
        ran,
        config=config,
        command=redact_arguments(sys.argv),
        attachments=(*new, *kept),
        origin=origin,
        # The folder that it ran in is no repository, which says nothing.
        warnings=tuple(text for text in ran.warnings if not text.startswith("git: no repository")),
        facts=facts,
    )
    from qn_tracking.store.journal import run_file

    names = ("id", "started", "config", "subject", "seed", "episodes", "command")
    about = RunInfo(**{name: getattr(experiment, name) for name in names})
    texts["run.json"] = run_file(about)
    run_folder = paths.run_folder(dirname(replay.record), experiment.id)
    with naming(run_folder):
        for name, data in texts.items():
            _write(join(run_folder, name), data)
        _write(replay.record, codec.document(experiment))
    for one in arrival.take_in(original.experiments, replay.record, warn):
        if isinstance(one, arrival.Refused):
            raise one.error
    return experiment


def _write(path: str, data: bytes) -> None:
    """Replaces a file of our own, and no other that a link there might name."""
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "xb") as out:
        out.write(data)


# ------------------------------------------------------------------------------------------ telling


def _say(args: Namespace, text: str) -> None:
    if not args.json:
        print(printable(text), file=sys.stderr, flush=True)


def _dry_run(
    args: Namespace, original: _Original, code: _Code | None, packages: _Packages | None
) -> int:
    about = {
        "origin": original.doc["id"],
        "config": original.config.label,
        "digest": original.config.digest,
        "seed": original.seed,
        "planned": original.planned,
        "episodes": original.count,
        "compared_by": "digest" if original.episodes is None else "episode",
        "commit": code.commit if code else None,
        "patch": bool(code and code.patch),
        "packages": len(packages.text.splitlines()) if packages else None,
    }
    if args.json:
        print_plain(about)
        return 0
    from qn_tracking.render.text import rows

    shown = {
        **about,
        "commit": code.commit if code else "the present code",
        "patch": "the recorded one" if code and code.patch else None,
        "packages": f"{about['packages']} recorded" if packages else "those of here",
    }
    sys.stdout.write("ok, nothing was run\n" + rows(shown.items()))
    return 0


def _tell(args: Namespace, original: _Original, experiment: Experiment) -> int:
    """Compares, prints, and returns the exit code."""
    journal = join(paths.run_folder(original.experiments, experiment.id), "episodes.jsonl")
    again = tuple(read.Lines(journal))
    digests = experiment.digests
    outcome = _outcome(original, experiment, again)
    parted = None
    if outcome != IDENTICAL and original.episodes is not None:
        parted = reproduce.first_difference(original.episodes, again)
    found = {} if outcome == IDENTICAL else _explanations(original, experiment)
    path = paths.record(original.experiments, experiment.id)
    if args.json:
        print_plain(
            {
                "id": experiment.id,
                "path": path,
                "origin": original.doc["id"],
                "outcome": outcome,
                "episodes": len(again),
                "status": experiment.status,
                "how": list(experiment.origin.notes) if experiment.origin else [],
                "digests": {"origin": codec.plain(original.digests), "rerun": codec.plain(digests)},
                "first_difference": codec.plain(parted),
                "differences": {
                    name: [
                        {
                            "field": row.field,
                            "origin": codec.plain(_value(row.values[0])),
                            "rerun": codec.plain(_value(row.values[1])),
                        }
                        for row in rows
                    ]
                    for name, rows in found.items()
                },
            }
        )
        return int(outcome == DIFFERENT)
    plural = "" if original.count == 1 else "s"
    if outcome == IDENTICAL:
        print(
            f"identical: every number of {original.count} episode{plural},"
            f" {original.digests.exact[:12]}"
        )
    elif outcome == SAME_OUTCOME:
        print(
            "same outcome: success, termination, steps and counts of"
            f" {original.count} episode{plural}; floating point differs"
        )
    else:
        print("different" if parted else "different: the digests are not the same")
    if parted is not None:
        print(f"first at {_parting(parted)}")
    elif outcome != IDENTICAL:
        print("the episodes of the original are not here, which would tell where")
    _print_explanations(found, outcome)
    print(f"saved {printable(path)}")
    return int(outcome == DIFFERENT)


def _outcome(original: _Original, experiment: Experiment, again: Sequence[Episode]) -> str:
    """Rewards count for an outcome, too: where they differ by more than rounding, another thing
    was run that happened to end alike.
    """
    digests = experiment.digests
    if digests is None:
        return DIFFERENT
    if digests.exact == original.digests.exact:
        return IDENTICAL
    if digests.outcome != original.digests.outcome:
        return DIFFERENT
    if original.episodes is not None:
        pairs = zip(original.episodes, again, strict=True)
        alike = all(reproduce.close(one.reward, other.reward) for one, other in pairs)
    else:
        told = (original.doc.get("results") or {}).get("avg_reward")
        known = None if told is None else float(told)
        alike = reproduce.close(known, experiment.results.avg_reward)
    return SAME_OUTCOME if alike else DIFFERENT


def _parting(parted: reproduce.Divergence) -> str:
    if parted.field == "episode":
        which = "original" if parted.present[0] else "re-run"
        return f"episode {parted.episode}, which only the {which} has"
    sides = [
        printable(_shown(value)) if there else "absent"
        for value, there in zip((parted.first, parted.second), parted.present, strict=True)
    ]
    return f"episode {parted.episode}: {printable(parted.field)}: {sides[0]}, now {sides[1]}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else codec.canonical(value).decode()
    return text if len(text) <= 64 else text[:61] + "..."


def _explanations(original: _Original, experiment: Experiment) -> dict[str, tuple[Difference, ...]]:
    """What of code, packages and machine is not the same."""
    from qn_tracking.studies import comparison

    docs = [original.doc, codec.plain(experiment)]
    lists = [_versions(original.experiments, doc) for doc in docs]
    found = comparison.sections(docs, lists)
    code = [row for row in found["code"] if row.field.endswith(TELLING)]
    return {
        "code": tuple(row for row in code if not row.same),
        "packages": tuple(row for row in found["packages"] if not row.same),
        "machine": tuple(row for row in found["system"] if not row.same),
    }


def _versions(experiments: str, doc: Doc) -> dict[str, str] | None:
    from qn_tracking.studies.comparison import parse_packages

    try:
        data = _attached(experiments, doc, "packages.txt")
    except StorageError as error:
        warn(str(error))
        return None
    return None if data is None else parse_packages(data.decode(errors="replace"))


def _value(value: Any) -> Any:
    from qn_tracking.studies.comparison import ABSENT

    return None if value is ABSENT else value


def _print_explanations(found: Mapping[str, Sequence[Difference]], outcome: str) -> None:
    from qn_tracking.render.table import Column, columns_of, table
    from qn_tracking.studies.comparison import ABSENT

    rows = [
        [
            printable(f"{name}: {row.field}" if name != "code" else row.field),
            *("absent" if v is ABSENT else printable(_shown(v)) for v in row.values),
        ]
        for name, differences in found.items()
        for row in differences
    ]
    if outcome == IDENTICAL:
        return
    if not rows:
        print("code, packages and machine are the same as far as they were recorded")
        return
    print("\nwhat may explain it")
    columns = [Column("FIELD", least=12), Column("ORIGINAL", least=6), Column("RE-RUN", least=6)]
    sys.stdout.write(table(columns, rows, columns_of()))
    print()
