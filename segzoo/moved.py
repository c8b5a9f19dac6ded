"""Deprecated module names: importing one warns, and returns the module under its new name."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from collections.abc import Sequence

# Old name to new name. What lies below a package moves with it, unless it is listed itself.
MOVED = {
    "segzoo.backbones.adapter": "segzoo.backbones.surgery",
    "segzoo.binary": "segzoo.task",
    "segzoo.backbones.contract": "segzoo.backbones.spec",
    "segzoo.convert": "segzoo.workflows.conversion",
    "segzoo.inference.data_report": "segzoo.reporting.data_quality",
    "segzoo.inference.page": "segzoo.reporting.page",
    "segzoo.inference.pictures": "segzoo.reporting.pictures",
    "segzoo.inference.report": "segzoo.reporting.evaluation",
    "segzoo.decoders.climbing": "segzoo.decoders.upsampling",
    "segzoo.model": "segzoo.models.build",
    "segzoo.propose": "segzoo.autoconfig",
    "segzoo.remat": "segzoo.models.remat",
    "segzoo.training": "segzoo.engine",
    "segzoo.training.assemble": "segzoo.engine.builders",
    "segzoo.training.averages": "segzoo.engine.callbacks.ema",
    "segzoo.training.curves": "segzoo.reporting.curves",
    "segzoo.training.feed": "segzoo.engine.fit_dataset",
    "segzoo.training.finder": "segzoo.engine.lr_finder",
    "segzoo.training.generations": "segzoo.engine.checkpoint.checkpoint_file",
    "segzoo.training.loop": "segzoo.engine.trainer",
    "segzoo.training.origin": "segzoo.engine.checkpoint.provenance",
    "segzoo.training.outputs": "segzoo.engine.artifacts",
    "segzoo.training.parts": "segzoo.optim.param_groups",
    "segzoo.training.progress": "segzoo.engine.checkpoint.progress",
    "segzoo.training.run": "segzoo.engine.checkpoint.run",
    "segzoo.training.plateau": "segzoo.optim.plateau",
    "segzoo.training.schedules": "segzoo.optim.schedules",
    "segzoo.training.clipping": "segzoo.optim.clipping",
    "segzoo.training.optimizers": "segzoo.optim.optimizers",
    "segzoo.training.screen": "segzoo.engine.callbacks.progress_display",
    "segzoo.training.stages": "segzoo.engine.callbacks.stages",
    "segzoo.training.state": "segzoo.engine.checkpoint.state",
}


def new_name(name: str) -> str | None:
    """Return the present name of a module, or None if its name is not deprecated."""
    if name in MOVED:
        return MOVED[name]
    package, _, module = name.rpartition(".")
    now = new_name(package) if package else None
    return None if now is None else f"{now}.{module}"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finder and loader of modules by their deprecated names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a specification where the name is an old one and its module exists under the new one."""
        now = new_name(name)
        if now is None or importlib.util.find_spec(now) is None:
            return None
        return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return the module under its new name, with a warning."""
        now = str(new_name(spec.name))
        warnings.warn(
            f"{spec.name} is {now} now; the old name goes with the next release.", DeprecationWarning, stacklevel=2
        )
        module = importlib.import_module(now)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Leave the module, which has run, with its own specification."""
        spec = module.__spec__
        if spec is not None and spec.loader_state is not None:
            module.__spec__ = spec.loader_state


def keep_old_names() -> None:
    """Enable the import of modules by their deprecated names."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
