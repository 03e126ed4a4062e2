"""What a garment is made of for the painter: pieces of cloth, lines on them, and folds in them."""

from __future__ import annotations

from dataclasses import dataclass, field

from shop.drawing.geometry import XY, Points
from shop.drawing.palette import RGB


@dataclass(frozen=True, kw_only=True)
class Cloth:
    """What a piece is cut from."""

    rgb: RGB
    accent: RGB = (255, 255, 255)
    pattern: str = "plain"
    weave: str = "poplin"
    # Pattern repeat in pixels, and a number that picks among the looks of one pattern.
    repeat: float = 26.0
    look: int = 0
    # From here down (garment y) a colour-blocked piece is in the accent colour.
    block_y: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One crease: a soft ridge from one point to another."""

    start: XY
    end: XY
    width: float = 9.0
    strength: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Drape:
    """Regular folds that fall and widen from the top of a piece to its hem."""

    count: float
    strength: float
    phase: float = 0.0
    top: float = 0.0
    bottom: float = 600.0
    # Half widths of the piece at top and bottom: the folds fan out between them.
    top_half: float = 60.0
    bottom_half: float = 120.0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A closed outline of one cloth, shaded as if filled."""

    outline: Points
    cloth: Cloth
    angle: float = 0.0  # of the weave and pattern, degrees
    puff: float = 22.0  # how far from its edge the piece still bends, pixels
    relief: float = 1.0  # how strong the bending is lit
    wrinkle: float = 1.0  # strength of irregular creases
    folds: tuple[Fold, ...] = ()
    drape: Drape | None = None
    ribs: float = 0.0  # width of knitted ribs, 0 for none
    shadow: float = 0.35  # what the piece casts on those below it
    shadow_reach: float = 7.0
    dim: float = 0.0  # darkening, for insides
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """A seam, a stitched line or a cord."""

    track: Points
    rgb: RGB
    width: float = 1.2
    opacity: float = 0.5
    dash: float = 0.0  # length of a stitch in pixels, 0 for an unbroken line


@dataclass(frozen=True, kw_only=True)
class Button:
    """A round button or rivet."""

    centre: XY
    radius: float
    rgb: RGB
    metal: bool = False


Layer = Piece | Line | Button


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything in one photo, back to front."""

    layers: tuple[Layer, ...] = field(default=())
    backdrop: RGB = (240, 239, 236)
    scale: float = 1.0
    turn: float = 0.0  # degrees
    offset: XY = (0.0, 0.0)
    pivot: XY = (0.0, 300.0)
    floor: float | None = None  # y where the ground begins for things that stand
    seed: int = 0
