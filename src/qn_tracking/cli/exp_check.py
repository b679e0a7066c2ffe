"""`qn-exp check`: whether the arms of a study are where they are expected."""

from __future__ import annotations

from argparse import Namespace

from qn_tracking.api.arms import Arms
from qn_tracking.cli.options import experiments
from qn_tracking.cli.output import print_plain, print_wrapped, warn
from qn_tracking.cli.parser import Parser, flag, many, valued
from qn_tracking.errors import UsageError, printable, short

EXAMPLES = """A range is where the mean of an arm is expected. --update writes where the mean of as
many further runs is, 95 times in 100 if nothing has changed; the file may be edited.

examples:
  qn-exp check rate --expect ranges.yml --update     write the ranges
  qn-exp check nightly --expect ranges.yml           check another study with the same arms

exit codes: 0 every arm is in its ranges, 1 one is not, or has no finished runs
"""


def arguments(parser: Parser, command: str) -> None:
    valued(parser, "study", "STUDY", "the id or the name of a study")
    valued(parser, "--expect", "FILE", "the YAML file of ranges", required=True)
    flag(parser, "--update", "write the ranges from the study")
    many(
        parser,
        "--metric",
        "NAME",
        "with --update: the range of this metric (default: the declared one), or several",
    )


def run(args: Namespace) -> int:
    store = experiments(args)
    study = store.study(args.study)
    if study is None:
        from qn_tracking.store.studies import near

        raise UsageError(f"no study {short(args.study)!r}", hint=near(store.folder, args.study))
    if args.update:
        return _update(study, args)
    if args.metric:
        raise UsageError("--metric needs --update", hint="the file says which metrics")
    found = study.check(args.expect)
    for name in found.unexpected:
        warn(f"{name}: no range in {args.expect}: not checked")
    if args.json:
        from qn_tracking.records.codec import plain

        print_plain({"study": study.id, "ok": not found.left, "ranges": plain(found.found)})
        return int(bool(found.left))
    # Of an arm that is not there, each of its metrics says the same.
    for sentence in dict.fromkeys(one.sentence for one in found.left):
        print_wrapped(printable(sentence))
    print_wrapped(printable(found.summary))
    return int(bool(found.left))


def _update(study: Arms, args: Namespace) -> int:
    from qn_tracking.api.expected import save

    ranges, without = study.expected(args.metric)
    for text in without:
        warn(text)
    save(args.expect, study.name or study.id, ranges)
    if args.json:
        print_plain({"study": study.id, "path": args.expect, "arms": ranges})
    else:
        from qn_tracking.render.text import counted

        print(f"saved ranges of {counted(len(ranges), 'arm')} to {printable(args.expect)}")
    return 0
