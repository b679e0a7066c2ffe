"""The plugins that a run is asked to have: by the project, the configuration, and by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import frozen

from qn_tracking import config as configuration, project as pyproject
from qn_tracking.errors import PluginSetupError
from qn_tracking.files import current_folder
from qn_tracking.records.model import EMPTY, Config, Value
from qn_tracking.tracking.installed import named, requests

if TYPE_CHECKING:
    from qn_tracking.tracking.installed import Named, Requests


@frozen(kw_only=True, eq=False, repr=False)
class Project(Value):
    """What `[tool.qn-tracking]` in the project's pyproject.toml says."""

    file: str | None = None
    plugins: Requests = EMPTY
    experiments_dir: str | None = None


def project(folder: str | None = None) -> Project:
    """The settings of the nearest pyproject.toml, from this folder upward.

    Raises ConfigError for settings that are wrong; tables of other tools are not checked.
    """
    path, table = pyproject.settings(folder)
    return Project(
        file=path,
        plugins=requests(table.get("plugins"), path or "", f"{pyproject.TABLE}.plugins"),
        experiments_dir=table.get("experiments_dir"),
    )


def choose(config: Config, settings: Project, plugins: Named) -> Requests:
    """All plugins asked for, by the project, the configuration and by name, with their options."""
    section = requests(config.settings.get("plugins"), config.label)
    return {
        **settings.plugins,
        **section,
        **{
            name: options or section.get(name, settings.plugins.get(name, EMPTY))
            for name, options in named(plugins).items()
        },
    }


def unasked(config: Config, settings: Project, plugins: Named) -> Mapping[str, str | None]:
    """The plugins of the current folder that a file names and `plugins` does not, and that file.

    None stands for the mapping that a program has passed, which knows what it asks for.
    """
    asked = named(plugins)
    # A configuration that is shipped has no path, but its name.
    file = config.path or (None if config.label == configuration.MAPPING else config.label)
    found = dict.fromkeys(requests(config.settings.get("plugins"), config.label), file)
    found = {**dict.fromkeys(settings.plugins, settings.file), **found}
    return {name: file for name, file in found.items() if ":" in name and name not in asked}


def check_asked(files: Mapping[str, str | None]) -> None:
    """Raises PluginSetupError for a plugin of the current folder that a file outside it names.

    Such a file may be a stranger's, and meet a module that is here by chance.
    """
    for name, file in files.items():
        if file is not None and not _in_folder(file):
            raise PluginSetupError(
                f"is code of this folder, and {file} is not in it",
                file=f"plugin {name}",
                hint=f"--plugins {name} turns it on, --no-plugin {name} off",
            )


def _in_folder(file: str) -> bool:
    here = os.path.realpath(current_folder())
    return os.path.commonpath((os.path.realpath(file), here)) == here
