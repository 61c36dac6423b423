"""One page for a doctor, as PDF."""

from __future__ import annotations

import io

from PIL import Image
from reportlab.lib.colors import Color, HexColor  # type: ignore[import-untyped]
from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped]
from reportlab.lib.styles import ParagraphStyle  # type: ignore[import-untyped]
from reportlab.lib.units import mm  # type: ignore[import-untyped]
from reportlab.lib.utils import ImageReader  # type: ignore[import-untyped]
from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped]
from reportlab.platypus import Paragraph  # type: ignore[import-untyped]

from services.analysis.record import Analysis
from services.analysis.results import Band, Result
from services.analysis.telemetry import log_id
from services.gateway.attention import attention_overlay, frame_in
from services.gateway.confined import centre_square_confined
from services.gateway.guidance import is_malignant, ranked
from services.gateway.report_words import ReportWords, english_words
from services.preprocessor.imaging.outcomes import Frame

#: Side in pixels of the pictures in the report: 80 mm at 180 dots an inch.
PICTURE_SIDE_PX = 560
_JPEG_QUALITY = 88

_MARGIN = 18 * mm
_PICTURE = 80 * mm
_INK = HexColor("#1b1f24")
_PALE = HexColor("#5b6470")
_RULE = HexColor("#c9ced6")
_BAND_COLOURS: dict[Band, Color] = {
    # Not green, which would say that all is well.
    Band.LOW: HexColor("#24588a"),
    Band.UNSURE: HexColor("#8a5a00"),
    Band.HIGH: HexColor("#a3262a"),
}
_TEXT = ParagraphStyle("text", fontName="Helvetica", fontSize=9, leading=12, textColor=_INK)
_SMALL = ParagraphStyle("small", fontName="Helvetica", fontSize=8, leading=10.5, textColor=_PALE)


def report_pdf(analysis: Analysis, result: Result, photograph: bytes | None, words: ReportWords | None = None) -> bytes:
    """The report, A4. `photograph` is the stored file; None when it is no longer there. `words`: English by default."""
    said = words or english_words(analysis, result)
    pdf = io.BytesIO()
    canvas = Canvas(pdf, pagesize=A4, pageCompression=1, invariant=1, lang=said.language)
    canvas.setTitle("LesionLens")
    canvas.setAuthor("LesionLens")
    canvas.setSubject(said.subject)
    page = _Page(canvas, said)
    page.heading(analysis, result)
    page.pictures(result, photograph, frame_in(analysis.preparation))
    page.opinions(result)
    page.guidance()
    canvas.showPage()
    canvas.save()
    return pdf.getvalue()


class _Page:
    """Writes from the top down; `self._y` is where the next thing begins, in points from the bottom."""

    def __init__(self, canvas: Canvas, words: ReportWords) -> None:
        self._canvas = canvas
        self._words = words
        self._width, height = A4
        self._y = height - _MARGIN

    def heading(self, analysis: Analysis, result: Result) -> None:
        words = self._words
        self._line(words.title, size=15, bold=True, drop=18)
        # A report is passed on: the whole id would be the permission to read and delete the analysis.
        self._line(
            f"{words.received}    {words.models} {result.model_version}    {words.analysis} {log_id(analysis.id)}…",
            size=8,
            drop=14,
        )
        self._rule()
        self._line(words.band, size=18, bold=True, colour=_BAND_COLOURS[result.band], drop=22, before=12)
        self._line(f"{words.probability}: {words.percent(result.probability)}", size=11, bold=True, drop=14)
        self._line(words.meaning, size=8, colour=_PALE, drop=12)
        if words.of_age:
            self._line(words.of_age, size=8, colour=_PALE, drop=12)

    def pictures(self, result: Result, photograph: bytes | None, frame: Frame) -> None:
        square = None if photograph is None else _centre_square(photograph)
        self._y -= _PICTURE
        if square is None:
            self._canvas.setStrokeColor(_RULE)
            self._canvas.rect(_MARGIN, self._y, _PICTURE, _PICTURE)
            self._text(_MARGIN + 6, self._y + _PICTURE / 2, self._words.photograph_gone, 9)
        else:
            self._picture(square, _MARGIN)
        overlay = attention_overlay(result.attention, PICTURE_SIDE_PX, frame)
        under = square or Image.new("RGB", overlay.size, (230, 232, 236))
        looked = under.convert("RGBA")
        looked.alpha_composite(overlay)
        self._picture(looked.convert("RGB"), _MARGIN + _PICTURE + 8 * mm)
        self._text(_MARGIN, self._y - 10, self._words.photograph_caption, 8, _PALE)
        self._text(_MARGIN + _PICTURE + 8 * mm, self._y - 10, self._words.attention_caption, 8, _PALE)
        self._y -= 34

    def opinions(self, result: Result) -> None:
        left, right = _MARGIN, _MARGIN + 82 * mm
        top = self._y
        self._table(
            left,
            self._words.networks,
            [(f"{opinion.name} v{opinion.version}", opinion.probability) for opinion in result.networks],
            width=70 * mm,
        )
        lowest, self._y = self._y, top
        self._table(
            right,
            self._words.diagnoses,
            [
                (f"{self._words.class_names[name]}{' *' if is_malignant(name) else ''}", probability)
                for name, probability in ranked(result.classes)
            ],
            width=self._width - _MARGIN - right,
        )
        self._y = min(lowest, self._y)
        self._text(right, self._y, self._words.malignant, 7, _PALE)
        self._y -= 10

    def guidance(self) -> None:
        words = self._words
        self._rule()
        self._paragraph(f"<b>{words.headline}.</b>", _TEXT, before=4)
        for step in words.steps:
            self._paragraph(f"• {step}", _TEXT)
        if words.concerns:
            self._paragraph(f"<b>{words.photograph}:</b> {' '.join(words.concerns)}", _TEXT, before=4)
        self._paragraph(f"<b>{words.disclaimer}</b>", _SMALL, before=6)

    def _table(self, x: float, title: str, rows: list[tuple[str, float]], width: float) -> None:
        self._text(x, self._y, title, 9, bold=True)
        self._y -= 13
        for name, probability in rows:
            self._text(x, self._y, name, 8.5)
            self._canvas.setFont("Helvetica", 8.5)
            self._canvas.drawRightString(x + width, self._y, self._words.percent(probability))
            self._y -= 12

    def _picture(self, picture: Image.Image, x: float) -> None:
        jpeg = io.BytesIO()
        picture.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
        jpeg.seek(0)
        self._canvas.drawImage(ImageReader(jpeg), x, self._y, _PICTURE, _PICTURE)

    def _paragraph(self, text: str, style: ParagraphStyle, before: float = 2) -> None:
        paragraph = Paragraph(text, style)
        _, height = paragraph.wrap(self._width - 2 * _MARGIN, self._y)
        self._y -= height + before
        paragraph.drawOn(self._canvas, _MARGIN, self._y)

    def _line(
        self,
        text: str,
        *,
        size: float,
        drop: float,
        bold: bool = False,
        colour: Color = _INK,
        before: float = 0,
    ) -> None:
        self._y -= before
        self._text(_MARGIN, self._y, text, size, colour, bold=bold)
        self._y -= drop

    def _text(self, x: float, y: float, text: str, size: float, colour: Color = _INK, *, bold: bool = False) -> None:
        self._canvas.setFillColor(colour)
        self._canvas.setFont("Helvetica-Bold" if bold else "Helvetica", size)
        self._canvas.drawString(x, y, text)

    def _rule(self) -> None:
        self._canvas.setStrokeColor(_RULE)
        self._canvas.line(_MARGIN, self._y, self._width - _MARGIN, self._y)
        self._y -= 6


def _centre_square(photograph: bytes) -> Image.Image | None:
    """What the networks were shown, and at times the dark around it, before correction, in the report's resolution."""
    return centre_square_confined(photograph, PICTURE_SIDE_PX)
