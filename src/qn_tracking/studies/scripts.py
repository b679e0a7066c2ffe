"""A script as a study: its command, with places for the values of each arm and for the seed.

    python train.py --learning-rate {lr} --seed {seed}

The command is a list of words, for no shell. A place is the name of a field in braces, `{{` and
`}}` are braces; nothing else is understood.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve

from qn_tracking import config as configuration
from qn_tracking.errors import UsageError, did_you_mean, short, storable
from qn_tracking.records.model import Config, Subject
from qn_tracking.records.submission import Arm, Study
from qn_tracking.redact import redact_arguments, redact_config
from qn_tracking.studies.declare import declared
from qn_tracking.studies.sweep import Choice, Factors, choices, one_choice, parse, text_of

SEED = "seed"
_INTERPRETER = re.compile(r"(python|bash|sh)[\d.]*")
_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def script_arms(command: Sequence[str], factors: Factors, *, paired: bool = False) -> list[Choice]:
    """Every combination of the values; raises UsageError for a command that does not fit them."""
    if isinstance(command, str):
        cause = "command: expected a list of words, not a text"
        raise UsageError(cause, hint="no shell takes it apart")
    if not command:
        raise UsageError("no command after --", hint="such as -- python train.py --seed {seed}")
    clean = redact_arguments(["", *command])[1:]  # of the first word, only its name is kept
    if list(clean) != list(command):
        changed = next(word for word, other in zip(command, clean, strict=True) if word != other)
        cause = f"{short(changed)}: looks like a secret, and a study stores its command"
        raise UsageError(cause, hint="pass it by a variable of the environment")
    used = set(_places(command))
    for name in used - {SEED, *factors}:
        known = (SEED, *factors)
        hint = did_you_mean(name, known) or f"known: {', '.join(known)}; a brace is {{{{"
        raise UsageError(f"{{{short(name)}}} in the command is no swept field", hint=hint)
    for field in factors:
        if field not in used:
            cause = f"the command has no {{{field}}}"
            raise UsageError(cause, file=f"--sweep {short(field)}", hint="every arm would be equal")
    if (missing := _missing(command)) is not None:
        raise UsageError(f"{short(missing)}: no such file", hint="the script runs in this folder")
    found = choices([label_of(command)], factors, paired=paired)
    for arm in found:
        program = _filled(command[0], {**_texts(arm.values), SEED: "1"})
        if shutil.which(program) is None:
            one = " " in program.strip()
            raise UsageError(
                f"{short(program)}: no such program",
                hint="each word of the command is one of its own" if one else None,
            )
    return found


def script_study(
    script: Sequence[str],
    factors: Mapping[str, Sequence[Any] | str],
    experiments: str,
    *,
    paired: bool = False,
    **options: Any,
) -> Study:
    """The study of a script that runs in the current folder; writes nothing.

    `options` are those of `declare.declared`. Raises UsageError for what cannot run.
    """
    values = {
        name: parse(given, f"--sweep {name}") if isinstance(given, str) else given
        for name, given in factors.items()
    }
    arms = [arm_of(script, arm) for arm in script_arms(script, values, paired=paired)]
    return declared(
        arms,
        experiments,
        episodes=None,
        script=script,
        folder=storable(os.path.relpath(os.getcwd(), os.path.realpath(experiments))),
        **options,
    )


def _missing(command: Sequence[str]) -> str | None:
    """The file that an interpreter is to run, if there is none; only where it is certainly one."""
    program, script = os.path.basename(command[0]), command[1] if len(command) > 1 else "-"
    runs = _INTERPRETER.fullmatch(program) and not script.startswith("-")
    return script if runs and not any(_places([script])) and not os.path.exists(script) else None


def label_of(command: Sequence[str]) -> str:
    """What a command is called: its first file of code, or its module, else its program."""
    for word, after in zip(command, [*command[1:], ""], strict=True):
        if word == "-m" and after:
            return after
        if word.endswith((".py", ".sh", ".ipynb")):
            return os.path.basename(word)
    return os.path.basename(command[0])


def warnings_of(command: Sequence[str]) -> tuple[str, ...]:
    """What there is to say of a command before it runs."""
    if SEED in _places(command):
        return ()
    return ("the command has no {seed}: the script has to take it from track(), as run.seed",)


def arm_of(command: Sequence[str], arm: Choice) -> Arm:
    """The arm of a study; its configuration is the command and its values."""
    data = {"command": list(command), "values": dict(arm.values)}
    config = redact_config(configuration.from_mapping(data))
    return Arm(name=arm.name, config=config, text=config.text, subject=Subject())


def added_arm(study: Study, values: Mapping[str, Any], name: str | None) -> Arm:
    """One more arm of a study of a script. Raises UsageError for values of other fields."""
    command, known = study.script or (), values_of(study.arms[0].config)
    if values.keys() != known.keys():
        hint = f"the arms of this study have: {', '.join(known) or 'no fields'}"
        raise UsageError(f"values of {', '.join(values) or 'no field'}", field="arm", hint=hint)
    choice = one_choice(label_of(command), values)
    return arm_of(command, evolve(choice, name=storable(name or choice.name)))


def values_of(config: Config) -> Mapping[str, Any]:
    """The values of an arm of a script."""
    values = config.data.get("values")
    return values if isinstance(values, Mapping) else {}


def words(study: Study, index: int) -> list[str]:
    """The command of a run, its places filled."""
    values = {**values_of(study.arm_of(index).config), SEED: study.seed_of(index)}
    return [_filled(word, _texts(values)) for word in study.script or ()]


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: text_of(value) for name, value in values.items()}


def _places(command: Sequence[str]) -> Iterator[str]:
    """The names in braces. Raises UsageError for a brace that is alone."""
    for word in command:
        for found in _PLACE.finditer(word):
            if found[1] is not None:
                yield found[1]
            elif len(found[0]) == 1:
                cause = f"{short(word)}: {found[0]} alone"
                raise UsageError(cause, hint=f"a brace is {found[0] * 2}, a place {{seed}}")


def _filled(word: str, texts: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda at: texts[at[1]] if at[1] is not None else at[0][0], word)
