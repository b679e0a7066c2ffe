"""`qn-exp tag`, `note`, `rm`, `restore`, `gc`, `recover`, `fsck`, `stats`: upkeep of records."""

from __future__ import annotations

from argparse import Namespace

from qn_tracking.cli.options import RUN_OR_STUDY, do_all, experiments, one_id, tags
from qn_tracking.cli.output import print_plain, print_section, print_wrapped, warn
from qn_tracking.cli.parser import Parser, flag, many, valued
from qn_tracking.errors import StorageError, UsageError, printable

EXAMPLES = {
    "tag": """examples:
  qn-exp tag @1 paper=yes figure=3        add tags, or change what was added
  qn-exp tag lr --remove figure           of the study lr
""",
    "note": """examples:
  qn-exp note @1 "the seed of figure 3"
""",
    "rm": """examples:
  qn-exp rm @1 20260131T12                the latest run, and the one whose id begins so
  qn-exp rm lr                            a study with all its runs
""",
    "restore": """examples:
  qn-exp restore                          what is in the trash
  qn-exp restore 20260131T12
""",
    "recover": """examples:
  qn-exp recover --all                    records of all runs that have crashed
  qn-exp recover @1 --force               of one that ran on another machine, and is dead
""",
    "gc": """examples:
  qn-exp gc                               show what would be removed
  qn-exp gc --older-than 7d --force       remove it
""",
    "fsck": """examples:
  qn-exp fsck                             exits with 1 if there is a fault
  qn-exp fsck @1
""",
    "stats": """examples:
  qn-exp stats
  qn-exp stats --json
""",
}
SHOWN = 12
"""Of a field of `stats`, so many values are named."""


def arguments(parser: Parser, command: str) -> None:
    if command in ("tag", "note"):
        one_id(parser)
    if command == "tag":
        valued(parser, "tags", "KEY=VALUE", "tags to add or to change", nargs="*")
        many(
            parser,
            "--remove",
            "KEY",
            "remove a tag that was added after the run; tags of the record stay",
        )
    elif command == "note":
        valued(parser, "text", "TEXT", "the note")
    elif command == "rm":
        valued(parser, "id", "ID", RUN_OR_STUDY, nargs="+")
        flag(
            parser,
            "--force",
            "also a run that may still be running: one of another host, or without locks",
        )
    elif command == "restore":
        valued(parser, "id", "ID", "an id; without one, the trash is listed", nargs="*")
    elif command == "recover":
        valued(parser, "id", "ID", "a run that died before its record was written", nargs="*")
        flag(parser, "--all", "every run that has crashed")
        flag(parser, "--force", "also a run whose status is unknown, if you know that it is dead")
    elif command == "gc":
        valued(
            parser,
            "--older-than",
            "AGE",
            "what has been there for so long (default: 30d)",
            default="30d",
        )
        flag(parser, "--force", "remove it, not only show it")
    elif command == "fsck":
        valued(parser, "id", "ID", "check these (default: all)", nargs="*")


def run(args: Namespace) -> int:
    commands = {
        "tag": _label,
        "note": _label,
        "rm": _remove,
        "restore": _restore,
        "recover": _recover,
        "fsck": _check,
        "gc": _clear,
        "stats": _stats,
    }
    return commands[args.command](args)


def _label(args: Namespace) -> int:
    store = experiments(args)
    given = tags(args.tags, "") if args.command == "tag" else {}
    study = store.study(args.id)
    id = store.id(args.id) if study is None else study.id
    if args.command == "note":
        labels = store.note(id, args.text)
    else:
        labels = store.tag(id, given, remove=args.remove)
    if args.json:
        print_plain({"id": id, "labels": labels})
    elif args.command == "note":
        print(f"noted on {id}")
    else:
        shown = " ".join(f"{key}={value}" for key, value in labels["tags"].items())
        print(f"{id}  {printable(shown) or 'no tags were added'}")
    return 0


def _remove(args: Namespace) -> int:
    store = experiments(args)

    def remove(id: str) -> dict[str, str | int]:
        return _moved(args, id, "removed to", store.remove(id, force=args.force))

    def named(text: str) -> str:
        try:
            study = store.study(text)
        except StorageError:
            return text  # of a study that cannot be read: by its id it can be removed
        return study.id if study else store.id(text)

    done, failed, code = do_all(list(dict.fromkeys(map(named, args.id))), remove)
    if args.json:
        print_plain({"removed": done, "failed": failed})
    return code


def _restore(args: Namespace) -> int:
    store = experiments(args)
    if not args.id:
        ids = store.trash()
        if args.json:
            print_plain({"trash": ids})
        else:
            print("\n".join(store.trash(fold=True)) if ids else "the trash is empty")
        return 0

    def restore(id: str) -> dict[str, str | int]:
        return _moved(args, id, "restored", store.restore(id))

    done, failed, code = do_all(list(dict.fromkeys(map(store.in_trash, args.id))), restore)
    if args.json:
        print_plain({"restored": done, "failed": failed})
    return code


def _moved(args: Namespace, id: str, verb: str, path: str) -> dict[str, str | int]:
    if not args.json:
        print(f"{verb} {printable(path)}", flush=True)
    return {"id": id, "path": path}


def _recover(args: Namespace) -> int:
    from qn_tracking.render.text import counted

    if bool(args.id) == args.all:
        raise UsageError("expected IDs, or --all")
    store = experiments(args)

    def recover(id: str) -> dict[str, str | int]:
        experiment = store.recover(id, force=args.force)
        for text in experiment.warnings:
            warn(f"{id}: {text}")
        path, episodes = f"{store.folder}/{id}.json", experiment.results.episodes
        if not args.json:
            print(f"recovered {counted(episodes, 'episode')}: {printable(path)}", flush=True)
        return {"id": id, "path": path, "episodes": episodes}

    ids = store.crashed() if args.all else store.ids(args.id)
    done, failed, code = do_all(ids, recover, raise_if_one=not args.all)
    if args.json:
        print_plain({"recovered": done, "failed": failed})
    elif not ids:
        print("no run has crashed")
    return code


def _check(args: Namespace) -> int:
    """1 if there is any fault."""
    from qn_tracking.records.codec import plain
    from qn_tracking.render.text import counted

    store = experiments(args)
    report = store.check(args.id)
    faults = report.faults
    if args.json:
        print_plain({"experiments_dir": store.folder, "faults": faults, **plain(report)})
        return 1 if faults else 0
    for finding in report.findings:
        print_wrapped(f"{finding.level}: {finding}")
    print_wrapped(
        f"{counted(faults, 'fault') if faults else 'no faults'} in"
        f" {counted(report.records, 'record')}, {counted(report.journals, 'journal')},"
        f" {counted(report.episodes, 'episode')}"
    )
    return 1 if faults else 0


def _clear(args: Namespace) -> int:
    """Shows what may be cleared away; with --force it is."""
    from qn_tracking.records.codec import plain

    found = experiments(args).garbage(args.older_than, remove=args.force)
    total = sum(one.bytes for one in found)
    if args.json:
        print_plain({"removed": args.force, "bytes": total, "garbage": plain(found)})
        return 0
    verb = "removed" if args.force else "would remove"
    for one in found:
        print(f"{verb} {printable(one.path)}  {_bytes(one.bytes)}, {one.cause}")
    hint = "" if args.force or not found else "; --force removes it"
    print(f"{verb} {_bytes(total)}{hint}" if found else "nothing to remove")
    return 0


def _stats(args: Namespace) -> int:
    """Prints the counts."""
    from qn_tracking.render.text import duration

    found = experiments(args).stats()
    if args.json:
        print_plain(found)
        return 0
    sizes = found["bytes"]
    lines: list[tuple[str, object]] = [
        ("experiments", f"{found['experiments']:,}"),
        ("unreadable", found["unreadable"] or None),
        ("episodes", f"{found['episodes']:,}"),
        ("steps", f"{found['steps']:,}"),
        ("time", duration(found["seconds"])),
        ("first", found["first"]),
        ("last", found["last"]),
    ]
    for key in ("status", "family", "environment", "brain", "config"):
        counts = [(name, count) for name, count in found[key].items() if name]
        some = ", ".join(f"{name} {count:,}" for name, count in counts[:SHOWN])
        more = f", and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
        lines.append((key, some + more or None))
    lines += [
        (f"{key} on disk", _bytes(sizes[key])) for key in ("records", "runs", "index", "trash")
    ]
    lines.append(("free", None if sizes["free"] is None else _bytes(sizes["free"])))
    print_section(found["experiments_dir"], lines)
    return 0


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
