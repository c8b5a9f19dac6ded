"""From a folder of images and some kind of masks to a configuration, each value with the evidence for it."""

from segzoo.propose.annotated import look_at_names
from segzoo.propose.evidence import Evidence
from segzoo.propose.look import look
from segzoo.propose.trial import try_out
from segzoo.propose.write import class_names, propose, save

__all__ = ["Evidence", "class_names", "look", "look_at_names", "propose", "save", "try_out"]
