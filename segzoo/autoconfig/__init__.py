"""Automatic configuration: derives a configuration from the files of a data set, with the evidence for each value."""

from segzoo.autoconfig.annotated import look_at_names
from segzoo.autoconfig.evidence import Evidence
from segzoo.autoconfig.look import look
from segzoo.autoconfig.trial import try_out
from segzoo.autoconfig.write import class_names, propose, save

__all__ = ["Evidence", "class_names", "look", "look_at_names", "propose", "save", "try_out"]
