"""From a folder of images and some kind of masks to a configuration, each value with the evidence for it."""

from segzoo.propose.annotated import look_at_names
from segzoo.propose.look import Evidence, look
from segzoo.propose.write import propose

__all__ = ["Evidence", "look", "look_at_names", "propose"]
