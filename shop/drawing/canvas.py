"""The painter: turns a scene's layers into pixels, back to front."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from shop.drawing.fabric import DIRECTED, SURFACES, TURNED, dye_cloth, weave_turned
from shop.drawing.geometry import Points, points
from shop.drawing.layers import Button, Line, Piece, Scene
from shop.drawing.shading import COARSE, blur, bounds, enlarge, light, ribs

Plane = NDArray[np.float32]
WIDTH, HEIGHT = 480, 600
# Light that is reflected from the surface does not take the cloth's colour: it is what shows the
# folds of black cloth.
REFLECTED = 30
FINE = 3  # outlines are drawn three times as large and averaged, which smooths their edges


@cache
def studio_light() -> Plane:
    """How bright the paper is, falling off towards the corners."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    away = (x / WIDTH - 0.46) ** 2 + (y / HEIGHT - 0.4) ** 2
    return (1.02 - 0.16 * away).astype(np.float32)


class Canvas:
    """One photo under way: float pixels [HEIGHT, WIDTH, 3]."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        angle = np.deg2rad(scene.turn)
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        self.matrix = np.asarray([[c, s], [-s, c]], dtype=np.float32) * np.float32(scene.scale)
        self.inverse = np.linalg.inv(self.matrix).astype(np.float32)
        self.pivot = np.asarray(scene.pivot, dtype=np.float32)
        self.target = np.asarray(
            [WIDTH / 2 + scene.offset[0], scene.pivot[1] + scene.offset[1]], dtype=np.float32
        )
        self.pixels = self._backdrop()

    def place(self, outline: Points) -> Points:
        """Garment space to pixels."""
        return (outline - self.pivot) @ self.matrix + self.target

    def _backdrop(self) -> NDArray[np.float32]:
        """Studio paper: lit from above, a little darker towards the corners and the floor."""
        glow = studio_light()
        if self.scene.floor is not None:
            floor = self.place(points((0, self.scene.floor)))[0, 1]
            y = np.arange(HEIGHT, dtype=np.float32)[:, None]
            glow = glow - 0.035 * np.clip((y - floor + 60) / 90, 0, 1)
        glow = glow * (1 - enlarge(self._cast_on_backdrop(), (WIDTH, HEIGHT)))
        pixels = np.empty((HEIGHT, WIDTH, 3), dtype=np.float32)
        for channel, value in enumerate(self.scene.backdrop):
            np.multiply(glow, np.float32(value), out=pixels[..., channel])
        return pixels

    def paint(self) -> NDArray[np.uint8]:
        """All layers; the result as bytes [HEIGHT, WIDTH, 3]."""
        for layer in self.scene.layers:
            match layer:
                case Piece():
                    self._piece(layer)
                case Line():
                    self._line(layer)
                case Button():
                    self._button(layer)
        self.pixels += 0.5
        return np.clip(self.pixels, 0, 255, out=self.pixels).astype(np.uint8)

    def _cast_on_backdrop(self) -> Plane:
        """How much of the paper's light everything in the scene takes, on the coarse grid."""
        image = Image.new("L", (WIDTH // COARSE, HEIGHT // COARSE))
        pen = ImageDraw.Draw(image)
        lift = np.asarray([7, 12], dtype=np.float32) * self.scene.scale
        for layer in self.scene.layers:
            if isinstance(layer, Piece):
                outline = self.place(layer.outline)
                pen.polygon(((outline + lift) / COARSE).ravel().tolist(), fill=255)
        cover = np.asarray(image, dtype=np.float32) / 255
        shade = 0.15 * blur(cover, 6) + 0.13 * blur(cover, 2)
        if self.scene.floor is not None:
            shade = shade + self._contact(cover)
        return shade

    def _contact(self, cover: Plane) -> Plane:
        """The dark line where a thing stands on the floor."""
        floor = float(self.place(points((0, self.scene.floor or 0)))[0, 1]) / COARSE
        y = np.arange(cover.shape[0], dtype=np.float32)[:, None]
        near = np.exp(-(((y - floor) / 3.2) ** 2))
        across = np.clip(cover[max(0, int(floor) - 10) :].sum(axis=0) / 4, 0, 1)[None, :]
        return 0.38 * blur((near * across).astype(np.float32), 2)

    def _mask(self, outline: Points, box: tuple[int, int, int, int]) -> Image.Image:
        left, top, right, bottom = box
        image = Image.new("L", ((right - left) * FINE, (bottom - top) * FINE))
        local = (outline - np.asarray([left, top], dtype=np.float32)) * FINE
        ImageDraw.Draw(image).polygon(local.ravel().tolist(), fill=255)
        return image.reduce(FINE)

    def _grid(
        self, box: tuple[int, int, int, int], step: int, angle: float = 0.0
    ) -> tuple[Plane, Plane]:
        """Garment coordinates of a box's pixels, turned by ``angle``."""
        left, top, right, bottom = box
        half = (step - 1) / 2
        x = np.arange(left, right, step, dtype=np.float32) + half - self.target[0]
        y = np.arange(top, bottom, step, dtype=np.float32) + half - self.target[1]
        a = np.deg2rad(angle)
        turn = np.asarray([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]], dtype=np.float32)
        m = self.inverse @ turn
        origin = self.pivot @ turn
        u = x[None, :] * m[0, 0] + y[:, None] * m[1, 0] + origin[0]
        v = x[None, :] * m[0, 1] + y[:, None] * m[1, 1] + origin[1]
        return u, v

    def _piece(self, piece: Piece) -> None:
        outline = self.place(piece.outline)
        box = bounds(outline, 2, (WIDTH, HEIGHT))
        left, top, right, bottom = box
        size = (right - left, bottom - top)
        if size[0] < COARSE or size[1] < COARSE:
            return
        if piece.shadow:
            self._shadow(piece, outline)
        mask = self._mask(outline, box)
        coarse = np.asarray(mask.reduce(COARSE), dtype=np.float32) / 255
        x, y = self._grid(box, COARSE)
        bright, creases = light(piece, coarse, x, y, self.scene.scale)
        tone = enlarge(bright, size)
        surface = (tone - 1) * np.float32(REFLECTED)
        tone = tone * self._weave(piece, box)
        colour = self._dye(piece, box, creases)
        if piece.ribs:
            tone = tone * ribs(piece, self._grid(box, 1, piece.angle)[0])
        if piece.dim:
            tone = tone * np.float32(1 - piece.dim)
        alpha = np.asarray(mask, dtype=np.float32) * np.float32(1 / 255)
        target = self.pixels[top:bottom, left:right]
        tone *= alpha
        surface *= alpha
        target *= (1 - alpha)[..., None]
        for channel in range(3):
            target[..., channel] += colour[..., channel] * tone + surface

    def _weave(self, piece: Piece, box: tuple[int, int, int, int]) -> Plane:
        left, top, right, bottom = box
        zoom = 2 if self.scene.scale > 1.5 else 1
        # Coarse steps, and none where no threads can be seen: every angle is a tile to keep.
        directed = piece.cloth.weave in DIRECTED
        angle = round((piece.angle - self.scene.turn) / 12) * 12 if directed else 0
        tile = weave_turned(piece.cloth.weave, angle, zoom)
        x = (piece.seed * 13) % (TURNED[1] - WIDTH)
        y = (piece.seed * 29) % (TURNED[0] - HEIGHT)
        return 1 + SURFACES[piece.cloth.weave][0] * tile[y : y + bottom - top, x : x + right - left]

    def _dye(
        self, piece: Piece, box: tuple[int, int, int, int], creases: Plane
    ) -> NDArray[np.float32]:
        cloth = piece.cloth
        left, top, right, bottom = box
        if cloth.pattern == "plain":
            return np.asarray(cloth.rgb, dtype=np.float32).reshape(1, 1, 3)
        if cloth.pattern == "colour-block":
            u, v = self._grid(box, 1)
            return dye_cloth(cloth, u, v)
        u, v = self._grid(box, 1, piece.angle)
        # Creases pull the printed pattern with them.
        pull = enlarge(creases, (right - left, bottom - top))
        return dye_cloth(cloth, u + 0.25 * pull, v + 0.45 * pull)

    def _shadow(self, piece: Piece, outline: Points) -> None:
        reach = piece.shadow_reach * self.scene.scale
        box = bounds(outline, reach * 3, (WIDTH, HEIGHT))
        left, top, right, bottom = box
        image = Image.new("L", ((right - left) // COARSE, (bottom - top) // COARSE))
        if not all(image.size):
            return
        corner = np.asarray([left - reach * 0.25, top - reach * 0.45], dtype=np.float32)
        ImageDraw.Draw(image).polygon(((outline - corner) / COARSE).ravel().tolist(), fill=255)
        soft = image.filter(ImageFilter.GaussianBlur(max(1.0, reach / COARSE)))
        full = soft.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        kept = np.asarray(full, dtype=np.float32) * np.float32(-piece.shadow / 255)
        kept += 1
        self.pixels[top:bottom, left:right] *= kept[..., None]

    def _line(self, line: Line) -> None:
        track = self.place(line.track)
        width = line.width * self.scene.scale
        box = bounds(track, width + 2, (WIDTH, HEIGHT))
        left, top, right, bottom = box
        if right - left < 1 or bottom - top < 1:
            return
        image = Image.new("L", ((right - left) * FINE, (bottom - top) * FINE))
        pen = ImageDraw.Draw(image)
        local = (track - np.asarray([left, top], dtype=np.float32)) * FINE
        for piece in dashes(local, line.dash * self.scene.scale * FINE):
            pen.line(
                piece.ravel().tolist(), fill=255, width=max(1, round(width * FINE)), joint="curve"
            )
        alpha = np.asarray(image.reduce(FINE), dtype=np.float32)[..., None]
        target = self.pixels[top:bottom, left:right]
        target += alpha * (line.opacity / 255) * (np.asarray(line.rgb, np.float32) - target)

    def _button(self, button: Button) -> None:
        centre = self.place(points(button.centre))[0]
        radius = button.radius * self.scene.scale
        left, top = (int(v - radius - 3) for v in centre)
        side = int(2 * radius + 8)
        if left < 0 or top < 0 or left + side > WIDTH or top + side > HEIGHT:
            return
        y, x = np.mgrid[0:side, 0:side].astype(np.float32)
        dx, dy = x + left - centre[0], y + top - centre[1]
        distance = np.hypot(dx, dy)
        view = self.pixels[top : top + side, left : left + side]
        cast = np.clip(radius + 1.5 - np.hypot(dx - 0.8, dy - 1.2), 0, 1.5) / 1.5
        view *= 1 - 0.35 * cast[..., None]
        alpha = np.clip(radius - distance + 0.5, 0, 1)[..., None]
        facing = -(dx + dy) / max(radius, 1)
        rim = np.clip(1 - np.abs(distance - radius * 0.8) / (radius * 0.25), 0, 1)
        tone = 1 + (0.22 if button.metal else 0.10) * facing * (0.4 + rim)
        face = np.asarray(button.rgb, dtype=np.float32) * tone[..., None]
        if not button.metal and radius > 2.4:
            holes = np.zeros_like(distance)
            for hx, hy in ((-0.28, -0.28), (0.28, -0.28), (-0.28, 0.28), (0.28, 0.28)):
                holes += np.clip(0.9 - np.hypot(dx - hx * radius, dy - hy * radius), 0, 0.9)
            face = face * (1 - 0.55 * np.clip(holes, 0, 1))[..., None]
        view += alpha * (np.clip(face, 0, 255) - view)


def dashes(track: Points, dash: float) -> list[Points]:
    """A track cut into stitches, three parts thread and two parts gap."""
    if dash <= 0:
        return [track]
    steps = np.hypot(*np.diff(track, axis=0).T)
    along = np.concatenate([[0], np.cumsum(steps)])
    starts = np.arange(0, along[-1], dash)
    where = np.stack([starts, np.minimum(starts + 0.6 * dash, along[-1])], axis=1)
    x = np.interp(where, along, track[:, 0])
    y = np.interp(where, along, track[:, 1])
    return list(np.stack([x, y], axis=2))
