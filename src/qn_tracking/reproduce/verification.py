"""A submission verified: checked, run again, and run with fresh seeds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from attrs import define, evolve, frozen

from qn_tracking import ids
from qn_tracking.benchmark import checkpoint, files, signature, validation, verifications, verify
from qn_tracking.benchmark.cache import stamp
from qn_tracking.benchmark.checker import Checker
from qn_tracking.benchmark.checkpoint import Checkpoint, Plan
from qn_tracking.benchmark.protocol import Protocol, Rulebook
from qn_tracking.benchmark.source import ContradictedError, SourceCommit, git_around, trace
from qn_tracking.code import installed_digests
from qn_tracking.errors import QnError, UnsupportedError, UsageError
from qn_tracking.machine import COMPUTING, system_facts, versions_of
from qn_tracking.records.submission import Checked, Finding, Replicated, Submission, Verification
from qn_tracking.render.text import counted
from qn_tracking.reproduce.execution import (
    SAME_MACHINE,
    Execution,
    Which,
    another_environment,
    another_machine,
    execution,
    packages_here,
)

if TYPE_CHECKING:
    from pluggy import PluginManager

    from qn_tracking.records.model import Config

Level = Literal["integrity", "repeat", "replicate"]
Outcome = Literal["verified", "mismatch", "refused", "planned", "interrupted"]
_DAMAGED = {"digest", "aggregate"}
"""Rules that an edited episode breaks: which episode it is, only a new run can show."""


def ignore(*_: object) -> None:
    """Does nothing with a message."""


@frozen(kw_only=True)
class Options:
    """What to verify, and how.

    `repeat` runs the runs again, or `sample` of them, chosen at random; `replicate` also runs
    `fresh` runs with fresh seeds. `trust` runs the code of the submission's commit, in a sandbox
    unless `no_sandbox`;
    `present_code` the installed code, which must be the same; `renew` the installed code whatever
    it is. `main_branch` is the protected branch, `allowed_signers` a file of ssh-keygen. `verifier`
    (by default git's user.name) and `github` are written into the verification, unless `record` is
    False. `dry_run` only plans.
    """

    repeat: bool = False
    sample: int | None = None
    replicate: bool = False
    fresh: int | None = None
    trust: bool = False
    no_sandbox: bool = False
    present_code: bool = False
    renew: bool = False
    main_branch: str | None = None
    allowed_signers: str | None = None
    verifier: str | None = None
    github: str | None = None
    record: bool = True
    jobs: int = 1
    dry_run: bool = False

    def check(self) -> None:
        """Raises UsageError for what cannot be combined."""
        if sum((self.trust, self.present_code, self.renew)) > 1:
            raise UsageError("--trust, --present-code and --renew cannot be combined")
        if self.no_sandbox and not self.trust:
            raise UsageError("--no-sandbox needs --trust")
        if self.sample is not None and not (self.repeat or self.replicate):
            raise UsageError("--sample needs --repeat or --replicate")
        if self.fresh is not None and not self.replicate:
            raise UsageError("-m needs --replicate")
        for name, value in (("-m", self.fresh), ("--jobs", self.jobs)):
            if value is not None and not 1 <= value <= 999:
                raise UsageError(f"{name} {value}: expected 1 to 999")
        for option, text in (("verifier", self.verifier), ("github", self.github)):
            if text is not None and not 0 < len(text.strip()) <= 100:
                raise UsageError(f"--{option}: expected a name of at most 100 characters")

    @property
    def level(self) -> Level:
        """How far the verification goes."""
        return "replicate" if self.replicate else "repeat" if self.repeat else "integrity"

    @property
    def which(self) -> Which | None:
        """The code that runs; None if none may."""
        if self.renew:
            return "renew"
        return "present" if self.present_code else "commit" if self.trust else None


@frozen(kw_only=True)
class VerificationReport:
    """The outcome of a verification.

    `refused` means that it could not be verified here, `interrupted` that the same call continues
    it. `reasons` say why it is not verified, `findings` are those of the validators. `source` is
    the commit of the main branch that has its code, `signer` the person who signed it. `plan` and
    `cpu_seconds` are of the runs, `runs` those that were done, `record` is the file of the
    verification, and `own` whether the verifier is the contributor. `same_code`, known for a plan
    only, is whether the installed code is that of the submission.
    """

    path: str
    sha256: str
    submission: Submission
    level: Level
    outcome: Outcome = "verified"
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    source: SourceCommit | None = None
    signer: str | None = None
    plan: Plan | None = None
    cpu_seconds: float = 0.0
    isolation: str | None = None
    runs: tuple[Checked, ...] = ()
    replication: Replicated | None = None
    record: str | None = None
    own: bool | None = None
    same_code: bool | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(finding for finding in self.findings if finding.level == "error")


def verify_submission(
    benchmarks: str,
    target: str,
    options: Options,
    *,
    make_manager: Callable[[Config], PluginManager],
    warn: Callable[[str], None] = ignore,
    inform: Callable[[str], None] = ignore,
    progress: Callable[[int, int], None] = ignore,
    stop: Callable[[], bool] = lambda: False,
) -> VerificationReport:
    """Verifies a submission by its id or path, and records the outcome beside it.

    `make_manager` makes the manager with the validators for a configuration. `inform` gets a line
    for each step, `progress` the runs done and the total. Once `stop` returns True, no further run
    begins, and the outcome is `interrupted`; the same call continues it later. A KeyboardInterrupt
    ends the runs in progress and passes.

    Raises UsageError for no such submission, StorageError for one that cannot be read.
    """
    options.check()
    stored = files.find(benchmarks, target)
    verifier = _Verifier(
        benchmarks=benchmarks,
        options=options,
        report=VerificationReport(
            path=stored.path,
            sha256=stored.sha256,
            submission=stored.submission,
            level=options.level,
            findings=stored.findings,
        ),
        checker=Checker(benchmarks, make_manager),
        warn=warn,
        inform=inform,
        progress=progress,
        stop=stop,
    )
    try:
        verifier.verify()
    except UnsupportedError as error:
        # A mismatch that was found stays one, whatever else could not be done.
        report = verifier.report
        outcome: Outcome = "mismatch" if report.outcome == "mismatch" else "refused"
        return evolve(report, outcome=outcome, reasons=(*report.reasons, str(error)))
    return verifier.report


@define(kw_only=True)
class _Verifier:
    """One verification: the report so far, and the steps that complete it."""

    report: VerificationReport
    _benchmarks: str
    _options: Options
    _checker: Checker
    _warn: Callable[[str], None]
    _inform: Callable[[str], None]
    _progress: Callable[[int, int], None]
    _stop: Callable[[], bool]

    @property
    def _submission(self) -> Submission:
        return self.report.submission

    def _add(self, **fields: Any) -> None:
        self.report = evolve(self.report, **fields)

    def _mismatch(self, *reasons: str) -> None:
        self._add(outcome="mismatch", reasons=(*self.report.reasons, *reasons))

    def verify(self) -> None:
        """All steps. Raises UnsupportedError for what cannot be done here."""
        options, book, submission = self._options, self._checker.book, self._submission
        self._validate()
        damaged = _damaged_runs(self.report) if self.report.outcome == "mismatch" else []
        if self.report.outcome != "verified" and not damaged:
            return
        plan = verify.make_plan(
            self._submission,
            repeat=options.level != "integrity",
            sample=options.sample,
            fresh=(
                verify.fresh_runs(submission, options.fresh, book.version(submission.protocol))
                if options.replicate
                else 0
            ),
        )
        if damaged and plan:
            # Not to verify it, but to name the episode.
            plan = evolve(plan, repeat=tuple(damaged), fresh=())
        if options.dry_run:
            self._add(
                outcome="planned",
                plan=plan,
                cpu_seconds=verify.cost(self._submission, len(plan)),
                same_code=verifications.same_code(self._submission, installed_digests()),
            )
        elif plan and not (damaged and options.which is None):
            try:
                self._run_again(plan, book, bool(damaged))
            except (UnsupportedError, UsageError):
                raise
            except QnError as error:
                cause = f"could not be run: {error}"
                raise UnsupportedError(cause, file=self.report.path) from error

    def _validate(self) -> None:
        """The validators, the commit and the signature: nothing of the submission is run."""
        submission, path = self._submission, self.report.path
        stored = files.Stored(path=path, sha256=self.report.sha256, submission=submission)
        findings = self._checker.findings(stored)
        for problem in self._checker.problems:
            self._warn(f"{problem}: is left out")
        self._add(findings=(*findings, *self.report.findings))
        errors = self.report.errors
        if errors:
            # What does not even have the form of a commit or of a package is not looked up, let
            # alone run. What cannot be checked here is neither right nor wrong.
            odd = all(one.rule in ("form", "source", validation.INSTALLED) for one in errors)
            self._add(
                outcome="refused" if odd else "mismatch", reasons=tuple(map(reason_of, errors))
            )
            if odd:
                return
        try:
            git = git_around(self._benchmarks)
            self._add(source=trace(submission, git, self._options.main_branch))
        except ContradictedError as error:
            self._mismatch(str(error))
        except UnsupportedError:
            if not errors:
                raise
        self._check_signature()

    def _check_signature(self) -> None:
        allowed = self._options.allowed_signers
        if allowed is None:
            return
        id = self._submission.id
        signed = signature.message("submission", id, self.report.sha256)
        try:
            self._add(signer=signature.signer(self._benchmarks, id, signed, allowed))
        except signature.SignatureError as error:
            self._mismatch(str(error))

    def _run_again(self, plan: Plan, book: Rulebook, damaged: bool) -> None:
        """Runs the plan, compares, and records the outcome."""
        options, submission = self._options, self._submission
        # The name of the verifier is asked for before hours of runs, not after them.
        who = None if damaged or not options.record else self._who()
        protocol = book.version(submission.protocol)
        source = self.report.source
        free = options.no_sandbox
        with execution(self._benchmarks, submission, source, options.which, free) as made:
            self._add(isolation=made.isolation)
            self._inform(made.isolation)
            if other := another_environment(submission):
                self._inform(f"it was made with {', '.join(other)}: figures may differ")
            path = checkpoint.path_of(self._benchmarks, submission.id)
            with checkpoint.locked(path):
                state = self._execute(plan, protocol, made, path, damaged)
                if len(state.done) < len(state.plan):
                    self._add(outcome="interrupted")
                    return
                self._compare(state, protocol, damaged)
                # That the code has changed is not the fault of the submission.
                if who is not None and not (options.renew and self.report.reasons):
                    self._record(who, protocol.version, made)
                checkpoint.remove(path)

    def _execute(
        self, plan: Plan, protocol: Protocol, made: Execution, path: str, damaged: bool
    ) -> Checkpoint:
        options, source = self._options, self.report.source
        if made.which == "commit" and source is not None:
            where = source.commit
        else:
            where = ",".join(str(digest) for digest in self._code(made).values())
        # A digest can be computed by those who hand over a branch, with runs that no one has done;
        # how the file lies on this disk they do not know.
        key = checkpoint.key_of(
            self.report.sha256,
            stamp(os.stat(self.report.path)),
            self.report.level,
            where,
            len(plan.repeat),
            len(plan.fresh),
            damaged,
            # A refusal asks for other versions: runs of these would be taken for runs of those.
            system_facts()["python"],
            _versions(),
        )
        state = checkpoint.resume(path, key, plan)
        self._add(plan=state.plan)
        total = len(state.plan)
        if state.done:
            self._inform(f"continued: {len(state.done)} of {total} runs are done")

        def finished(now: Checkpoint) -> None:
            checkpoint.save(path, now)
            self._progress(len(now.done), total)

        self._progress(len(state.done), total)
        state = verify.execute(
            self._submission,
            state,
            made.run,
            protocol=protocol,
            jobs=options.jobs,
            finished=finished,
            stop=self._stop,
            cancel=made.cancel,
        )
        self._add(runs=state.done)
        return state

    def _compare(self, state: Checkpoint, protocol: Protocol, damaged: bool) -> None:
        """Compares the runs with the submission."""
        submission = self._submission
        another = another_machine(submission)
        differing = verify.reasons(submission, state.done, another_machine=another)
        # The honest would be disputed for the versions that a verifier happens to have.
        other = () if damaged or self._options.renew else another_environment(submission)
        if differing and not other:
            self._mismatch(*differing, *self._not_clean())
        if self._options.replicate and not damaged:
            try:
                result = verify.replication(submission, state.done, protocol)
            except ValueError as error:
                raise UnsupportedError(f"no replication: {error}") from None
            self._add(replication=result)
            if not result.accepted:
                self._mismatch(
                    f"{counted(result.fresh, 'run')} of fresh seeds have {result.fresh_mean:.1%}, "
                    f"below the bound of {result.bound:.1%} that {result.mean:.1%} sets"
                )
        if differing and other:
            if self.report.outcome == "mismatch":
                self._mismatch(*differing)
            cause = f"{differing[0]}; it was made with {', '.join(other)}"
            raise UnsupportedError(cause, hint="run it with the versions that it was made with")
        if self._options.renew and self.report.reasons:
            self._mismatch("the installed code gives other episodes; it stays outdated")

    def _not_clean(self) -> tuple[str, ...]:
        """That other episodes came out, though the submission says that all was committed."""
        said, found = self._submission.source.dirty, self.report.source
        if said is not False or self._options.which != "commit" or not found or found.squashed:
            return ()
        return (
            f"source.dirty: is false, but the code of {found.commit[:12]} gives other episodes",
        )

    def _who(self) -> str:
        """Who verifies. Raises UsageError if git has no name either."""
        from qn_tracking.repository import user_name

        name = self._options.verifier or user_name(self._benchmarks)
        if not name:
            raise UsageError(
                "no name of a verifier", hint="--verifier NAME, or set git's user.name"
            )
        return name[:100]

    def _code(self, made: Execution) -> dict[str, Any]:
        """The digests of the code that ran, by name, in the order of the submission."""
        names = [str(one.get("name")) for one in self._submission.code]
        return {name: made.digests[name] for name in names}

    def _record(self, who: str, protocol: int, made: Execution) -> None:
        report, options = self.report, self._options
        source, here = report.source, system_facts()
        present = made.which != "commit"
        record = Verification(
            id=ids.new_id(),
            submission=self._submission.id,
            sha256=report.sha256,
            protocol=protocol,
            level=report.level,
            outcome="mismatch" if report.outcome == "mismatch" else "verified",
            reasons=report.reasons,
            verifier=who,
            github=options.github,
            created=ids.utc(time.time()),
            commit=None if source is None or present else source.commit,
            present=present,
            isolation=made.isolation,
            code=tuple({"name": n, "digest": d} for n, d in self._code(made).items()),
            versions=_versions(),
            system={name: here[name] for name in SAME_MACHINE},
            runs=report.runs,
            replication=report.replication,
        )
        self._add(
            own=verifications.same_person(
                self._submission.contribution, record.verifier, record.github
            ),
            record=verifications.save(self._benchmarks, record),
        )


def reason_of(finding: Finding) -> str:
    """A finding as a reason."""
    return f"{finding.field or finding.rule}: {finding.message}"


def _damaged_runs(report: VerificationReport) -> list[int]:
    """The runs whose episodes do not have their digests, if nothing else is wrong."""
    if not report.errors or any(one.rule not in _DAMAGED for one in report.errors):
        return []
    fields = [one.field or "" for one in report.errors if one.rule == "digest"]
    places = {text.partition("]")[0].removeprefix("runs[") for text in fields}
    return sorted(int(place) for place in places if place.isdigit())


def _versions() -> Mapping[str, str]:
    return versions_of(packages_here()["list"], ("qn-tracking", *COMPUTING))
