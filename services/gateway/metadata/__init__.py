"""Takes everything out of an image file but the picture, without changing a pixel.

What survives is what decides how the picture looks: the coded pixels, the orientation, and of a wide-gamut colour
profile the numbers of its transformation. So the network sees the same through HTTP as from the file itself, and
nothing tells who took the photograph, where, when and with what.
"""

from services.gateway.metadata.jpeg import is_plain_jpeg
from services.gateway.metadata.strip import without_metadata

__all__ = ["is_plain_jpeg", "without_metadata"]
