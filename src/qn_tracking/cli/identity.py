"""Who sits here, as git knows them."""

from __future__ import annotations

import os


def git_user(folder: str = ".") -> str:
    """`user.name` of git: of the repository around a folder, or of this user; empty if unknown.

    The configuration is read as text, and nothing that it names is run.
    """
    # Without it GitPython fails at its import where git is not installed.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import git

    home = os.environ.get("GIT_CONFIG_GLOBAL") or os.path.expanduser("~/.gitconfig")
    files = [home]
    try:
        with git.Repo(folder, search_parent_directories=True) as repository:
            files.insert(0, os.path.join(repository.common_dir, "config"))
    except (git.InvalidGitRepositoryError, git.NoSuchPathError, ValueError, OSError):
        pass
    for file in files:
        try:
            with git.GitConfigParser(file, read_only=True) as reader:
                name = str(reader.get_value("user", "name", default="")).strip()
        except Exception:  # its parser raises what it likes for a file that is broken
            name = ""
        if name:
            return name
    return ""
