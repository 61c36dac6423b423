"""A cell for decoders: hostile bytes are read in a process that has little memory, little time and nothing to steal.

`Cell` starts one small process that has loaded the decoders and waits. For every file it forks: the fork may use so
much memory and processor time and no more, writes no file, knows no address and no password, and ends with its file.
So a decoder that crashes, swells or never returns costs one photograph its answer, and nobody else anything; and one
that was taken over by a photograph meets no second one.
"""

from services.preprocessor.cell.cell import Cell, CellAnswer, CellDeath, CellTimeoutError

__all__ = ["Cell", "CellAnswer", "CellDeath", "CellTimeoutError"]
