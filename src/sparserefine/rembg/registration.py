"""Our sessions under names of their own, where rembg looks for sessions by name."""

from __future__ import annotations

from typing import Any

from sparserefine.dense import from_rembg
from sparserefine.extras import require
from sparserefine.photos.cutout import foreground_model
from sparserefine.rembg.refined_session import SHIPPED, RefinedSession, imported_rembg

NAME = "sparserefine"
# Those take prompts, or find several classes.
REFUSED = frozenset({"sam", "u2net_cloth_seg"})


def register() -> tuple[str, ...]:
    """Add our sessions to those that `rembg.new_session` and rembg's command line find by name.

    "sparserefine" uses the model that comes with this package, "sparserefine-NAME" the session NAME
    of rembg. The command line reads the names when `rembg.cli` is imported: call this before.

    Returns:
        The names.

    Raises:
        ImportError: rembg is not installed.
    """
    imported_rembg()
    sessions = require("rembg.sessions", "rembg")
    local = {
        name: kind
        for name, kind in sessions.sessions.items()
        if kind.is_local() and name not in REFUSED and not issubclass(kind, RefinedSession)
    }
    ours = {
        NAME: _named(NAME, sessions.BaseSession, None),
        **{
            f"{NAME}-{name}": _named(f"{NAME}-{name}", sessions.BaseSession, kind)
            for name, kind in local.items()
            if name != SHIPPED
        },
    }
    for name, kind in ours.items():
        if name not in sessions.sessions:
            sessions.sessions[name] = kind
            sessions.sessions_names.append(name)
            sessions.sessions_class.append(kind)
    return tuple(ours)


def _named(name: str, base: Any, inner: Any) -> type:
    """A class of sessions that rembg makes by name.

    Args:
        name: The name.
        base: rembg's base class, so that its sessions and ours answer to the same questions.
        inner: rembg's class of the session that finds the foreground; None: our own model does.
    """

    class NamedSession(RefinedSession, base):
        def __init__(self, model_name: str, sess_opts: Any, *args: Any, **kwargs: Any) -> None:
            self.model_name = model_name
            if inner is None:
                RefinedSession.__init__(self, foreground_model(SHIPPED))
            else:
                found = inner(inner.name(), sess_opts, *args, **kwargs)
                RefinedSession.__init__(self, from_rembg(found))

        @classmethod
        def download_models(cls, *args: Any, **kwargs: Any) -> str:
            return "" if inner is None else inner.download_models(*args, **kwargs)

        @classmethod
        def name(cls, *args: Any, **kwargs: Any) -> str:
            return name

    return NamedSession
